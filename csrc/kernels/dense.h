/* What the kernels of the dense layer share, per dtype: numbers kept clear of subnormals, and lines of elements.
 *
 * An activation is applied to a line of n elements, n a multiple of XENT_LINE_STEP, so that the loop has no scalar
 * rest; what remains of a line goes through a small buffer.
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

/* A number below the smallest normal one, whose exponent's bits are 0, is 0: so it makes no difference if the processor
 * takes it for 0. */
XENT_INLINE REAL NAME(normal)(REAL x) {
    uint32_t low;
    memcpy(&low, &x, sizeof low);
    return (sizeof(REAL) == 4 ? (low & 0x7f800000u) != 0 : (bits_of((double)x) & 0x7ff0000000000000u) != 0) ? x
                                                                                                            : (REAL)0;
}

XENT_INLINE REAL NAME(result)(double v) {
    return (REAL)zero_if(fabs(v) < REAL_MIN, v);
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

/* row_squares.c: sums[i step] = the sum of the squares of row i, 0 < n <= XENT_DENSE_COLUMNS numbers. */
void KERNEL(square_sums)(const REAL *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums, ptrdiff_t step);
