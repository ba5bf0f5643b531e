/* dz (rows, columns) = dy f'(z), with the bias gradient's sums over the rows and, if asked, ||dz_i||^2 of each row.
 * saved is y or z, whichever f' wants; dz may be dy. One sweep over memory: a strip that stays in the first-level cache
 * is multiplied, then added up by columns and by rows.
 *
 * Order of additions: a column's terms in the order of the rows of a group, groups in order (csrc/dense.c); a row's
 * squares by the lanes of lanes.h over blocks of XENT_DENSE_COLUMNS, blocks in order. Sums are kept in double (float32:
 * its squares are exact there), those of float64 columns in two.
 */
#ifndef REAL
#define KERNEL_FILE "activation_backward.c"
#include "for_each_dtype.h"
#else
#include "dense.h"

#define LINE(f, value)                                                                          \
    XENT_NOINLINE void NAME(line_##f)(REAL *restrict dz, const REAL *restrict s, ptrdiff_t n) { \
        for (ptrdiff_t i = 0; i < n; i++) {                                                     \
            const REAL dy = NAME(normal)(dz[i]), saved = s[i];                                  \
            dz[i] = value;                                                                      \
        }                                                                                       \
    }
LINE(identity, ((void)saved, dy))
LINE(relu, saved >= (REAL)REAL_MIN ? dy : saved == saved ? (REAL)0 : saved)
LINE(leaky_relu, saved >= (REAL)REAL_MIN ? dy : saved == saved ? NAME(scaled)(dy, LEAKY_SLOPE) : saved)
#define SMOOTH(f) LINE(f, NAME(scaled)(dy, NAME(f##_slope)((double)NAME(normal)(saved))))
SMOOTH(tanh)
SMOOTH(sigmoid)
SMOOTH(softplus)
SMOOTH(gelu)
SMOOTH(gelu_tanh)
SMOOTH(silu)

static const NAME(line_map) NAME(LINES)[] = {
    [XENT_IDENTITY] = NAME(line_identity),
    [XENT_RELU] = NAME(line_relu),
    [XENT_LEAKY_RELU] = NAME(line_leaky_relu),
    [XENT_TANH] = NAME(line_tanh),
    [XENT_SIGMOID] = NAME(line_sigmoid),
    [XENT_SOFTPLUS] = NAME(line_softplus),
    [XENT_GELU] = NAME(line_gelu),
    [XENT_GELU_TANH] = NAME(line_gelu_tanh),
    [XENT_SILU] = NAME(line_silu),
};

/* hi + lo += x. Of float64, a sum of normal numbers may be subnormal, and so may what is lost of a tiny one: the first
 * counts as 0, the second is left out in the end (total). */
XENT_INLINE void NAME(add_to)(double *hi, double *lo, double x) {
    if (sizeof(REAL) == 4)
        *hi += x;
    else {
        wide s = two_sum(*hi, x);
        *hi = fabs(s.hi) < 0x1p-1022 ? 0.0 : s.hi, *lo += s.lo;
    }
}
XENT_INLINE REAL NAME(total)(double hi, double lo) {
    return NAME(result)(hi - hi == 0.0 && fabs(hi) > 0x1p-900 ? hi + lo : hi);
}

/* hi, lo (width) += the rows of dz */
static void NAME(add_rows)(const REAL *dz, ptrdiff_t rows, ptrdiff_t width, ptrdiff_t stride, double *restrict hi,
                           double *restrict lo) {
    enum { SIDE_BY_SIDE = 32 };
    ptrdiff_t c = 0;
    for (; c + SIDE_BY_SIDE <= width; c += SIDE_BY_SIDE) {
        double h[SIDE_BY_SIDE], l[SIDE_BY_SIDE];
        memcpy(h, hi + c, sizeof h);
        if (sizeof(REAL) == 8) memcpy(l, lo + c, sizeof l);
        for (ptrdiff_t r = 0; r < rows; r++)
            for (int i = 0; i < SIDE_BY_SIDE; i++)
                NAME(add_to)(&h[i], &l[i], (double)NAME(normal)(dz[r * stride + c + i]));
        memcpy(hi + c, h, sizeof h);
        if (sizeof(REAL) == 8) memcpy(lo + c, l, sizeof l);
    }
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t i = c; i < width; i++) NAME(add_to)(&hi[i], &lo[i], (double)NAME(normal)(dz[r * stride + i]));
}

void KERNEL(activation_backward)(const xent_dense_args *a, const xent_dense_tile *tile) {
    const ptrdiff_t stride = a->columns, width = tile->columns;
    const ptrdiff_t strip = width < XENT_STRIP ? XENT_STRIP / width : 1;
    double *hi = tile->sums, *lo = hi ? hi + width : NULL;
    if (hi) memset(hi, 0, 2 * (size_t)width * sizeof *hi);
    for (ptrdiff_t done = 0; done < tile->rows; done += strip) {
        const ptrdiff_t rows = tile->rows - done < strip ? tile->rows - done : strip;
        const ptrdiff_t at = (tile->row + done) * stride + tile->column;
        const REAL *dy = (const REAL *)a->grad_y + at, *saved = (const REAL *)a->saved + at;
        const int joined = width == stride;
        const ptrdiff_t lines = joined ? 1 : rows, length = joined ? rows * width : width;
        for (ptrdiff_t i = 0; i < lines && a->grad_z; i++) {
            REAL *dz = (REAL *)a->grad_z + at + i * stride;
            if (a->grad_z != a->grad_y) memcpy(dz, dy + i * stride, (size_t)length * sizeof *dz);
            NAME(run_line)(NAME(LINES)[a->activation], dz, saved + i * stride, length);
        }
        const REAL *dz = a->grad_z ? (const REAL *)a->grad_z + at : dy;
        if (hi) NAME(add_rows)(dz, rows, width, stride, hi, lo);
        if (tile->squares)
            KERNEL(square_sums)(dz, rows, width, stride, tile->squares + done * tile->square_step, tile->square_step);
    }
}

/* grad_bias (columns of the tile) = the sums of the groups in order, beginning with what it holds if accumulate. */
void KERNEL(bias_gradient)(const xent_dense_args *a, const xent_dense_tile *tile, ptrdiff_t groups) {
    REAL *out = (REAL *)a->grad_bias + tile->column;
    double hi[XENT_DENSE_COLUMNS], lo[XENT_DENSE_COLUMNS];
    const ptrdiff_t columns = tile->columns;
    for (ptrdiff_t c = 0; c < columns; c++) {
        hi[c] = a->accumulate ? (double)NAME(normal)(out[c]) : 0.0;
        lo[c] = 0.0;
    }
    for (ptrdiff_t g = 0; g < groups; g++) {
        const double *sums = tile->sums + 2 * g * a->columns;
        for (ptrdiff_t c = 0; c < columns; c++) {
            NAME(add_to)(&hi[c], &lo[c], sums[c]);
            lo[c] += sums[columns + c];
        }
    }
    for (ptrdiff_t c = 0; c < columns; c++) out[c] = NAME(total)(hi[c], lo[c]);
}
#endif
