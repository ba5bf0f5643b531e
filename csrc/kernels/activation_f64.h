/* Activations and their derivatives for float64: e^-|z| as hi + lo, so one rounding is left at the end of most.
 *
 * Values: within 1 ulp; gelu, whose normal tail is a plain polynomial, within 4. Derivatives: within 5 ulp of the
 * larger of their terms. What can fall below the smallest normal number, on the side of z < 0, is formed 2^64 too large
 * (LIFT), compared, and brought down. |z| is cut off where the result no longer changes; the cuts let a NaN pass.
 * Minimax coefficients by tools/minimax.py.
 */
#ifndef XENT_ACTIVATION_F64_H
#define XENT_ACTIVATION_F64_H

#include "activation_f32.h"

#define LIFT 0x1p64

/* v / LIFT; 0 below the smallest normal number. */
XENT_INLINE double let_down(double v) {
    return fabs(v) < 0x1p-1022 * LIFT ? 0.0 : v / LIFT;
}

/* LIFT e^x for a wide x.hi + x.lo, -750 <= x <= 0 */
XENT_INLINE wide lifted_exp(double hi, double lo) {
    wide e = exp_f64(hi, 64.0);
    return fast_two_sum(e.hi, fma(e.hi, lo, e.lo));
}

/* 1 + e, e given 2^64 too large and at most 1 */
XENT_INLINE wide one_and(wide lifted) {
    wide s = fast_two_sum(1.0, lifted.hi / LIFT);
    return (wide){s.hi, s.lo + lifted.lo / LIFT};
}

/* a / b, rounded once or nearly so */
XENT_INLINE double quotient(wide a, wide b) {
    double q = a.hi / b.hi;
    return q + (fma(-q, b.hi, a.hi) + fma(-q, b.lo, a.lo)) / b.hi;
}

/* a tanh(sqrt w) / sqrt w, w <= 0.09: tanh(a) with w = a^2, 2 tanh(a / 2) with w = a^2 / 4 */
XENT_INLINE double tanh_near_0(double a, double w) {
    double p = 0x1.076e1d9afea83p-11; /* (tanh(a) / a - 1) / a^2 */
    p = fma(p, w, -0x1.79ebcace85dcdp-10);
    p = fma(p, w, 0x1.d6a9bae2a8726p-9);
    p = fma(p, w, -0x1.226daa46960fcp-7);
    p = fma(p, w, 0x1.664f46693e825p-6);
    p = fma(p, w, -0x1.ba1ba1b59c4ep-5);
    p = fma(p, w, 0x1.111111110ebcp-3);
    p = fma(p, w, -0x1.5555555555548p-2);
    return fma(a * w, p, a);
}

XENT_INLINE double tanh_f64(double z) { /* (1 - e) / (1 + e), e = e^-2a */
    double a = size_up_to(z, 20.0);
    wide e = exp_f64(-2.0 * a, 0.0), below = fast_two_sum(1.0, -e.hi), above = fast_two_sum(1.0, e.hi);
    below.lo -= e.lo, above.lo += e.lo;
    double t = quotient(below, above);
    t = z < 0.0 ? -t : t;
    return a < 0.3 ? tanh_near_0(z, z * z) : t;
}

XENT_INLINE double sigmoid_f64(double z) {
    wide e = lifted_exp(-size_up_to(z, 750.0), 0.0);
    double up = quotient((wide){1.0, 0.0}, one_and(e)), down = let_down(quotient(e, one_and(e)));
    return z < 0.0 ? down : up;
}

XENT_INLINE double softplus_f64(double z) { /* max(z, 0) + log(1 + e); e where its square no longer counts */
    wide e = lifted_exp(-size_up_to(z, 750.0), 0.0);
    double l = log1p_wide((wide){e.hi / LIFT, e.lo / LIFT}), tail = let_down(e.hi);
    return z < -40.0 ? tail : l + (z > 0.0 ? z : 0.0);
}

typedef struct {
    wide e;   /* LIFT e^(-a^2/2) */
    double q; /* LIFT Q(a) */
} normal_tail_lifted;

