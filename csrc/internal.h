/* Between the API (api.c), the dispatcher and the kernels: how rows are found in memory, and the kernels' arguments. */
#ifndef XENT_INTERNAL_H
#define XENT_INTERNAL_H

#include <stdatomic.h>

#include "xent.h"

/* Axes split into batch and class axes, axes of size 1 dropped, neighbours merged where every array allows it. */
typedef struct {
    int n_batch, n_class;
    ptrdiff_t rows, classes;
    ptrdiff_t batch_shape[XENT_MAX_DIMS], class_shape[XENT_MAX_DIMS];
} xent_layout;

/* Rows of many classes, packed as columns (pack_columns.h), are brought to the pack a block of classes at a time, each while
 * the one before it is in the cache, and their results sent from there: what works on them asks for that. Of very many
 * classes the pack has one block: each is brought for the sums and, if there are any, once more for the results; and what
 * cannot be done so is declined, before anything is written, and done where the rows lie. */
typedef struct xent_view xent_view;
typedef struct xent_blocks xent_blocks;
struct xent_blocks {
    /* To where block `place` has its room; with the largest and the smallest logits of 32 rows, of the dtype at work. */
    void (*bring)(const xent_blocks *, ptrdiff_t block, ptrdiff_t place, void *most, void *least);
    void (*send)(const xent_blocks *, ptrdiff_t block);
    const xent_view *from; /* the rows where they lie */
    const char *here;      /* the first class of them, to be asked for as next_class and next_side tell */
    int twice;             /* the pack has one block */
    int *declined;
};

/* Whole lines of results that are in the cache, and are to go past it to `to`. */
typedef struct {
    const char *from;
    char *to;
    ptrdiff_t n;
} xent_lines;

struct xent_view {
    char *data;
    xent_type type;
    int swapped;
    int direct; /* classes lie side by side, aligned, in native order: C may use a plain pointer */
    /* Rows that are packed as columns (pack_columns.h) lie side by side, with so many elements from class to class, and
     * behind the last there is room up to a multiple of 32; 0: others. */
    ptrdiff_t columns;
    const xent_blocks *blocks; /* NULL: all classes of them are there */
    void *notes;               /* of large packs of them: column_notes (row.h); NULL: none */
    ptrdiff_t batch_stride[XENT_MAX_DIMS], class_stride[XENT_MAX_DIMS];
    /* Of packed rows: while lanes g of row first + r are summed, next + (r / pairs) next_row + r % pairs lines by two + g
     * next_step is to be asked for, and as much again next_more bytes further. */
    const char *next;
    ptrdiff_t first, pairs, next_row, next_step, next_more;
    xent_lines *left; /* of rows packed before: lines to be stored meanwhile, as many as there are; NULL: none */
    /* Of rows that lay side by side, while 32 of them are worked on: of each class, next_class bytes after the one before,
     * as many bytes as 32 rows have; 0: nothing. */
    ptrdiff_t next_class, next_side;
};

typedef struct xent_reduce_args xent_reduce_args;
typedef void (*xent_reduce_kernel)(const xent_reduce_args *, ptrdiff_t first, ptrdiff_t last);

struct xent_reduce_args {
    const xent_layout *layout;
    const xent_view *x, *out, *weights;
    void *row_out, *row_sign;
    atomic_int *failed;        /* set by a kernel that found no memory; its rows are not written then */
    xent_reduce_kernel packed; /* of packed_reduce: what works on the rows packed */
};

/* Room for the rows that each of n threads makes for itself: `size` bytes each; taken[i] is set while i is in use. */
typedef struct {
    int n;
    size_t size;
    char *data;
    atomic_int *taken;
} xent_scratch;

typedef struct xent_loss_args xent_loss_args;

/* A kernel works on rows first .. last - 1; `group` numbers the group of rows, for totals. */
typedef void (*xent_loss_kernel)(const xent_loss_args *, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group);

