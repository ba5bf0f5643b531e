/* logsumexp of fewer rows than threads: the blocks of a row are shared out, then added in their order, as the kernel adds
 * them. Included by api.c. */
#ifndef XENT_FEW_ROWS_H
#define XENT_FEW_ROWS_H
#include <stdlib.h>

#include "shares.h"

/* Sums of so many blocks are kept at a time: 128 KiB of them, of 4 million classes. */
enum { BLOCKS_AT_ONCE = 1024 };

typedef struct {
    const xent_kernels *kernels;
    const xent_layout *layout;
    const xent_view *x;
    ptrdiff_t first; /* the block whose sum is behind that of all before */
    char *sums;
    atomic_int failed;
} blocks_loop;

/* Whether they are to be shared out so: rows of contiguous classes, worth more threads than there are rows. */
static int is_few_rows(const xent_layout *layout, const xent_view *x) {
    return x->direct && layout->rows > 0 && layout->n_class == 1 && layout->rows < threads_for(layout);
}

static void blocks_piece(void *context, ptrdiff_t first, ptrdiff_t last) {
    blocks_loop *loop = context;
    const ptrdiff_t start = (loop->first + first) * XENT_BLOCK, end = (loop->first + last) * XENT_BLOCK;
    xent_layout layout = *loop->layout;
    xent_view x = *loop->x;
    layout.classes = layout.class_shape[0] = (end < layout.classes ? end : layout.classes) - start;
    x.data += start * x.class_stride[0];
    const xent_reduce_args args = {.layout = &layout,
                                   .x = &x,
                                   .row_out = loop->sums + (1 + first) * layout.rows * XENT_SUM_BYTES,
                                   .failed = &loop->failed};
    loop->kernels->block_sums(&args, 0, layout.rows);
}

static xent_status few_rows_lse(const xent_kernels *kernels, const xent_layout *layout, const xent_view *x, void *out) {
    const ptrdiff_t blocks = (layout->classes + XENT_BLOCK - 1) / XENT_BLOCK, of_block = layout->rows * XENT_SUM_BYTES;
    blocks_loop loop = {.kernels = kernels, .layout = layout, .x = x, .failed = 0};
    loop.sums = malloc((size_t)((1 + BLOCKS_AT_ONCE) * of_block));
    if (!loop.sums) return XENT_NO_MEMORY;
    for (ptrdiff_t n; loop.first < blocks; loop.first += n) {
        n = blocks - loop.first < BLOCKS_AT_ONCE ? blocks - loop.first : BLOCKS_AT_ONCE;
        xent_parallel_for(n, threads_for(layout), blocks_piece, &loop);
        const ptrdiff_t before = loop.first > 0; /* the sum of all blocks before is one more */
        kernels->sums_lse(loop.sums + (before ? 0 : of_block), before + n, layout->rows,
                          loop.first + n < blocks ? NULL : out, loop.sums);
    }
    free(loop.sums);
    return loop.failed ? XENT_NO_MEMORY : XENT_OK;
}

#endif
