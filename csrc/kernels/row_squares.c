/* ||x_i||^2 of each row of x (rows, columns), in double, in the order in which activation_backward.c adds squares. */
#ifndef REAL
#define KERNEL_FILE "row_squares.c"
#include "for_each_dtype.h"
#else
#include "dense.h"

void KERNEL(row_squares)(const void *x, double *out, ptrdiff_t rows, ptrdiff_t columns) {
    for (ptrdiff_t r = 0; r < rows; r++) {
        const REAL *row = (const REAL *)x + r * columns;
        double sum = 0.0;
        for (ptrdiff_t c = 0; c < columns; c += XENT_DENSE_COLUMNS)
            sum += NAME(square_sum)(row + c, columns - c < XENT_DENSE_COLUMNS ? columns - c : XENT_DENSE_COLUMNS);
        out[r] = sum;
    }
}
#endif