struct xent_loss_args {
    const xent_cross_entropy_problem *problem;
    const xent_layout *layout;
    const xent_view *logits, *probabilities, *grad, *vector; /* NULL: none */
    const xent_view *element_weight, *loss_elements;
    xent_vector pos_weight;
    void *loss_rows, *lse_rows;
    double *totals;       /* the sum of the losses of group i in totals[2 i], what it lost in totals[2 i + 1] */
    ptrdiff_t group_rows; /* of a kernel that is given several groups at once, the first of them `group`; else 0 */
    double grad_scale[2]; /* 1 / divisor for "mean", else 1, in two parts */
    atomic_int *failed;
    const xent_tile *tile;       /* the logits are one of several pieces of their rows */
    xent_loss_kernel inner;      /* of made_rows: what works on the rows made */
    const xent_scratch *scratch; /* and where */
    xent_loss_kernel packed;     /* of packed_loss: what works on the rows packed; whether on several groups at once */
    int packed_runs;
};

/* z (rows x n), `stride` elements from row to row, classes side by side. */
typedef struct {
    const void *z;
    ptrdiff_t rows, stride;
    double *sums, *lost;
} xent_column_args;

/* A dense layer's arrays, (rows, columns), contiguous. NULL: not given, not wanted. */
typedef struct {
    xent_activation activation;
    ptrdiff_t rows, columns;
    void *y, *saved_z; /* forward */
    const void *bias;
    const void *grad_y, *saved; /* backward */
    void *grad_z, *grad_bias;
    int accumulate;
} xent_dense_args;

/* What one call of a kernel works on: at most XENT_DENSE_COLUMNS columns of some rows (as many as squares_f32.h can add up). */
enum { XENT_DENSE_COLUMNS = 1024 };
typedef struct {
    ptrdiff_t row, rows, column, columns;
    double *sums;    /* of the columns over these rows; behind them what they lost */
    double *squares; /* of the rows, `square_step` apart */
    ptrdiff_t square_step;
} xent_dense_tile;

/* One column of kernels per dtype; filled tier by tier, each over the one below. */
typedef struct {
    xent_reduce_kernel logsumexp, weighted_logsumexp, softmax, log_softmax;
    xent_loss_kernel cross_entropy, soft_cross_entropy, hessian, sigmoid;
    xent_loss_kernel packed_loss, made_rows, tile_sum, tile_grad, tile_finish;
    xent_reduce_kernel packed_reduce, block_sums; /* row_out: blocks x rows of XENT_SUM_BYTES */
    /* out NULL: to `total`, which may be the first of them, the sum of each row instead */
    void (*sums_lse)(const void *sums, ptrdiff_t blocks, ptrdiff_t rows, void *out, void *total);
    void (*column_sums)(const xent_column_args *, ptrdiff_t first, ptrdiff_t last);
    void (*bias_activation)(const xent_dense_args *, const xent_dense_tile *);
    void (*activation_backward)(const xent_dense_args *, const xent_dense_tile *);
    void (*bias_gradient)(const xent_dense_args *, const xent_dense_tile *, ptrdiff_t groups);
    void (*row_squares)(const void *x, double *out, ptrdiff_t rows, ptrdiff_t columns);
    void (*network_norms)(const double *squares, const double *biases, void *norms, ptrdiff_t layers, ptrdiff_t rows);
} xent_kernels;

typedef struct {
    const char *tier;
    xent_kernels f32, f64;
    void (*exp_f32)(const float *, float *, ptrdiff_t);
    void (*exp_f64)(const double *, double *, ptrdiff_t);
    /* sum, in two parts (NULL: not wanted): of the numbers of some rows, each times its weight and `times`; whether one of them
     * is not in 0 .. upper */
    int (*check_numbers)(const xent_layout *, const xent_view *numbers, ptrdiff_t first, ptrdiff_t rows,
                         const xent_vector *weights, double times, double upper, double *sum);
} xent_table;

const xent_table *xent_live_table(void);

#endif
