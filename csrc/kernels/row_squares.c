/* ||x_i||^2 of each row of x (rows, columns), in double, in the order in which activation_backward.c adds squares; and
 * the norms of samples' gradients from the squares of dz and of the inputs of each layer.
 */
#ifndef REAL
#define KERNEL_FILE "row_squares.c"
#include "for_each_dtype.h"
#else
#include "dense.h"
#include "squares.h"

/* sums[i step] = the sum of the squares of row i, 0 < n <= XENT_DENSE_COLUMNS numbers. */
void KERNEL(square_sums)(const REAL *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums, ptrdiff_t step) {
    enum { N = XENT_SQUARE_ROWS };
    ptrdiff_t r = step == 1 ? rows / N * N : 0;
    if (r) NAME(sums_of_rows)(x, r, n, stride, sums);
    for (; r < rows; r += N) {
        const ptrdiff_t m = rows - r < N ? rows - r : N;
        double some[N];
        NAME(sums_of_rows)(x + r * stride, m, n, stride, some);
        for (ptrdiff_t i = 0; i < m; i++) sums[(r + i) * step] = some[i];
    }
}

void KERNEL(row_squares)(const void *x, double *out, ptrdiff_t rows, ptrdiff_t columns) {
    const REAL *row = x;
    if (columns > 0 && columns <= XENT_DENSE_COLUMNS) {
        KERNEL(square_sums)(row, rows, columns, columns, out, 1);
        return;
    }
    for (ptrdiff_t r = 0; r < rows; r += XENT_SQUARE_ROWS, row += XENT_SQUARE_ROWS * columns) {
        const ptrdiff_t m = rows - r < XENT_SQUARE_ROWS ? rows - r : XENT_SQUARE_ROWS;
        double block[XENT_SQUARE_ROWS];
        for (ptrdiff_t i = 0; i < m; i++) out[r + i] = 0.0;
        for (ptrdiff_t c = 0; c < columns; c += XENT_DENSE_COLUMNS) {
            const ptrdiff_t n = columns - c < XENT_DENSE_COLUMNS ? columns - c : XENT_DENSE_COLUMNS;
            KERNEL(square_sums)(row + c, m, n, columns, block, 1);
            for (ptrdiff_t i = 0; i < m; i++) out[r + i] += block[i];
        }
    }
}

XENT_NOINLINE void NAME(add_products)(double *restrict sums, const double *restrict dz, const double *restrict h,
                                      double bias, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) sums[i] += dz[i] * (h[i] + bias);
}
XENT_NOINLINE void NAME(roots)(REAL *restrict norms, const double *restrict sums, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const double norm = sqrt(sums[i]);
        norms[i] = norm < REAL_MIN ? (REAL)0 : (REAL)norm;
    }
}

/* norms[i] = sqrt(sum over l of squares[0][l][i] (squares[1][l][i] + biases[l])) */
void KERNEL(network_norms)(const double *squares, const double *biases, void *norms, ptrdiff_t layers, ptrdiff_t rows) {
    enum { AT_ONCE = 32 };
    for (ptrdiff_t r = 0; r < rows; r += AT_ONCE, squares += AT_ONCE) {
        const ptrdiff_t n = rows - r < AT_ONCE ? rows - r : AT_ONCE;
        double sums[AT_ONCE] = {0};
        for (ptrdiff_t l = 0; l < layers; l++)
            NAME(add_products)(sums, squares + l * rows, squares + (layers + l) * rows, biases[l], n);
        NAME(roots)((REAL *)norms + r, sums, n);
    }
}
#endif
