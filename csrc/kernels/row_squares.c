/* ||x_i||^2 of each row of x (rows, columns), in double, in the order in which activation_backward.c adds squares; and
 * the norms of samples' gradients from the squares of dz and of the inputs of each layer.
 */
#ifndef REAL
#define KERNEL_FILE "row_squares.c"
#include "for_each_dtype.h"
#else
#include "dense.h"
#include "squares.h"

void KERNEL(square_sums)(const REAL *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums, ptrdiff_t step) {
    enum { N = XENT_SQUARE_ROWS };
    if (step == 1) {
        NAME(sums_of_rows)(x, rows, n, stride, sums);
        return;
    }
    for (; rows > 0; rows -= N, x += N * stride, sums += N * step) {
        const ptrdiff_t m = rows < N ? rows : N;
        double some[N];
        NAME(sums_of_rows)(x, m, n, stride, some);
        for (ptrdiff_t i = 0; i < m; i++) sums[i * step] = some[i];
    }
}

void KERNEL(row_squares)(const void *x, double *out, ptrdiff_t rows, ptrdiff_t columns) {
    const REAL *row = x;
    if (columns > 0 && columns <= XENT_DENSE_COLUMNS) {
        NAME(sums_of_rows)(row, rows, columns, columns, out);
        return;
    }
    for (ptrdiff_t r = 0; r < rows; r += XENT_SQUARE_ROWS, row += XENT_SQUARE_ROWS * columns) {
        const ptrdiff_t m = rows - r < XENT_SQUARE_ROWS ? rows - r : XENT_SQUARE_ROWS;
        double block[XENT_SQUARE_ROWS];
        for (ptrdiff_t i = 0; i < m; i++) out[r + i] = 0.0;
        for (ptrdiff_t c = 0; c < columns; c += XENT_DENSE_COLUMNS) {
            const ptrdiff_t n = columns - c < XENT_DENSE_COLUMNS ? columns - c : XENT_DENSE_COLUMNS;
            NAME(sums_of_rows)(row + c, m, n, columns, block);
            for (ptrdiff_t i = 0; i < m; i++) out[r + i] += block[i];
        }
    }
}

/* *to += dz[i] (h[i] + bias) of four rows */
XENT_INLINE void NAME(add_products)(const double *dz, const double *h, double bias, four_f64 *to) {
    four_f64 z, x;
    memcpy(&z, dz, sizeof z), memcpy(&x, h, sizeof x);
    *to += z * (x + bias);
}

/* norms[i] = sqrt(sum over l of dz[l rows + i] (h[l rows + i] + biases[l])) of four rows, below the smallest normal number
 * 0. Vectors, as in squares_f32.h: of loops over four numbers gcc 12 makes scalar code here. */
XENT_INLINE void NAME(four_norms)(const double *dz, const double *h, const double *biases, REAL *norms,
                                  ptrdiff_t layers, ptrdiff_t rows) {
    four_f64 before = {0}, sum;
    double roots[4];
    for (ptrdiff_t l = 0; l < layers - 1; l++, dz += rows, h += rows) NAME(add_products)(dz, h, biases[l], &before);
    sum = before; /* the last one apart: the variable of the loop stays in a register */
    NAME(add_products)(dz, h, biases[layers - 1], &sum);
    memcpy(roots, &sum, sizeof roots);
    for (int i = 0; i < 4; i++) roots[i] = sqrt(roots[i]);
    four_f64 root;
    memcpy(&root, roots, sizeof root);
    root = (four_f64)((four_u64)root & ~(four_u64)(root < REAL_MIN));
    memcpy(roots, &root, sizeof roots);
    for (int i = 0; i < 4; i++) norms[i] = (REAL)roots[i];
}

void KERNEL(network_norms)(const double *squares, const double *biases, void *norms, ptrdiff_t layers, ptrdiff_t rows) {
    const double *h = squares + layers * rows;
    REAL *to = norms;
    ptrdiff_t r = 0;
    for (; layers > 0 && r + 4 <= rows; r += 4) NAME(four_norms)(squares + r, h + r, biases, to + r, layers, rows);
    for (; r < rows; r++) {
        double sum = 0.0;
        for (ptrdiff_t l = 0; l < layers; l++) sum += squares[l * rows + r] * (h[l * rows + r] + biases[l]);
        to[r] = sqrt(sum) < REAL_MIN ? (REAL)0 : (REAL)sqrt(sum);
    }
}
#endif
