/* Dense layers: tiles of the arrays shared out over the threads; column sums of groups of rows added in order. */
#include <stdlib.h>

#include "internal.h"
#include "parallel.h"

/* A tile is a group of rows by a block of columns: a function of the shape alone, so that the order of additions is. */
enum { ROWS_PER_GROUP = 32, MAX_GROUPS = 64, SUMS_ON_STACK = 4096 };

/* Nanoseconds of work for which another thread is worth waking, and what an element takes, roughly. After a product the
 * other cores still belong to the threads of the BLAS, which wait there for more. */
static const double NS_PER_THREAD = 30000.0, NS_CHEAP = 0.2, NS_SMOOTH = 1.0;

typedef struct {
    const xent_kernels *kernels;
    const xent_dense_args *args;
    ptrdiff_t groups, rows_per_group, blocks;
    double *sums, *squares; /* of each group: 2 columns; of each row: blocks */
} tiling;

static tiling tiling_of(const xent_kernels *kernels, const xent_dense_args *args) {
    tiling t = {.kernels = kernels, .args = args, .rows_per_group = ROWS_PER_GROUP};
    while ((args->rows + t.rows_per_group - 1) / t.rows_per_group > MAX_GROUPS) t.rows_per_group *= 2;
    t.groups = (args->rows + t.rows_per_group - 1) / t.rows_per_group;
    t.blocks = (args->columns + XENT_DENSE_COLUMNS - 1) / XENT_DENSE_COLUMNS;
    return t;
}

static xent_dense_tile tile_at(const tiling *t, ptrdiff_t i) {
    const ptrdiff_t row = i / t->blocks * t->rows_per_group, column = i % t->blocks * XENT_DENSE_COLUMNS;
    const ptrdiff_t rows = t->args->rows - row, columns = t->args->columns - column;
    return (xent_dense_tile){.row = row,
                             .rows = rows < t->rows_per_group ? rows : t->rows_per_group,
                             .column = column,
                             .columns = columns < XENT_DENSE_COLUMNS ? columns : XENT_DENSE_COLUMNS,
                             .sums = t->sums ? t->sums + 2 * (i / t->blocks * t->args->columns + column) : NULL,
                             .squares = t->squares ? t->squares + row * t->blocks + i % t->blocks : NULL,
                             .square_step = t->blocks};
}

static void forward_tiles(void *context, ptrdiff_t first, ptrdiff_t last) {
    const tiling *t = context;
    for (ptrdiff_t i = first; i < last; i++) {
        const xent_dense_tile tile = tile_at(t, i);
        t->kernels->bias_activation(t->args, &tile);
    }
}

static void backward_tiles(void *context, ptrdiff_t first, ptrdiff_t last) {
    const tiling *t = context;
    for (ptrdiff_t i = first; i < last; i++) {
        const xent_dense_tile tile = tile_at(t, i);
        t->kernels->activation_backward(t->args, &tile);
    }
}

static int threads_for(double rows, ptrdiff_t columns, double ns) {
    const double worth = rows * (double)columns * (ns / NS_PER_THREAD);
    if (worth < 2.0) return 1;
    const int threads = xent_get_num_threads();
    return worth < threads ? (int)worth : threads;
}

static void share_out(tiling *t, void (*body)(void *, ptrdiff_t, ptrdiff_t)) {
    const double ns = t->args->activation <= XENT_LEAKY_RELU ? NS_CHEAP : NS_SMOOTH;
    xent_parallel_for(t->groups * t->blocks, threads_for((double)t->args->rows, t->args->columns, ns), body, t);
}

