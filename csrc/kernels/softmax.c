/* Reductions of a row of logits x (C):
 *   logsumexp    lse = log sum e^x_c                   one sweep
 *   softmax      p_c = e^x_c / sum                     one sweep that leaves the terms in `out`, one that scales them
 *   log_softmax  log p_c = (x_c - max) - log(1 + s)    two sweeps; both differences are of one sign, nothing cancels
 */
#ifndef REAL
#define KERNEL_FILE "softmax.c"
#include "for_each_dtype.h"
#else
#include "row.h"

void KERNEL(logsumexp)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    if (!KERNEL(sweeper_start)(&w, a->layout, a->x, NULL, few, a->failed)) return;
    for (int n, at_once = NAME(rows_at_once)(&w); first < last; first += n) {
        n = last - first < at_once ? (int)(last - first) : at_once;
        KERNEL(sum_rows)(&w, first, n);
        if (NAME(declined)(&w)) break;
        for (int r = 0; r < n; r++) {
            const double lse = w.batch.max[r] + w.batch.log_s[r];
            ((REAL *)a->row_out)[first + r] = NAME(rounded)(lse);
        }
        for (int r = 0; r < n && !w.batch.ordinary; r++) {
            const rowsum sum = sum_of(&w.batch, r);
            ((REAL *)a->row_out)[first + r] = NAME(rounded)(NAME(row_lse)(&sum, w.batch.log_s[r]));
        }
    }
    KERNEL(sweeper_stop)(&w, few);
}

/* Row r of the last sum_rows is to be divided by its sum. */
static void NAME(softmax_factor)(NAME(sweeper) * w, int r, void *of) {
    const row_batch *b = &w->batch;
    const wide total = NAME(add)((wide){b->top_hi[r], b->top_lo[r]}, (wide){b->rest_hi[r], b->rest_lo[r]});
    const wide unit = NAME(div)((wide){1.0, 0.0}, total);
    (void)of;
    w->factor_hi[r] = unit.hi, w->factor_lo[r] = unit.lo;
}

void KERNEL(softmax)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    if (!KERNEL(sweeper_start)(&w, a->layout, a->x, a->out, few, a->failed)) return;
    w.flow.factor = NAME(softmax_factor), w.logs = 0;
    for (int n, at_once = NAME(rows_at_once)(&w); first < last; first += n) {
        n = last - first < at_once ? (int)(last - first) : at_once;
        KERNEL(sum_rows)(&w, first, n);
        if (NAME(declined)(&w)) break;
        for (int r = 0, padded = padded_rows(n); r < padded; r++) NAME(softmax_factor)(&w, r, NULL);
        if (KERNEL(declines)(&w, n, 1)) break;
        KERNEL(scale_rows)(&w, n, NULL);
        NAME(send_blocks)(&w);
    }
    KERNEL(sweeper_stop)(&w, few);
}

/* log p = x - max - log_s of n logits; `to` may be x. None can vanish where log_s does not: 60000 x 100 4 % faster. */
XENT_NOINLINE void NAME(logs)(const REAL *x, ptrdiff_t n, double max, double log_s, REAL *to) {
    if (log_s >= REAL_MIN)
        for (ptrdiff_t i = 0; i < n; i++) to[i] = (REAL)(((double)x[i] - max) - log_s);
    else
        for (ptrdiff_t i = 0; i < n; i++) to[i] = NAME(rounded)(((double)x[i] - max) - log_s);
}

/* Row r of the last sum_rows: x - max - log(1 + s), a block at a time. */
static void NAME(put_logs)(NAME(sweeper) * w, const xent_view *out, char *out_row, int r) {
    const enum row_kind kind = w->batch.kind[r];
    const int finite = kind == ROW_FINITE, nan = kind == ROW_NAN || kind == ROW_EMPTY;
    const double max = finite ? w->batch.max[r] : 0.0, log_s = finite ? w->batch.log_s[r] : nan ? NAN : INFINITY;
    for (ptrdiff_t start = 0; start < w->layout->classes; start += XENT_BLOCK) {
        const ptrdiff_t left = w->layout->classes - start, n = left < XENT_BLOCK ? left : XENT_BLOCK;
        const REAL *x = NAME(logits_at)(w, w->x_rows[r], start, n);
        REAL *to = out->direct ? (REAL *)out_row + start : w->terms;
        NAME(logs)(x, n, max, log_s, to);
        for (ptrdiff_t i = 0; i < n && !finite; i++) to[i] = to[i] != to[i] ? (REAL)NAN : to[i]; /* of one sign */
        if (to == w->terms) scatter_block(w->layout, out, out_row, start, n, to, sizeof(REAL));
    }
}