/* Q(a) = e^(-a^2/2) p(t) / (a + 5), t = (a - 5) / (a + 5), 0 <= a <= 38.7 */
XENT_INLINE normal_tail_lifted normal_tail_f64(double a) {
    double square = a * a, t = (a - 5.0) / (a + 5.0);
    wide e = lifted_exp(-0.5 * square, -0.5 * fma(a, a, -square));
    double p = -0x1.9ad8762b92bebp-32;
    p = fma(p, t, -0x1.39485e322a39cp-30);
    p = fma(p, t, 0x1.300bcadb9e492p-29);
    p = fma(p, t, 0x1.70c353f3d5292p-27);
    p = fma(p, t, -0x1.269faab10d95cp-27);
    p = fma(p, t, -0x1.2ce502d99eb64p-24);
    p = fma(p, t, 0x1.5988996dbc4cep-25);
    p = fma(p, t, 0x1.d4665964a9abdp-22);
    p = fma(p, t, -0x1.674b4d060af97p-22);
    p = fma(p, t, -0x1.73e04f543f0dfp-19);
    p = fma(p, t, 0x1.0b14ef5b68bc6p-18);
    p = fma(p, t, 0x1.17df10cb234dfp-16);
    p = fma(p, t, -0x1.a17013ca79e79p-15);
    p = fma(p, t, -0x1.f21492a8bd163p-15);
    p = fma(p, t, 0x1.1daf1ae160255p-11);
    p = fma(p, t, -0x1.a2503778bd37cp-11);
    p = fma(p, t, -0x1.88590e98603aap-9);
    p = fma(p, t, 0x1.54b4d4f48ae0bp-6);
    p = fma(p, t, -0x1.1b1c254ca3f71p-4);
    p = fma(p, t, 0x1.51f6329f01ba3p-3);
    p = fma(p, t, -0x1.410ed5f87594cp-2);
    p = fma(p, t, 0x1.fb31653876f89p-2);
    p = fma(p, t, -0x1.54ad03f27ca18p-1);
    p = fma(p, t, 0x1.89d3abe1f95aep-1);
    double near = 0x1.1e8810210cd9dp-38; /* (1/2 - Q(a)) / a, a <= 1: there t has too few digits */
    near = fma(near, square, -0x1.e68f50eae7953p-34);
    near = fma(near, square, 0x1.380a27344e97p-29);
    near = fma(near, square, -0x1.621cb3d7a70fcp-25);
    near = fma(near, square, 0x1.6589f0b436bbcp-21);
    near = fma(near, square, -0x1.3ce8f9b542e64p-17);
    near = fma(near, square, 0x1.e42b0d4ae4fffp-14);
    near = fma(near, square, -0x1.37403f6b929dap-10);
    near = fma(near, square, 0x1.46d0429768ffdp-7);
    near = fma(near, square, -0x1.1058377e2cedfp-4);
    near = fma(near, square, 0x1.9884533d43651p-2);
    return (normal_tail_lifted){e, a < 1.0 ? fma(-a, near, 0.5) * LIFT : e.hi * (p / (a + 5.0))};
}

XENT_INLINE double gelu_f64(double z) { /* z Phi(z), Phi(-a) = Q(a) */
    double a = size_up_to(z, 38.7), q = normal_tail_f64(a).q;
    return z < 0.0 ? let_down(-a * q) : z * (1.0 - q / LIFT);
}

XENT_INLINE double gelu_slope_f64(double z) { /* Phi(z) + z phi(z) */
    double a = size_up_to(z, 38.7);
    normal_tail_lifted n = normal_tail_f64(a);
    double s = fma(-a, DENSITY_AT_0 * n.e.hi, n.q);
    return z < 0.0 ? let_down(s) : 1.0 - s / LIFT;
}

/* 2 u = z (1 + 0.044715 z^2) 2 sqrt(2 / pi) at a = |z|, as hi + lo; at most 750 */
XENT_INLINE wide gelu_argument(double a) {
    const wide cube = {0x1.6e4e26d4801f7p-5, 0x1.441355475a31ap-59}, factor = {GELU_1, -0x1.cbc0d30ebfd15p-54};
    double square = a * a;
    wide v = wide_mul(cube, (wide){square, fma(a, a, -square)});
    v = wide_mul(wide_mul(wide_add((wide){1.0, 0.0}, v), factor), (wide){a, 0.0});
    v.lo = v.hi > 750.0 ? 0.0 : v.lo;
    v.hi = v.hi > 750.0 ? 750.0 : v.hi;
    return v;
}

/* z / (1 + e) for z >= 0, and -a e / (1 + e) */
XENT_INLINE double gated(double z, double a, wide e) {
    const wide one_e = one_and(e);
    double down = let_down(-quotient(wide_mul(e, (wide){a, 0.0}), one_e));
    double up = quotient((wide){z, 0.0}, one_e);
    return z < 0.0 ? down : z > 40.0 ? z : up;
}

XENT_INLINE double gelu_tanh_f64(double z) {
    double a = size_up_to(z, 25.0);
    wide v = gelu_argument(a);
    return gated(z, a, lifted_exp(-v.hi, -v.lo));
}

XENT_INLINE double silu_f64(double z) {
    double a = size_up_to(z, 750.0);
    return gated(z, a, lifted_exp(-a, 0.0));
}

/* sigmoid(v) + v' sigmoid(v) sigmoid(-v) at v < 0, e = e^v, steep = |z v'|: e / (1 + e) (1 - steep / (1 + e)) */
XENT_INLINE double gated_slope(double z, double steep, wide e) {
    const wide one_e = one_and(e);
    double inverse = 1.0 / one_e.hi, s = quotient(e, one_e) * fma(-steep, inverse, 1.0);
    return z < 0.0 ? let_down(s) : 1.0 - s / LIFT;
}

XENT_INLINE double gelu_tanh_slope_f64(double z) {
    double a = size_up_to(z, 25.0);
    wide v = gelu_argument(a);
    return gated_slope(z, a * fma(3.0 * GELU_3, a * a, GELU_1), lifted_exp(-v.hi, -v.lo));
}

XENT_INLINE double silu_slope_f64(double z) {
    double a = size_up_to(z, 750.0);
    return gated_slope(z, a, lifted_exp(-a, 0.0));
}

/* From y = f(z): */
XENT_INLINE double tanh_slope_f64(double y) {
    return fma(-y, y, 1.0);
}
XENT_INLINE double sigmoid_slope_f64(double y) {
    return fma(-y, y, y);
}
XENT_INLINE double softplus_slope_f64(double y) { /* 1 - e^-y = u / (1 + u / 2), u = 2 tanh(y / 2) */
    double a = size_up_to(y, 40.0), u = tanh_near_0(y, 0.25 * y * y);
    wide e = exp_f64(-a, 0.0);
    return a < 0.6 ? u / fma(0.5, u, 1.0) : (1.0 - e.hi) - e.lo;
}

#endif
