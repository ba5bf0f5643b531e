/* Activations and their derivatives for float32: in double, to be rounded once.
 *
 * Each value is within 2^-29 of the exact one (relatively), so 0.52 ulp of float32 after the rounding; a derivative is
 * that close to the larger of its terms. No branches, no tables: one exponential of a number that is not positive, one
 * or two divisions. |z| is cut off where the result no longer changes; the cuts let a NaN pass.
 * Minimax coefficients by tools/minimax.py.
 */
#ifndef XENT_ACTIVATION_F32_H
#define XENT_ACTIVATION_F32_H

#include "elementary.h"

typedef struct {
    double scale, rest;
} exponential; /* e^x = scale (1 + rest), scale a power of two: both e^x and e^x - 1 with all their digits */

/* |x| < 700 */
XENT_INLINE exponential split_exp(double x) {
    const double rounder = ROUNDER + 1023.0;
    double t = fma(x, LOG2E, rounder);
    double f = fma(x, LOG2E, -(t - rounder)); /* x log2 e - n, |f| <= 1/2 */
    double p = 0x1.ffc2cec57ffdcp-17;         /* (2^f - 1) / f */
    p = fma(p, f, 0x1.443f5c688ed94p-13);
    p = fma(p, f, 0x1.5d88c473be5d6p-10);
    p = fma(p, f, 0x1.3b2a1c3d4916bp-7);
    p = fma(p, f, 0x1.c6b08cac618e7p-5);
    p = fma(p, f, 0x1.ebfbe0452992fp-3);
    p = fma(p, f, 0x1.62e42fefd43f3p-1);
    return (exponential){from_bits(bits_of(t) << 52), p * f};
}

XENT_INLINE double exp_near(double x) {
    exponential e = split_exp(x);
    return fma(e.scale, e.rest, e.scale);
}

/* |z|, at most `most`. */
XENT_INLINE double size_up_to(double z, double most) {
    double a = fabs(z);
    return a > most ? most : a;
}

XENT_INLINE double tanh_f32(double z) { /* tanh a = -m / (2 + m), m = e^-2a - 1 */
    exponential e = split_exp(-2.0 * size_up_to(z, 20.0));
    double m = fma(e.scale, e.rest, e.scale - 1.0), t = m / (2.0 + m);
    return z < 0.0 ? t : -t;
}

XENT_INLINE double sigmoid_f32(double z) {
    double e = exp_near(-size_up_to(z, 200.0));
    return (z < 0.0 ? e : 1.0) / (1.0 + e);
}

XENT_INLINE double two_atanh_by(double s) { /* 2 atanh(s) / s, 0 <= s <= 1/3 */
    double w = s * s;
    double p = 0x1.f174a5392701fp-3; /* (2 atanh(s) / s - 2) / s^2 */
    p = fma(p, w, 0x1.b6e6597446b13p-3);
    p = fma(p, w, 0x1.2508b7a1b0c1cp-2);
    p = fma(p, w, 0x1.9996af458c738p-2);
    p = fma(p, w, 0x1.5555584ccb3fcp-1);
    return fma(p, w, 2.0);
}

XENT_INLINE double softplus_f32(double z) { /* max(z, 0) + log(1 + e), log(1 + e) = 2 atanh(e / (2 + e)) */
    double e = exp_near(-size_up_to(z, 200.0)), s = e / (2.0 + e);
    return fma(two_atanh_by(s), s, z > 0.0 ? z : 0.0);
}

typedef struct {
    double e, q;
} normal_tail; /* e^(-a^2/2) and Q(a) = (1/sqrt(2 pi)) int_a^inf e^(-t^2/2) dt */

