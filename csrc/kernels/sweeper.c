/* Sums of rows and their terms scaled, in all layouts: what softmax, its logarithm and the losses are made of, declared in row.h
 * and here once for each tier. (Static, with copies in each kernel's file, the library took twice as long to be built.)
 */
#ifndef REAL
#define KERNEL_FILE "sweeper.c"
#include "for_each_dtype.h"
#else
#include "row.h"

#include "block_sum.h"
#include "transpose.h"
#include "close.h"
#include "narrow.h"
#include "scale.h"
#include "long_columns.h"
#include "flow.h"
#include "long_flow.h"
#include "row_sums.h"

void KERNEL(batch_logs)(NAME(sweeper) * w, int rows) {
    row_batch *b = &w->batch;
    const int padded = padded_rows(rows);
    for (int r = 0; r < padded && !(b->ordinary && rows == padded); r++)
        if (r >= rows || b->kind[r] != ROW_FINITE)
            b->rest_hi[r] = b->rest_lo[r] = b->top_lo[r] = b->max[r] = b->scale[r] = 0.0, b->top_hi[r] = 1.0;
    if (!w->logs) return;
    for (int r = 0; r < padded; r++)
        b->log_s[r] = log1p_wide(NAME(div)((wide){b->rest_hi[r], b->rest_lo[r]}, (wide){b->top_hi[r], b->top_lo[r]}));
}

void KERNEL(find_these)(NAME(sweeper) * w, const ptrdiff_t *row, int n) {
    const ptrdiff_t size = w->layout->classes * (ptrdiff_t)sizeof(REAL);
    these_rows(w->layout, w->x, row, n, w->x_rows);
    const int short_rows = n > 1 && size > 0 && size < XENT_AHEAD;
    w->first = row[0], w->ahead = XENT_AHEAD, w->stores_ahead = XENT_STORES_AHEAD;
    w->gap = short_rows || !w->x->direct || !w->layout->n_batch ? 0 : row_step(w->layout, w->x) - size;
    if (short_rows) w->ahead = row_step(w->layout, w->x) * (XENT_AHEAD / size);
    if (short_rows && w->out && row_step(w->layout, w->out) != size)
        w->stores_ahead = row_step(w->layout, w->out) * ((XENT_STORES_AHEAD - 1) / size + 1);
    if (n > 1 && NAME(flows)(w)) w->ahead = row_step(w->layout, w->x) * NAME(flow_ahead)(size);
    if (w->out)
        these_rows(w->layout, w->out, row, n, w->out_rows);
    else
        memset(w->out_rows, 0, (size_t)n * sizeof *w->out_rows);
}

void KERNEL(sum_found)(NAME(sweeper) * w, int rows) {
    const ptrdiff_t classes = w->layout->classes;
    const int direct = classes > 0 && w->x->direct && (!w->out || w->out->direct);
    row_batch *b = &w->batch;
    b->ordinary = 1;
    memset(w->flowed, 0, sizeof w->flowed);
    w->side_by_side = w->x->columns || (direct && rows > w->alone && classes <= XENT_NARROW);
    if (w->side_by_side) w->side_by_side = NAME(narrow_sums)(w, rows);
    if (KERNEL(declines)(w, 0, 0)) return;
    w->by_long_flow = rows == 1 && NAME(long_flows)(w);
    if (w->waiting_blocks.done) NAME(put_blocks)(w); /* nobody scaled the row before this one */
    if (direct && rows > 1 && NAME(flows)(w))
        NAME(flow_sums)(w, rows);
    else if (direct && rows > 1 && rows <= XENT_SWEPT && !w->side_by_side)
        NAME(short_sums)(w, rows);
    else if (!w->side_by_side)
        for (int r = 0; r < rows; r++) {
            rowsum sum;
            KERNEL(row_sum)(w, r, &sum);
            put_sum(b, r, &sum);
        }
    KERNEL(batch_logs)(w, rows);
}

void KERNEL(sum_rows)(NAME(sweeper) * w, ptrdiff_t first, int rows) {
    ptrdiff_t row[XENT_ROWS];
    for (int r = 0; r < XENT_ROWS; r++) row[r] = first + r;
    KERNEL(find_these)(w, row, rows);
    KERNEL(sum_found)(w, rows);
}

/* The results of a batch of columns, in their places. */
static inline void NAME(put_columns)(NAME(sweeper) * w, int rows, const known_results *known) {
    if (w->x->blocks) {
        (w->x->blocks->twice ? NAME(long_columns_anew) : NAME(long_columns_scale))(w, rows, known);
        if (known) count_losses(known, rows);
        return;
    }
    NAME(narrow_scale)(w, rows, NULL);
    if (known && !NAME(leave_labels)(w, rows, known))
        NAME(put_labels)(known, rows, (REAL *const *)w->out_rows, w->out->columns);
}

/* The results of a batch whose rows are side by side. Of large results, rows that follow each other are put together
 * first, then stored past the cache as one. */
static inline void NAME(put_narrow)(NAME(sweeper) * w, int rows, const known_results *known) {
    const ptrdiff_t classes = w->layout->classes, size = classes * (ptrdiff_t)sizeof(REAL);
    const int down = rows > 1 && w->out_rows[1] < w->out_rows[0];
    int together = w->streams;
    for (int r = 1; r < rows && together; r++) together = w->out_rows[r] - w->out_rows[r - 1] == (down ? -size : size);
    REAL *first = (REAL *)w->out_rows[down ? rows - 1 : 0], *to[XENT_ROWS];
    REAL *start = w->kept + (uintptr_t)first % XENT_LINE / sizeof(REAL);
    to[0] = !together ? (REAL *)w->out_rows[0] : down ? start + (rows - 1) * classes : start; /* there is a row */
    for (int r = 1; r < rows; r++)
        to[r] = together ? start + (down ? rows - 1 - r : r) * classes : (REAL *)w->out_rows[r];
    NAME(narrow_scale)(w, rows, to);
    if (known) NAME(put_labels)(known, rows, to, 1);
    if (together) stream_out(first, start, rows * size);
}

