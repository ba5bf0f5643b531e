/* What the kernels of the dense layer share, per dtype: numbers kept clear of subnormals, and lines of elements.
 *
 * An activation is applied to a line of n elements, n a multiple of XENT_LINE_STEP, so that the loop has no scalar rest; what
 * remains of a line goes through a small buffer.
 */
#include "activation_f32.h"
#include "activation_f64.h"

#ifndef XENT_DENSE_H
#define XENT_DENSE_H
enum {
    XENT_STRIP = 4096,   /* elements of a tile worked on at a time */
    XENT_LINE_STEP = 16, /* float32 of the widest register */
};
static const double LEAKY_SLOPE = 0.01;
#endif

/* A number below the smallest normal one is 0, so that it makes no difference if the processor takes it for 0. */
XENT_INLINE REAL NAME(normal)(REAL x) {
    return x < (REAL)REAL_MIN && x > -(REAL)REAL_MIN ? (REAL)0 : x;
}

XENT_INLINE REAL NAME(result)(double v) {
    return fabs(v) < REAL_MIN ? (REAL)0 : (REAL)v;
}

/* x slope, |slope| < 2, x normal */
XENT_INLINE REAL NAME(scaled)(REAL x, double slope) {
    if (sizeof(REAL) == 4) return NAME(result)((double)x * slope);
    const int small = fabs((double)x) < 1.0; /* then the product is formed 2^64 too large */
    const double product = (small ? (double)x * LIFT : (double)x) * slope;
    return (REAL)(small ? let_down(product) : product);
}

/* f(line, n), in place, with whole steps; `with` is a line beside it, or NULL. */
typedef void (*NAME(line_map))(REAL *restrict line, const REAL *restrict with, ptrdiff_t n);

XENT_NOINLINE void NAME(run_line)(NAME(line_map) f, REAL *line, const REAL *with, ptrdiff_t n) {
    const ptrdiff_t whole = n / XENT_LINE_STEP * XENT_LINE_STEP, rest = n - whole;
    REAL few[XENT_LINE_STEP] = {0}, few_with[XENT_LINE_STEP] = {0};
    if (whole) f(line, with, whole);
    if (!rest) return;
    memcpy(few, line + whole, (size_t)rest * sizeof *few);
    if (with) memcpy(few_with, with + whole, (size_t)rest * sizeof *few);
    f(few, few_with, XENT_LINE_STEP);
    memcpy(line + whole, few, (size_t)rest * sizeof *few);
}

/* *sum += x^2 */
XENT_INLINE void NAME(add_square)(double *sum, REAL x) {
    const double v = (double)NAME(normal)(x);
    *sum = fma(v, v, *sum);
}

/* The sum of the squares of n <= XENT_DENSE_COLUMNS numbers, by the lanes of lanes.h: `lanes` of them, 16, 32 or 64, hold a term. */
XENT_INLINE double NAME(squares_in)(const REAL *x, ptrdiff_t n, const int lanes) {
    double lane[XENT_LANES] = {0};
    ptrdiff_t c = 0;
    for (; c + lanes <= n; c += lanes)
        for (int l = 0; l < lanes; l++) NAME(add_square)(&lane[l], x[c + l]);
    for (ptrdiff_t l = 0; c + l < n; l++) NAME(add_square)(&lane[l], x[c + l]);
    if (lanes > 32)
        for (int l = 0; l < 32; l++) lane[l] += lane[l + 32];
    if (lanes > 16)
        for (int l = 0; l < 16; l++) lane[l] += lane[l + 16];
    for (int l = 0; l < 8; l++) lane[l] += lane[l + 8];
    for (int l = 0; l < 4; l++) lane[l] += lane[l + 4];
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

XENT_NOINLINE double NAME(square_sum)(const REAL *x, ptrdiff_t n) {
    return n <= 16 ? NAME(squares_in)(x, n, 16) : n <= 32 ? NAME(squares_in)(x, n, 32) : NAME(squares_in)(x, n, 64);
}