/* One sweep over all tiles; then what they have left of columns and of rows is added in order. */
static xent_status sweep(const xent_kernels *kernels, const xent_dense_args *args, double *squares,
                         void (*body)(void *, ptrdiff_t, ptrdiff_t)) {
    double few[SUMS_ON_STACK];
    tiling t = tiling_of(kernels, args);
    const size_t n_sums = args->grad_bias ? 2 * (size_t)t.groups * (size_t)args->columns : 0;
    const size_t n_squares = squares && t.blocks > 1 ? (size_t)args->rows * (size_t)t.blocks : 0;
    double *memory = n_sums + n_squares <= SUMS_ON_STACK ? few : malloc((n_sums + n_squares) * sizeof *memory);
    if (!memory) return XENT_NO_MEMORY;
    t.sums = args->grad_bias ? memory : NULL;
    t.squares = n_squares ? memory + n_sums : squares;
    share_out(&t, body);
    for (ptrdiff_t i = 0; i < t.blocks && args->grad_bias; i++) {
        const xent_dense_tile tile = tile_at(&t, i);
        kernels->bias_gradient(args, &tile, t.groups);
    }
    for (ptrdiff_t row = 0; row < args->rows && squares && t.blocks != 1; row++) {
        double sum = 0.0;
        for (ptrdiff_t b = 0; b < t.blocks; b++) sum += t.squares[row * t.blocks + b];
        squares[row] = sum;
    }
    if (memory != few) free(memory);
    return XENT_OK;
}

typedef struct {
    const xent_kernels *kernels;
    const char *x;
    double *squares;
    ptrdiff_t columns, row_bytes;
} squares_loop;

static void squares_piece(void *context, ptrdiff_t first, ptrdiff_t last) {
    const squares_loop *l = context;
    l->kernels->row_squares(l->x + first * l->row_bytes, l->squares + first, last - first, l->columns);
}

static void row_squares(const xent_kernels *kernels, const void *x, ptrdiff_t item, double *squares, ptrdiff_t rows,
                        ptrdiff_t columns) {
    const int threads = threads_for((double)rows, columns, NS_CHEAP);
    if (threads <= 1) {
        kernels->row_squares(x, squares, rows, columns);
        return;
    }
    squares_loop loop = {kernels, x, squares, columns, columns * item};
    xent_parallel_for(rows, threads, squares_piece, &loop);
}

#define API_OF(DTYPE, REAL)                                                                                         \
    xent_status xent_bias_activation_##DTYPE(REAL *y, const REAL *bias, xent_activation activation, REAL *saved_z,  \
                                             double *squares, ptrdiff_t rows, ptrdiff_t columns) {                  \
        const xent_dense_args args = {                                                                              \
            .activation = activation, .rows = rows, .columns = columns, .y = y, .bias = bias, .saved_z = saved_z};  \
        return sweep(&xent_live_table()->DTYPE, &args, squares, forward_tiles);                                     \
    }                                                                                                               \
    xent_status xent_activation_backward_##DTYPE(const REAL *grad_y, const REAL *saved, xent_activation activation, \
                                                 REAL *grad_z, REAL *grad_bias, int accumulate, double *squares,    \
                                                 ptrdiff_t rows, ptrdiff_t columns) {                               \
        const xent_dense_args args = {.activation = activation,                                                     \
                                      .rows = rows,                                                                 \
                                      .columns = columns,                                                           \
                                      .grad_y = grad_y,                                                             \
                                      .saved = saved ? saved : grad_y,                                              \
                                      .grad_z = grad_z,                                                             \
                                      .grad_bias = grad_bias,                                                       \
                                      .accumulate = accumulate};                                                    \
        return sweep(&xent_live_table()->DTYPE, &args, squares, backward_tiles);                                    \
    }                                                                                                               \
    void xent_row_squares_##DTYPE(const REAL *x, double *squares, ptrdiff_t rows, ptrdiff_t columns) {              \
        row_squares(&xent_live_table()->DTYPE, x, (ptrdiff_t)sizeof *x, squares, rows, columns);                    \
    }                                                                                                               \
    void xent_network_norms_##DTYPE(const REAL *x, ptrdiff_t columns, double *squares, const double *biases,        \
                                    REAL *norms, ptrdiff_t layers, ptrdiff_t rows) {                                \
        const xent_kernels *kernels = &xent_live_table()->DTYPE;                                                    \
        if (layers > 0) row_squares(kernels, x, (ptrdiff_t)sizeof *x, squares + layers * rows, rows, columns);      \
        kernels->network_norms(squares, biases, norms, layers, rows);                                               \
    }

API_OF(f32, float)
API_OF(f64, double)
