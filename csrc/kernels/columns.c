/* Sums over the rows of a block (rows x classes), added to what earlier blocks left: sums[c] += sum_r z_rc, in double,
 * with what each addition loses kept in lost[c]. A class's terms are added in the order of the rows, so neither threads
 * nor the cutting of rows into blocks changes a bit. One sweep.
 */
#ifndef REAL
#define KERNEL_FILE "columns.c"
#include "for_each_dtype.h"
#else
#include "elementary.h"

void KERNEL(column_sums)(const xent_column_args *a, ptrdiff_t first, ptrdiff_t last) {
    for (ptrdiff_t start = first; start < last; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = last - start < XENT_SMALL_BLOCK ? last - start : XENT_SMALL_BLOCK;
        double *restrict sums = a->sums + start, *restrict lost = a->lost + start;
        for (ptrdiff_t row = 0; row < a->rows; row++) {
            const REAL *restrict z = (const REAL *)a->z + row * a->stride + start;
            for (ptrdiff_t i = 0; i < n; i++) {
                const wide s = two_sum(sums[i], (double)z[i]);
                sums[i] = s.hi, lost[i] += s.lo;
            }
        }
    }
}
#endif