/* Scale the terms of the rows of the last sum_rows, but those that flow (flow.h, long_flow.h), by their factors; NaN where a
 * row is not finite. */
void KERNEL(scale_rows)(NAME(sweeper) * w, int rows, const known_results *known) {
    const row_batch *b = &w->batch;
    const ptrdiff_t classes = w->layout->classes;
    const int asks =
        !NAME(asks_further)(SUM_IN_PLACE) && w->out->data == w->x->data && rows > 1 && !w->x->next && !w->x->columns;
    if (w->side_by_side && (!w->x->blocks || w->x->blocks->twice || NAME(long_columns_plain)(w, rows))) {
        (w->out->columns ? NAME(put_columns) : NAME(put_narrow))(w, rows, known);
        return;
    }
    const int single = classes <= XENT_BLOCK && w->out->direct;
    if (w->by_long_flow) NAME(let_blocks_flow)(w, known);
    for (int r = 0; r < rows; r++) {
        if (w->flowed[r]) continue;
        if (b->kind[r] != ROW_FINITE)
            NAME(row_fill)(w, w->out_rows[r], (REAL)NAN);
        else {
            /* In place, the logits of the next batch are asked for now, where no sweep does: memory would else wait. */
            for (size_t i = 0; asks && i < (size_t)classes * sizeof(REAL); i += XENT_LINE)
                __builtin_prefetch(w->out_rows[r] + i + XENT_LOGITS_AT_ONCE * sizeof(REAL), 0, 2);
            if (!single || !NAME(scale_plain_row)(w, r))
                NAME(row_scale)(w, r, (wide){w->factor_hi[r], w->factor_lo[r]});
        }
        if (known)
            NAME(write_element)(w, w->out_rows[r], (ptrdiff_t)known->labels[r], NAME(rounded)(known->label_is[r]));
    }
    if (known) count_losses(known, rows);
}

/* Whether rows of so many classes go past the cache where results are large. With AVX2 not those of few, nor those side by side,
 * whose lines are asked for meanwhile: 400000 x 12, 65536 x 100, and 5000000 x 10 of 200 MB take 0.83 to 0.93 of the time through
 * it, with two threads, 0.90 to 0.97 with one (with AVX-512, before lines were asked for, 65536 x 100 took 0.56 ns per logit past
 * it, 0.75 through it). */
XENT_INLINE int NAME(may_stream)(ptrdiff_t classes) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    return classes > XENT_THROUGH;
#else
    (void)classes;
    return 1;
#endif
}

/* Up to so many rows of few classes are taken one by one: side by side, XENT_SIDE of them take their time. With AVX2,
 * in us by a call: 8 x 200 2.6 against 5.4, 8 x 100 2.2 and 3.5, 4 x 32 1.6 and 2.1, 4 x 10 1.6 and 1.7; 10 x 32 the
 * same. */
XENT_INLINE int NAME(most_alone)(ptrdiff_t classes) {
    const ptrdiff_t most = 4 + classes / 6;
    return most < XENT_SWEPT ? (int)most : XENT_SWEPT;
}

int KERNEL(sweeper_start)(NAME(sweeper) * w, const xent_layout *layout, const xent_view *x, const xent_view *out,
                          block_scale *few, atomic_int *failed) {
    const size_t blocks = (size_t)((layout->classes + XENT_BLOCK - 1) / XENT_BLOCK);
    w->layout = layout, w->x = x, w->out = out;
    w->flow = (NAME(flow)){0}, w->edge.n = 0, w->waiting[0].waits = w->waiting[1].waits = 0, w->turn = 0;
    w->by_long_flow = w->long_asked = w->waiting_blocks.waits = 0, w->waiting_blocks.done = 0;
    w->long_memory = w->long_terms = NULL, w->long_slot = 0;
    w->first = 0, w->ahead = XENT_AHEAD, w->stores_ahead = XENT_STORES_AHEAD, w->gap = 0;
    w->batch.told = w->keeps_logits = w->holds = w->sent = 0, w->logs = 1;
    w->alone = NAME(most_alone)(layout->classes);
    w->streams = NAME(goes_past)(layout, x, out) && NAME(may_stream)(layout->classes);
    w->x_asked = w->out_asked = (asked_lines){0};
    if (x && layout->classes > 0 && layout->classes <= XENT_NARROW)
        w->x_asked = lines_of_rows(row_step(layout, x), layout->classes * (ptrdiff_t)sizeof(REAL), layout->classes);
    NAME(ask_for_results)(w, out);
    if (w->streams && layout->classes >= XENT_KEPT)
        memset(w->kept, 0, sizeof w->kept); /* lines are scaled whole: what is beside a row is to be a number */
    NAME(make_room)(w, 1.0);
    w->blocks = !out || blocks <= XENT_BLOCKS_ON_STACK ? few : malloc(blocks * sizeof *few);
    if (!w->blocks) atomic_store(failed, 1);
    return w->blocks != NULL;
}

void KERNEL(sweeper_stop)(NAME(sweeper) * w, const block_scale *few) {
    NAME(put_blocks)(w);
    NAME(put_waiting)(w);
    if (w->streams) stream_end();
    free(w->long_memory);
    if (w->blocks != few) free(w->blocks);
}
#endif
