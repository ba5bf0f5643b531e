/* float32: exponentials in float32, sums of two parts; what is needed once a row in double.
 * Included before each re-inclusion of a kernel. */
#define REAL         float
#define DTYPE        f32
#define REAL_MIN     0x1p-126
#define REAL_INF     ((float)INFINITY)
#define REAL_FMA     fmaf
#define MIN_EXPONENT (-126)

/* Terms are stored as e^x 2^(guard - N), N = round(max log2 e) of their block: between 2^(guard - 0.5) and down.
 * The guard leaves room below for 2^34 terms whose sum is the smallest normal number, and above for the lanes of a
 * block; the deep one is for gradients counted many times (make_room), up to some 2^84. */
#define GUARD      36
#define GUARD_DEEP 120
/* What is stored under DROPPED is 0, and is all that a logit DEPTH(guard) below the maximum leaves. */
#define DEPTH(guard) (((guard) + 125) * 0.6931471805599453)
#define DROPPED      0x1p-124
/* The rest of a block is its sum less its largest term where this share is left, else summed anew. */
#define SHARP 0x1p-6

/* The range of e^x 2^offset, in double, for a second look at a row's logits. */
#define LOOK_GUARD 120
#define LOOK_DEPTH 500.0

XENT_INLINE wide exp_wide_f32(double x, double offset) {
    return (wide){exp_f32(x, offset), 0.0};
}

/* hi + lo += e^x 2^offset, hi never smaller than a term (Dekker); the term as it is stored. Where it does not count, 0 is
 * added. */
XENT_INLINE float add_exp_f32(float x, float rounder, int counts, float *hi, float *lo) {
    float e = exp_at_f32(x, rounder);
    if (!counts) e = 0.0f;
    float sum = *hi + e;
    *lo += (*hi - sum) + e;
    *hi = sum;
    return e;
}

/* The term that add_exp added. */
XENT_INLINE wide added_f32(float x, float rounder) {
    return (wide){(double)exp_at_f32(x, rounder), 0.0};
}

/* One step of a fold: (hi, lo) += (other_hi, other_lo); and what the last one leaves. The high parts of the lanes are
 * floats of about one size, whose sum in double is exact. */
XENT_INLINE void fold_one_f32(double *hi, float *lo, double other_hi, float other_lo) {
    *hi += other_hi;
    *lo += other_lo;
}
XENT_INLINE wide folded_f32(double hi, float lo) {
    return (wide){hi + (double)lo, 0.0};
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
