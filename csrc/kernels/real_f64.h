/* float64: exponentials and sums in two doubles (some 106 bits), results rounded once. */
#define REAL         double
#define DTYPE        f64
#define REAL_MIN     0x1p-1022
#define REAL_INF     INFINITY
#define REAL_FMA     fma
#define LOW_LANES    XENT_LANES
#define LOW_LANE(l)  (l)
#define MIN_EXPONENT (-1022)

#define PLAIN_LOW  (-640.0)
#define PLAIN_HIGH 600.0
#define GUARD      940
#define DEEP       1350.0
#define DROPPED    0x1p-1000
#define SHARP      0x1p-40

XENT_INLINE wide exp_wide_f64(double x, double offset) {
    return exp_f64(x, offset);
}

/* hi[lane] + lo[lane] += e^x 2^offset; the term as it is stored. */
XENT_INLINE double add_exp_f64(double x, double offset, int counts, double *hi, double *lo) {
    wide e = exp_f64(x, offset);
    wide s = two_sum(*hi, counts ? e.hi : 0.0);
    *hi = s.hi;
    *lo += s.lo + (counts ? e.lo : 0.0);
    return e.hi;
}

/* A lane's sum without one term. */
XENT_INLINE wide without_f64(double hi, double lo, double term_hi, double term_lo) {
    return wide_sub((wide){hi, lo}, (wide){term_hi, term_lo});
}

/* One step of a fold, and what the last one leaves. */
XENT_INLINE void fold_one_f64(double *hi, double *lo, double other_hi, double other_lo) {
    wide s = two_sum(*hi, other_hi);
    *hi = s.hi;
    *lo += other_lo + s.lo;
}
XENT_INLINE wide folded_f64(double hi, double lo) {
    return fast_two_sum(hi, lo);
}

/* Arithmetic on sums and factors of a row. */
XENT_INLINE wide add_f64(wide a, wide b) {
    return wide_add(a, b);
}
XENT_INLINE wide sub_f64(wide a, wide b) {
    return wide_sub(a, b);
}
XENT_INLINE wide mul_f64(wide a, wide b) {
    return wide_mul(a, b);
}
XENT_INLINE wide div_f64(wide a, wide b) {
    return wide_div(a, b);
}
