/* ||x_i||^2 of each row of x (rows, columns), in double, in the order in which activation_backward.c adds squares. */
#ifndef REAL
#define KERNEL_FILE "row_squares.c"
#include "for_each_dtype.h"
#else
#include "dense.h"

void KERNEL(row_squares)(const void *x, double *out, ptrdiff_t rows, ptrdiff_t columns) {
    const REAL *first = x;
    if (columns > 0 && columns <= XENT_DENSE_COLUMNS) {
        NAME(square_sums)(first, rows, columns, columns, out, 1);
        return;
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        double sum = 0.0, block;
        for (ptrdiff_t c = 0; c < columns; c += XENT_DENSE_COLUMNS) {
            const ptrdiff_t n = columns - c < XENT_DENSE_COLUMNS ? columns - c : XENT_DENSE_COLUMNS;
            NAME(square_sums)(first + r * columns + c, 1, n, columns, &block, 1);
            sum += block;
        }
        out[r] = sum;
    }
}
#endif