/* The same of XENT_SIDE rows side by side, in place. */
XENT_INLINE void NAME(side_logs_of)(REAL *restrict v, ptrdiff_t stride, ptrdiff_t classes, const double *restrict max,
                                    const double *restrict log_s, const int vanish) {
    for (ptrdiff_t c = 0; c < classes; c++, v += stride)
        for (int r = 0; r < XENT_SIDE; r++) {
            const double log_p = ((double)v[r] - max[r]) - log_s[r];
            v[r] = vanish ? NAME(rounded)(log_p) : (REAL)log_p;
        }
}
XENT_NOINLINE void NAME(side_logs)(REAL *v, ptrdiff_t stride, ptrdiff_t classes, const double *max,
                                   const double *log_s) {
    uint64_t vanish = 0;
    for (int r = 0; r < XENT_SIDE; r++) vanish |= !(log_s[r] >= REAL_MIN);
    if (vanish)
        NAME(side_logs_of)(v, stride, classes, max, log_s, 1);
    else
        NAME(side_logs_of)(v, stride, classes, max, log_s, 0);
}

/* The same of rows that came by blocks, each sent while it is in the cache. */
static void NAME(blocks_logs)(const NAME(sweeper) * w) {
    const xent_blocks *blocks = w->x->blocks;
    for (int i = 0; i < NAME(blocks_of)(w); i++) {
        REAL *v = NAME(block_columns)(w, blocks->twice ? 0 : i), most[XENT_SIDE], least[XENT_SIDE];
        if (blocks->twice) blocks->bring(blocks, i, 0, most, least);
        NAME(side_logs)(v, w->column_stride, NAME(classes_in)(w, i), w->batch.max, w->batch.log_s);
        blocks->send(blocks, i);
    }
}

/* Rows side by side stay columns until their logarithms are there, if they have so few classes (ns per logit, so and row by
 * row: 1000000 x 3 3.1, 3.9; 65536 x 10 1.2, 1.45), or where lines of the results can be asked for meanwhile. So, with AVX2 and
 * two threads, 65536 x 16 takes 0.81 of the time, 65536 x 32 0.90, 16384 x 100 0.98 (1.21 where no lines are asked for). */
enum { NAME(FEW_LOGS) = 12 };

void KERNEL(log_softmax)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    block_scale few[XENT_BLOCKS_ON_STACK];
    const ptrdiff_t classes = a->layout->classes;
    if (!KERNEL(sweeper_start)(&w, a->layout, a->x, NULL, few, a->failed)) return;
    NAME(ask_for_results)(&w, a->out);
    w.keeps_logits =
        a->x->blocks || (a->out->direct && (classes <= NAME(FEW_LOGS) || w.out_asked.lines)); /* up to XENT_NARROW */
    for (int n, at_once = NAME(rows_at_once)(&w); first < last; first += n) {
        char *out_rows[XENT_ROWS];
        n = last - first < at_once ? (int)(last - first) : at_once;
        KERNEL(sum_rows)(&w, first, n);
        if (KERNEL(declines)(&w, n, 0)) break;
        for (int r = n; r < XENT_ROWS; r++) w.batch.log_s[r] = 1.0; /* of no row: nothing of it vanishes */
        rows_of(a->layout, a->out, first, n, out_rows);
        if (!w.side_by_side || !w.batch.ordinary || w.columns_stored) {
            for (int r = 0; r < n; r++) NAME(put_logs)(&w, a->out, out_rows[r], r);
            NAME(send_blocks)(&w);
            continue;
        }
        if (a->x->blocks) {
            NAME(blocks_logs)(&w);
            continue;
        }
        for (int r = 0; r < n; r += XENT_SIDE) {
            REAL *columns = NAME(columns_of)(&w, r / XENT_SIDE);
            NAME(side_logs)(columns, w.column_stride, classes, w.batch.max + r, w.batch.log_s + r);
            if (!a->x->columns)
                KERNEL(columns_to_rows)(columns, classes, (REAL **)out_rows + r, n - r < XENT_SIDE ? n - r : XENT_SIDE);
        }
    }
    KERNEL(sweeper_stop)(&w, few);
}
#endif
