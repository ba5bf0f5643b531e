/* float32: exponentials and sums in double, results rounded once. Included before each re-inclusion of a kernel. */
#define REAL         float
#define DTYPE        f32
#define REAL_MIN     0x1p-126
#define REAL_INF     ((float)INFINITY)
#define REAL_FMA     fmaf
#define LOW_LANES    1 /* a lane's sum is one double; low parts are 0 */
#define LOW_LANE(l)  0
#define MIN_EXPONENT (-126)

/* Plain range: a block whose logits all lie in it is summed as e^x, stored as e^x. The lower end leaves room for the
 * low part of a product with a stored term, 2^-43 of it, above the smallest normal number. */
#define PLAIN_LOW  (-57.0f)
#define PLAIN_HIGH 60.0f
/* Otherwise e^x 2^(GUARD - N): N = round(max log2 e) of the block; logits more than DEEP below the maximum count as
 * that far below it, and what is stored under DROPPED is 0: less than 2^-245 of the block's largest. */
#define GUARD   120
#define DEEP    500.0f
#define DROPPED 0x1p-125
/* A rest of the lane that held the maximum is summed anew when the block's rest is less than this share. */
#define SHARP 0x1p-16

XENT_INLINE wide exp_wide_f32(float x, double offset) {
    return (wide){exp_f32((double)x, offset), 0.0};
}

/* hi[lane] += e^x 2^offset; the term as it is stored. */
XENT_INLINE float add_exp_f32(float x, double offset, int counts, double *hi, double *lo) {
    double e = exp_f32((double)x, offset);
    *hi += counts ? e : 0.0;
    (void)lo;
    return (float)e;
}

/* A lane's sum without one term. */
XENT_INLINE wide without_f32(double hi, double lo, double term_hi, double term_lo) {
    (void)lo, (void)term_lo;
    return (wide){hi - term_hi, 0.0};
}

/* One step of a fold, and what the last one leaves. */
XENT_INLINE void fold_one_f32(double *hi, double *lo, double other_hi, double other_lo) {
    (void)lo, (void)other_lo;
    *hi += other_hi;
}
XENT_INLINE wide folded_f32(double hi, double lo) {
    (void)lo;
    return (wide){hi, 0.0};
}

/* Arithmetic on sums and factors of a row: a double has bits to spare here. */
XENT_INLINE wide add_f32(wide a, wide b) {
    return (wide){a.hi + b.hi, 0.0};
}
XENT_INLINE wide sub_f32(wide a, wide b) {
    return (wide){a.hi - b.hi, 0.0};
}
XENT_INLINE wide mul_f32(wide a, wide b) {
    return (wide){a.hi * b.hi, 0.0};
}
XENT_INLINE wide div_f32(wide a, wide b) {
    return (wide){a.hi / b.hi, 0.0};
}
