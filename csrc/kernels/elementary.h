/* Our own exp and log1p: straight lines of fma, multiply and add, so every tier and compiler gives the same bits.
 *
 * exp:  e^x = 2^n m,  n = round(x log2 e), found by adding a large constant (the sum's low bits hold the integer n).
 *       n may carry an offset, so that e^x 2^k costs no more than e^x.
 *       float32, for sums and terms: in float32, with ln 2 in two parts. For numbers needed once a row: in double,
 *       f = x log2 e - n, m = 2^f by a polynomial of degree 6 that is 2^-28.9 off at most.
 *       float64 reduces with ln 2 in two parts and gives m as hi + lo, 2^-57.9 off at most: 0.54 ulp in hi alone.
 * log:  u = 2^k m, sqrt(1/2) <= m < sqrt(2); log m by the series of atanh(f/(2+f)), f = m - 1, as FDLIBM's
 *       log1p does; u comes in two parts so that 1 + s loses nothing of a small s. Under 1 ulp of float64.
 * Minimax coefficients by tools/minimax.py.
 */
#ifndef XENT_ELEMENTARY_H
#define XENT_ELEMENTARY_H

#include "lanes.h"

static const double LOG2E = 0x1.71547652b82fep+0;
static const double LN2_HI = 0x1.62e42fefa39efp-1, LN2_LO = 0x1.abc9e3b39803fp-56;

/* 1.5 2^52 + k: adding it rounds to an integer and leaves that integer + k in the low bits. */
static const double ROUNDER = 0x1.8p52;

typedef struct {
    double hi, lo;
} wide; /* hi + lo, |lo| <= ulp(hi)/2: some 106 bits */

XENT_INLINE wide two_sum(double a, double b) { /* a + b, exactly (Knuth) */
    double s = a + b, bb = s - a;
    return (wide){s, (a - (s - bb)) + (b - bb)};
}

XENT_INLINE wide fast_two_sum(double a, double b) { /* a + b, exactly, for |a| >= |b| (Dekker) */
    double s = a + b;
    return (wide){s, b - (s - a)};
}

XENT_INLINE wide wide_add(wide a, wide b) {
    wide s = two_sum(a.hi, b.hi);
    return fast_two_sum(s.hi, s.lo + (a.lo + b.lo));
}

XENT_INLINE wide wide_sub(wide a, wide b) {
    return wide_add(a, (wide){-b.hi, -b.lo});
}

XENT_INLINE wide wide_mul(wide a, wide b) {
    double p = a.hi * b.hi;
    return fast_two_sum(p, fma(a.hi, b.hi, -p) + fma(a.hi, b.lo, a.lo * b.hi));
}

XENT_INLINE wide wide_div(wide a, wide b) {
    double q = a.hi / b.hi;
    double r = fma(-q, b.hi, a.hi) + fma(-q, b.lo, a.lo);
    return fast_two_sum(q, r / b.hi);
}

/* hi + lo += x, with what the addition loses kept in lo; an infinite sum stays infinite. */
XENT_INLINE void add_kept(double *hi, double *lo, double x) {
    wide s = two_sum(*hi, x);
    *hi = s.hi, *lo += s.lo - s.lo == 0.0 ? s.lo : 0.0;
}

/* Lanes of two parts folded in halves, of n numbers those that got one. */
static inline wide wide_fold(double *hi, double *lo, ptrdiff_t n) {
#define SUMS(half)                                                                         \
    for (int l = 0; l < half && half < n; l++) {                                           \
        const wide s = wide_add((wide){hi[l], lo[l]}, (wide){hi[l + half], lo[l + half]}); \
        hi[l] = s.hi, lo[l] = s.lo;                                                        \
    }
    XENT_FOLD(SUMS)
#undef SUMS
    return (wide){hi[0], lo[0]};
}

XENT_INLINE wide wide_scale(wide a, double n) { /* a 2^n */
    return (wide){scale_by(a.hi, n), scale_by(a.lo, n)};
}

/* e^x 2^offset for float32 x, unrounded; -700 < x - offset ln 2 < 700.
 * The exponent is added in the integer domain, one operation fewer than a product. A NaN survives it: widened from
 * float32, its low 29 bits are 0, so nothing is added to its exponent. */
XENT_INLINE double exp_f32(double x, double offset) {
    const double rounder = ROUNDER + offset;
    double t = fma(x, LOG2E, rounder);        /* n + offset in the low bits */
    double f = fma(x, LOG2E, -(t - rounder)); /* x log2 e - n, |f| <= 1/2 */
    double p = 0x1.41fbba2bf3146p-13;         /* 2^f */
    p = fma(p, f, 0x1.5f3e53bdfa586p-10);
    p = fma(p, f, 0x1.3b2d4cf6b4d3fp-7);
    p = fma(p, f, 0x1.c6aee88c9059ep-5);
    p = fma(p, f, 0x1.ebfbdc3c24e19p-3);
    p = fma(p, f, 0x1.62e430af29194p-1);
    p = fma(p, f, 1.0);
    return from_bits(bits_of(p) + (bits_of(t) << 52));
}

