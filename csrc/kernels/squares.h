/* Sums of squares of rows, per dtype. Those of float32 are taken by squares_f32.h where no square can overflow or
 * vanish; what it leaves, and float64, is added in double by the lanes of lanes.h.
 */
#include "squares_f32.h"

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

/* The same of XENT_SQUARE_ROWS rows of n <= 16 numbers at once, a row per vector element. */
static void NAME(squares_side_by_side)(const REAL *x, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    double lane[16][XENT_SQUARE_ROWS];
    for (ptrdiff_t l = 0; l < n; l++)
        for (int r = 0; r < XENT_SQUARE_ROWS; r++) {
            const double v = NAME(to_square)(x[r * stride + l]);
            lane[l][r] = v * v;
        }
    for (ptrdiff_t half = 8; half; half /= 2)
        for (ptrdiff_t l = 0; l < half && l + half < n; l++)
            for (int r = 0; r < XENT_SQUARE_ROWS; r++) lane[l][r] += lane[l + half][r];
    memcpy(sums, lane[0], sizeof lane[0]);
}

XENT_NOINLINE double NAME(squares_of_row)(const REAL *x, ptrdiff_t n) {
    return n <= 16 ? NAME(squares_in)(x, n, 16) : NAME(squares_in)(x, n, XENT_LANES);
}

/* sums[i] = the sum of the squares of row i, 0 < n <= XENT_DENSE_COLUMNS numbers. */
XENT_NOINLINE void NAME(sums_of_rows)(const REAL *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    enum { N = XENT_SQUARE_ROWS };
    if (sizeof(REAL) == 8) {
        for (ptrdiff_t r = 0; r < rows;)
            if (n <= 16 && rows - r >= N)
                NAME(squares_side_by_side)(x + r * stride, n, stride, sums + r), r += N;
            else
                sums[r] = NAME(squares_of_row)(x + r * stride, n), r++;
        return;
    }
    const uint64_t most = quick_sums((const void *)x, rows, n, stride, sums);
    for (ptrdiff_t i = 0; i < rows && most >> 60; i++)
        if (above_floor(sums[i]) >> 60) sums[i] = NAME(squares_of_row)(x + i * stride, n);
}
