/* float64: exponentials and sums in two doubles (some 100 bits), results rounded once. */
#define REAL         double
#define DTYPE        f64
#define REAL_MIN     0x1p-1022
#define REAL_INF     INFINITY
#define REAL_FMA     fma
#define MIN_EXPONENT (-1022)

/* As for float32. */
#define GUARD        64
#define GUARD_DEEP   940
#define DEPTH(guard) (((guard) + 1021) * 0.6931471805599453)
#define DROPPED      0x1p-1020
#define SHARP        0x1p-30
#define LOOK_GUARD   940
#define LOOK_DEPTH   1350.0

XENT_INLINE wide exp_wide_f64(double x, double offset) {
    return exp_f64(x, offset);
}

/* hi + lo += e^x 2^offset, hi never smaller than a term (Dekker); the term as it is stored. One that does not count is
 * 0 before it is scaled: its low part would be subnormal, which takes a processor long. */
XENT_INLINE double add_exp_f64(double x, double rounder, int counts, double *hi, double *lo) {
    wide e = exp_or_none_f64(x, rounder, !counts);
    double sum = *hi + e.hi;
    *lo += ((*hi - sum) + e.hi) + e.lo;
    *hi = sum;
    return e.hi;
}

/* The term that add_exp added. */
XENT_INLINE wide added_f64(double x, double rounder) {
    return exp_at_f64(x, rounder);
}

/* One step of a fold: (hi, lo) += (other_hi, other_lo); and what the last one leaves. */
XENT_INLINE void fold_one_f64(double *hi, double *lo, double other_hi, double other_lo) {
    wide s = two_sum(*hi, other_hi);
    *hi = s.hi;
    *lo += other_lo + s.lo;
}
XENT_INLINE wide folded_f64(double hi, double lo) {
    return two_sum(hi, lo);
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
