/* y (rows, columns) = f(y + bias), in place on the product of a dense layer; z = y + bias is saved, and ||y_i||^2 of each
 * row taken, if asked. One sweep over memory: a strip that stays in the first-level cache gets its bias row by row, then
 * f as one long line, then its rows' squares are added up.
 */
#ifndef REAL
#define KERNEL_FILE "bias_activation.c"
#include "for_each_dtype.h"
#else
#include "dense.h"

/* Of any z, subnormal or not */
XENT_INLINE REAL NAME(identity)(REAL z) {
    return NAME(normal)(z);
}
XENT_INLINE REAL NAME(relu)(REAL z) {
    return z < (REAL)REAL_MIN ? (REAL)0 : z;
}
XENT_INLINE REAL NAME(leaky_relu)(REAL z) {
    return z < (REAL)REAL_MIN ? NAME(scaled)(NAME(normal)(z), LEAKY_SLOPE) : z;
}

/* z = y + bias for each row, and a cheap f at once; bias has no subnormal numbers */
#define ROWS(f)                                                                                                     \
    XENT_NOINLINE void NAME(rows_##f)(REAL *restrict y, const REAL *restrict bias, ptrdiff_t rows, ptrdiff_t width, \
                                      ptrdiff_t stride) {                                                           \
        for (ptrdiff_t r = 0; r < rows; r++, y += stride)                                                           \
            for (ptrdiff_t c = 0; c < width; c++) y[c] = NAME(f)(NAME(normal)(y[c]) + bias[c]);                     \
    }
ROWS(identity)
ROWS(relu)
ROWS(leaky_relu)

#define LINE(f, value)                                                                            \
    XENT_NOINLINE void NAME(line_##f)(REAL *restrict y, const REAL *restrict with, ptrdiff_t n) { \
        (void)with;                                                                               \
        for (ptrdiff_t i = 0; i < n; i++) y[i] = value;                                           \
    }
LINE(identity, NAME(identity)(y[i]))
LINE(relu, NAME(relu)(y[i]))
LINE(leaky_relu, NAME(leaky_relu)(y[i]))
#define SMOOTH(f) LINE(f, NAME(result)(NAME(f)((double)NAME(normal)(y[i]))))
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

void KERNEL(bias_activation)(const xent_dense_args *a, const xent_dense_tile *tile) {
    const ptrdiff_t stride = a->columns, width = tile->columns;
    const ptrdiff_t strip = width < XENT_STRIP ? XENT_STRIP / width : 1;
    const int cheap = a->activation <= XENT_LEAKY_RELU;
    const REAL *given = a->bias ? (const REAL *)a->bias + tile->column : NULL;
    REAL bias[XENT_DENSE_COLUMNS];
    if (given) /* a condition of the loop would leave it one number at a time */
        for (ptrdiff_t c = 0; c < width; c++) bias[c] = NAME(normal)(given[c]);
    for (ptrdiff_t done = 0; done < tile->rows; done += strip) {
        const ptrdiff_t rows = tile->rows - done < strip ? tile->rows - done : strip;
        const ptrdiff_t at = (tile->row + done) * stride + tile->column;
        REAL *y = (REAL *)a->y + at, *z = a->saved_z ? (REAL *)a->saved_z + at : NULL;
        const int joined = width == stride;
        const ptrdiff_t lines = joined ? 1 : rows, length = joined ? rows * width : width;
        if (given && cheap && !z)
            (a->activation == XENT_RELU         ? NAME(rows_relu)
             : a->activation == XENT_LEAKY_RELU ? NAME(rows_leaky_relu)
                                                : NAME(rows_identity))(y, bias, rows, width, stride);
        else {
            if (given) NAME(rows_identity)(y, bias, rows, width, stride);
            for (ptrdiff_t i = 0; i < lines; i++) {
                if (z && !given) NAME(run_line)(NAME(line_identity), y + i * stride, NULL, length);
                if (z) memcpy(z + i * stride, y + i * stride, (size_t)length * sizeof *z);
                NAME(run_line)(NAME(LINES)[a->activation], y + i * stride, NULL, length);
            }
        }
        if (tile->squares)
            KERNEL(square_sums)(y, rows, width, stride, tile->squares + done * tile->square_step, tile->square_step);
    }
}
#endif