/* Q(a) = e^(-a^2/2) p(t) / (a + 3), t = (a - 3) / (a + 3), 0 <= a <= 15 */
XENT_INLINE normal_tail normal_tail_f32(double a) {
    double inverse = 1.0 / (a + 3.0), t = (a - 3.0) * inverse, e = exp_near(-0.5 * a * a);
    double p = 0x1.c91a9bf64a1d9p-15;
    p = fma(p, t, 0x1.136d14ed513bp-13);
    p = fma(p, t, -0x1.009e7ee5a9701p-12);
    p = fma(p, t, -0x1.0eaf0e6263da5p-10);
    p = fma(p, t, 0x1.0ca211dc6cd01p-10);
    p = fma(p, t, 0x1.c8bda8c882069p-8);
    p = fma(p, t, -0x1.56d5eb2b26a4cp-7);
    p = fma(p, t, -0x1.832d0a7c51d15p-5);
    p = fma(p, t, 0x1.d7138503e4879p-3);
    p = fma(p, t, -0x1.04c729abc5164p-1);
    p = fma(p, t, 0x1.754a751c6b49cp-1);
    double q = e * p * inverse;
    return (normal_tail){e, q > 0.5 ? 0.5 : q}; /* at most, or z / 2 could fall just below the smallest normal number */
}

static const double DENSITY_AT_0 = 0x1.9884533d43651p-2; /* 1 / sqrt(2 pi) */

XENT_INLINE double gelu_f32(double z) { /* z Phi(z), Phi(-a) = Q(a) */
    double a = size_up_to(z, 15.0);
    normal_tail n = normal_tail_f32(a);
    return z < 0.0 ? -a * n.q : z * (1.0 - n.q);
}

XENT_INLINE double gelu_slope_f32(double z) { /* Phi(z) + z phi(z) */
    double a = size_up_to(z, 15.0);
    normal_tail n = normal_tail_f32(a);
    double s = n.q - a * (DENSITY_AT_0 * n.e);
    return z < 0.0 ? s : 1.0 - s;
}

/* z sigmoid(2 u), 2 u = z (GELU_1 + GELU_3 z^2) = 2 sqrt(2 / pi) (z + 0.044715 z^3) */
static const double GELU_1 = 0x1.9884533d43651p+0, GELU_3 = 0x1.2444f2a4d8b4bp-4;

XENT_INLINE double gelu_tanh_f32(double z) {
    double a = size_up_to(z, 20.0), e = exp_near(-a * fma(GELU_3, a * a, GELU_1));
    return (z < 0.0 ? -a * e : z) / (1.0 + e);
}

XENT_INLINE double gelu_tanh_slope_f32(double z) {
    double a = size_up_to(z, 20.0), e = exp_near(-a * fma(GELU_3, a * a, GELU_1)), inverse = 1.0 / (1.0 + e);
    double s = e * inverse * (1.0 - a * fma(3.0 * GELU_3, a * a, GELU_1) * inverse); /* at -a */
    return z < 0.0 ? s : 1.0 - s;
}

XENT_INLINE double silu_f32(double z) { /* z sigmoid(z) */
    double a = size_up_to(z, 200.0), e = exp_near(-a);
    return (z < 0.0 ? -a * e : z) / (1.0 + e);
}

XENT_INLINE double silu_slope_f32(double z) { /* sigmoid(z) (1 + z sigmoid(-z)) */
    double a = size_up_to(z, 200.0), e = exp_near(-a), inverse = 1.0 / (1.0 + e);
    double s = e * inverse * (1.0 - a * inverse); /* at -a */
    return z < 0.0 ? s : 1.0 - s;
}

/* From y = f(z): */
XENT_INLINE double tanh_slope_f32(double y) {
    return fma(-y, y, 1.0);
}
XENT_INLINE double sigmoid_slope_f32(double y) {
    return fma(-y, y, y);
}
XENT_INLINE double softplus_slope_f32(double y) { /* sigmoid(z) = 1 - e^-y */
    exponential e = split_exp(-size_up_to(y, 200.0));
    return -fma(e.scale, e.rest, e.scale - 1.0);
}

#endif
