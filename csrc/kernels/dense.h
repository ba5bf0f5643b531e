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
    XENT_SIDE_BY_SIDE = 16,
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

/* A number to be squared; 0 if its square is below the smallest normal double. */
XENT_INLINE double NAME(to_square)(REAL x) {
    if (sizeof(REAL) == 4) return (double)NAME(normal)(x);
    return fabs((double)x) < 0x1p-511 ? 0.0 : (double)x;
}

/* lane[l] += x[l]^2 */
XENT_INLINE void NAME(add_squares)(double *lane, const REAL *x, const int lanes) {
    for (int l = 0; l < lanes; l++) {
        const double v = NAME(to_square)(x[l]);
        lane[l] = fma(v, v, lane[l]);
    }
}

/* The sum of the squares of n <= XENT_DENSE_COLUMNS numbers, by the lanes of lanes.h. `lanes`, 16 or all, is a constant:
 * 16 where no more of them get a term. */
XENT_INLINE double NAME(squares_in)(const REAL *x, ptrdiff_t n, const int lanes) {
    _Alignas(64) double lane[XENT_LANES];
    _Alignas(64) REAL rest[XENT_LANES];
    const ptrdiff_t whole = n / lanes * lanes;
    if (whole < n) {
        for (int l = 0; l < lanes; l++) rest[l] = 0;
        for (ptrdiff_t l = whole; l < n; l++) rest[l - whole] = x[l];
    }
    for (int l = 0; l < lanes; l++) lane[l] = 0.0;
    for (ptrdiff_t c = 0; c < n; c += lanes) NAME(add_squares)(lane, c < whole ? x + c : rest, lanes);
#define STEP(half)    \
    if (half < lanes) \
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    XENT_FOLD(STEP)
#undef STEP
    return lane[0];
}

/* The same of XENT_SIDE_BY_SIDE rows of n <= 16 numbers at once, a row per vector element. */
static void NAME(squares_side_by_side)(const REAL *x, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    double lane[16][XENT_SIDE_BY_SIDE];
    for (ptrdiff_t l = 0; l < n; l++)
        for (int r = 0; r < XENT_SIDE_BY_SIDE; r++) {
            const double v = NAME(to_square)(x[r * stride + l]);
            lane[l][r] = v * v;
        }
    for (ptrdiff_t half = 8; half; half /= 2)
        for (ptrdiff_t l = 0; l < half && l + half < n; l++)
            for (int r = 0; r < XENT_SIDE_BY_SIDE; r++) lane[l][r] += lane[l + half][r];
    memcpy(sums, lane[0], sizeof lane[0]);
}

/* sums[i step] = the sum of the squares of row i, 0 < n <= XENT_DENSE_COLUMNS numbers. */
XENT_NOINLINE void NAME(square_sums)(const REAL *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums,
                                     ptrdiff_t step) {
    ptrdiff_t i = 0;
    for (; n <= 16 && step == 1 && i + XENT_SIDE_BY_SIDE <= rows; i += XENT_SIDE_BY_SIDE)
        NAME(squares_side_by_side)(x + i * stride, n, stride, sums + i);
    for (; i < rows; i++)
        sums[i * step] =
            n <= 16 ? NAME(squares_in)(x + i * stride, n, 16) : NAME(squares_in)(x + i * stride, n, XENT_LANES);
}