/* The same for float32 x in float32 arithmetic, rounded: 0.88 ulp at most, off by 1.3 2^-24 of itself.
 * rounder = rounder_f32(offset); x log2 e + offset between -126 and 127, |x| <= 65,536. A NaN stays one, whatever 2^n it
 * is multiplied by; an addition in the integer domain in place of that product would lose some, and won nothing. */
static const float LOG2E_F = 0x1.715476p+0f, LN2_HI_F = 0x1.62e43p-1f, LN2_LO_F = -0x1.05c61p-29f;

XENT_INLINE float rounder_f32(double offset) { /* 1.5 2^23 + the exponent's bias + offset, an integer */
    return (float)(0x1.8p23 + 127.0 + offset);
}

XENT_INLINE float exp_at_f32(float x, float rounder) {
    float t = fmaf(x, LOG2E_F, rounder); /* n + offset + 127 in the low bits */
    float n = t - rounder;
    float f = fmaf(-n, LN2_LO_F, fmaf(-n, LN2_HI_F, x)); /* the inner one is exact: a multiple of 2^-25 below 1/2 */
    float q = 0x1.6a513p-10f;                            /* (e^f - 1 - f) / f^2 */
    q = fmaf(q, f, 0x1.12397ap-7f);
    q = fmaf(q, f, 0x1.5558acp-5f);
    q = fmaf(q, f, 0x1.555492p-3f);
    q = fmaf(q, f, 0x1.fffffcp-2f);
    q = fmaf(q, f, 1.0f);
    q = fmaf(q, f, 1.0f);
    return q * from_word(word_of(t) << 23);
}

/* 1.5 2^52 + the exponent's bias + offset. */
XENT_INLINE double rounder_f64(double offset) {
    return ROUNDER + (offset + 1023.0);
}

/* e^x 2^offset as hi + lo, rounder = rounder_f64(offset); x + offset ln 2 within +-708. */
XENT_INLINE wide exp_or_none_f64(double x, double rounder, int none) {
    double t = fma(x, LOG2E, rounder);
    double n = t - rounder;
    double scale = zero_if(none, from_bits(bits_of(t) << 52)); /* 2^(n + offset) */
    double r1 = fma(-n, LN2_HI, x);                            /* exact */
    double r = fma(-n, LN2_LO, r1);
    double c = fma(-n, LN2_LO, r1 - r); /* what r lost: x - n ln 2 = r + c */
    double q = 0x1.ad7f7d1e71586p-26;   /* (e^r - 1 - r) / r^2 */
    q = fma(q, r, 0x1.28ad691ad2295p-22);
    q = fma(q, r, 0x1.71df25397cf48p-19);
    q = fma(q, r, 0x1.a0199a165689ap-16);
    q = fma(q, r, 0x1.a01a012a699b7p-13);
    q = fma(q, r, 0x1.6c16c18426a4dp-10);
    q = fma(q, r, 0x1.1111111127b9ep-7);
    q = fma(q, r, 0x1.555555555088bp-5);
    q = fma(q, r, 0x1.55555555554fap-3);
    q = fma(q, r, 0x1.000000000000ap-1);
    double head = 1.0 + r, tail = r - (head - 1.0);
    tail += fma(r * r, q, fma(c, r, c));
    double hi = head + tail;
    return (wide){hi * scale, (tail - (hi - head)) * scale};
}
XENT_INLINE wide exp_at_f64(double x, double rounder) {
    return exp_or_none_f64(x, rounder, 0);
}
XENT_INLINE wide exp_f64(double x, double offset) {
    return exp_at_f64(x, rounder_f64(offset));
}

/* log(u + c), u normal and positive, |c| <= ulp(u)/2. */
XENT_INLINE double log_parts(double u, double c) {
    uint64_t b = bits_of(u) + 0x00095f6200000000u; /* 1 - sqrt(1/2) in the bits: k counts from sqrt(1/2) */
    double k = (double)((int32_t)(b >> 52) - 1023);
    double m = from_bits((b & 0x000fffffffffffffu) + 0x3fe6a09e00000000u);
    double f0 = m - 1.0;
    double cs = c * from_bits((uint64_t)(2046 - (b >> 52)) << 52); /* c 2^-k */
    double f = f0 + cs;
    double lost = cs - (f - f0);
    double half = 0.5 * f * f;
    double z = f / (2.0 + f), w = z * z;
    double odd = 0x1.2f112df3e5244p-3; /* 2/7 w^3 + ...: the series of 2 atanh(z) / z - 2, FDLIBM's fit */
    odd = fma(odd, w, 0x1.39a09d078c69fp-3);
    odd = fma(odd, w, 0x1.7466496cb03dep-3);
    odd = fma(odd, w, 0x1.c71c51d8e78afp-3);
    odd = fma(odd, w, 0x1.2492494229359p-2);
    odd = fma(odd, w, 0x1.999999997fa04p-2);
    odd = fma(odd, w, 0x1.5555555555593p-1);
    double small = fma(k, 1.90821492927058770002e-10, fma(-f, lost, lost));
    return fma(z, fma(odd, w, half), small) - half + f + k * 6.93147180369123816490e-01;
}

/* log(1 + s), s = hi + lo >= 0. */
XENT_INLINE double log1p_wide(wide s) {
    wide u = two_sum(1.0, s.hi);
    return log_parts(u.hi, u.lo + s.lo);
}

#endif
