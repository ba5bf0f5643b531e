/* Rows shared out over the threads: in groups whose sums are added in a fixed order, and as many together as share lines.
 * Included by api.c. */
#ifndef XENT_SHARES_H
#define XENT_SHARES_H

#include "kernels/rows.h"
#include "parallel.h"

/* Rows are shared out in groups of about LOGITS_PER_GROUP logits, at most MAX_GROUPS of them; a function of the shape
 * alone, so that the order in which losses are added is too. */
enum { LOGITS_PER_GROUP = 8192, ROWS_PER_GROUP = 32, MAX_GROUPS = 8192, GROUPS_ON_STACK = 64 };

/* Logits from which another thread is worth waking: a wake-up and a wait cost some 10 us here, which is what
 * 32,768 logits take one thread. */
enum { LOGITS_PER_THREAD = 16384 };

static int threads_for(const xent_layout *layout) {
    const double logits = (double)layout->rows * (double)layout->classes;
    if (logits < 2 * LOGITS_PER_THREAD) return 1;
    const int n = xent_get_num_threads();
    return logits / LOGITS_PER_THREAD < n ? (int)(logits / LOGITS_PER_THREAD) : n;
}

/* Rows that lie side by side share lines, and threads are not to wait for each other's: as many rows go together as one
 * thread's share has, or SIDE_BY_SIDE_ROWS. (1000 x 1024, axis 0, two threads: 0.77 ns per logit; 1.9 in pieces of 64 rows.) */
enum { SIDE_BY_SIDE_ROWS = 512 };

static ptrdiff_t rows_together(const xent_layout *layout, const xent_view *x, const xent_view *out) {
    if (!(x && lie_side_by_side(layout, x)) && !(out && lie_side_by_side(layout, out))) return 1;
    const ptrdiff_t threads = threads_for(layout), share = (layout->rows + threads - 1) / threads;
    return share < SIDE_BY_SIDE_ROWS ? share : SIDE_BY_SIDE_ROWS;
}

typedef struct {
    xent_reduce_kernel kernel;
    const xent_reduce_args *args;
    ptrdiff_t together;
} reduce_loop;

static void reduce_piece(void *context, ptrdiff_t first, ptrdiff_t last) {
    const reduce_loop *loop = context;
    const ptrdiff_t rows = loop->args->layout->rows, end = last * loop->together;
    loop->kernel(loop->args, first * loop->together, end < rows ? end : rows);
}

static xent_status run_reduce(xent_reduce_kernel kernel, xent_reduce_args *args) {
    const xent_layout *layout = args->layout;
    const ptrdiff_t together = rows_together(layout, args->x, args->out);
    atomic_int failed = 0;
    args->failed = &failed;
    reduce_loop loop = {kernel, args, together};
    if (layout->rows)
        xent_parallel_for((layout->rows + together - 1) / together, threads_for(layout), reduce_piece, &loop);
    return failed ? XENT_NO_MEMORY : XENT_OK;
}

static ptrdiff_t rows_per_group(const xent_layout *layout) {
    ptrdiff_t rows = layout->classes ? LOGITS_PER_GROUP / layout->classes : ROWS_PER_GROUP;
    rows = rows < 1 ? 1 : rows > ROWS_PER_GROUP ? ROWS_PER_GROUP : rows;
    while ((layout->rows + rows - 1) / rows > MAX_GROUPS) rows *= 2;
    return rows;
}

static ptrdiff_t groups_of(const xent_layout *layout) {
    const ptrdiff_t per_group = rows_per_group(layout);
    return (layout->rows + per_group - 1) / per_group;
}

/* body(context, first row, last row, group) over all groups, or over runs of them that begin with `group`; `together` groups
 * at least on one thread. */
typedef struct {
    const xent_layout *layout;
    int runs;
    ptrdiff_t together;
    void (*body)(void *, ptrdiff_t, ptrdiff_t, ptrdiff_t);
    void *context;
} group_loop;

static void group_piece(void *context, ptrdiff_t first, ptrdiff_t last) {
    const group_loop *loop = context;
    const ptrdiff_t rows = loop->layout->rows, per_group = rows_per_group(loop->layout);
    const ptrdiff_t groups = groups_of(loop->layout),
                    stop = last * loop->together < groups ? last * loop->together : groups;
    for (ptrdiff_t g = first * loop->together, end; g < stop; g = end) {
        end = loop->runs ? stop : g + 1;
        loop->body(loop->context, g * per_group, rows < end * per_group ? rows : end * per_group, g);
    }
}

static void run_groups(const xent_layout *layout, int runs, ptrdiff_t rows_together,
                       void (*body)(void *, ptrdiff_t, ptrdiff_t, ptrdiff_t), void *context) {
    const ptrdiff_t per_group = rows_per_group(layout), together = (rows_together + per_group - 1) / per_group;
    group_loop loop = {layout, runs, together, body, context};
    if (layout->rows)
        xent_parallel_for((groups_of(layout) + together - 1) / together, threads_for(layout), group_piece, &loop);
}

#endif
