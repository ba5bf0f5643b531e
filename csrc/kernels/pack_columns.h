/* Rows that lie side by side in memory, packed as they lie: of each class a line of some rows that follow each other, which
 * kernels take as columns (narrow.h). So no number is turned on the way. Included once per dtype, in pack.c.
 *
 * While the rows of a pack are worked on, those of the next are asked for, into the second-level cache: in the first, they
 * would be gone before they are copied (1000 x 8192, axis 0: 0.42 ns per logit for the loss against 0.63). What is stored
 * past the cache goes by whole lines where it can: packs begin where lines of the result do (8 x 21 x 65536, packs and
 * nothing else: 0.4 ns a number where it takes 0.65 elsewhere).
 */
#ifndef XENT_PACK_COLUMNS_H
#define XENT_PACK_COLUMNS_H
/* So many bytes are packed at a time, or XENT_SIDE rows, up to XENT_COLUMN_ROWS of them; and so many classes before one is
 * copied it is asked for. 1000 x 9000, axis 0, whose classes begin within lines: 1.5 times contiguous rows with packs of
 * 512 KiB, 1.6 with 256, 2.0 with 128; 1000 x 8192: 1.4, 1.4, 1.6; few classes: the same. */
enum { XENT_COLUMN_BYTES = 1 << 19, XENT_COLUMN_ROWS = 256, XENT_COLUMNS_AHEAD = 16 };
#endif

/* Room for the packs of `rows` rows; 0 where there is none. */
static int NAME(columns_start)(NAME(pack) * pack, const xent_layout *layout, const xent_view *x, const xent_view *out,
                               ptrdiff_t rows) {
    enum { PER_LINE = XENT_LINE / (int)sizeof(REAL) };
    const ptrdiff_t all = (rows + XENT_SIDE - 1) / XENT_SIDE * XENT_SIDE;
    ptrdiff_t n = XENT_COLUMN_BYTES / (layout->classes * (ptrdiff_t)sizeof(REAL)) / XENT_SIDE * XENT_SIDE;
    n = n > XENT_COLUMN_ROWS ? XENT_COLUMN_ROWS : n < XENT_SIDE ? XENT_SIDE : n;
    pack->n = n < all ? n : all;
    pack->room = pack->n > XENT_SIDE ? pack->n + XENT_SIDE : XENT_SIDE;
    pack->stride = pack->n > XENT_SIDE ? pack->room + PER_LINE : XENT_SIDE; /* an odd number of lines, as for rows */
    pack->past = NAME(goes_past)(layout, x, out);
    pack->memory = malloc((size_t)(layout->classes * pack->stride) * sizeof(REAL) + XENT_LINE);
    pack->rows = pack->memory ? (REAL *)(void *)((char *)pack->memory + -(uintptr_t)pack->memory % XENT_LINE) : NULL;
    return pack->memory != NULL;
}

/* How many rows to pack from `first` on, up to `last`: fewer, once, where the next pack begins with a line of `view` then;
 * more, at the end, than to leave a few. */
static ptrdiff_t NAME(columns_at_once)(const NAME(pack) * pack, const xent_layout *layout, const xent_view *view,
                                       ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t size = SIZE_OF[view->type];
    ptrdiff_t n = pack->n;
    if (view->batch_stride[layout->n_batch - 1] == size) {
        const ptrdiff_t within = (ptrdiff_t)((uintptr_t)row_of(layout, view, first) % XENT_LINE) / size;
        n -= within < n ? within : 0;
    }
    return last - first <= n || (last - first <= n + XENT_SIDE / 2 && last - first <= pack->room) ? last - first : n;
}

/* n numbers each of some lines, as they are. What is not in the pack of a line is asked for some lines before. */
XENT_INLINE void NAME(copy_lines)(const char *restrict from, ptrdiff_t from_step, char *restrict to, ptrdiff_t to_step,
                                  ptrdiff_t n, ptrdiff_t lines, const int in) {
    enum { SIZE = sizeof(REAL) };
    const ptrdiff_t bytes = n * SIZE, whole = bytes / XENT_LINE * XENT_LINE;
    for (ptrdiff_t c = 0; c < lines; c++, from += from_step, to += to_step) {
        const char *later = (in ? from : to) + XENT_COLUMNS_AHEAD * (in ? from_step : to_step);
        for (ptrdiff_t i = 0; i < whole; i += XENT_LINE) {
            if (in)
                __builtin_prefetch(later + i, 0, 2);
            else
                __builtin_prefetch(later + i, 1);
            memcpy(to + i, from + i, XENT_LINE);
        }
        if (in) /* where lines begin within one of memory, they end within another */
            __builtin_prefetch(later + bytes - 1, 0, 2);
        else
            __builtin_prefetch(later + bytes - 1, 1);
        for (ptrdiff_t i = whole; i < bytes; i += SIZE) memcpy(to + i, from + i, SIZE);
    }
}
XENT_NOINLINE void NAME(copy_in)(const char *from, ptrdiff_t step, NAME(pack) * pack, ptrdiff_t at, ptrdiff_t n,
                                 ptrdiff_t lines) {
    NAME(copy_lines)
    (from, step, (char *)(pack->rows + at), pack->stride * (ptrdiff_t)sizeof(REAL), n, lines, 1);
}
XENT_NOINLINE void NAME(copy_out)(const NAME(pack) * pack, ptrdiff_t at, char *to, ptrdiff_t step, ptrdiff_t n,
                                  ptrdiff_t lines) {
    const REAL *from = pack->rows + at;
    for (; pack->past && lines; lines--, from += pack->stride, to += step)
        stream_out(to, from, n * (ptrdiff_t)sizeof(REAL));
    NAME(copy_lines)((const char *)from, pack->stride * (ptrdiff_t)sizeof(REAL), to, step, n, lines, 0);
}

/* Rows first .. first + n - 1 of a view to the pack, or from there. */
static void NAME(move_columns)(const xent_layout *layout, const xent_view *view, ptrdiff_t first, ptrdiff_t n,
                               NAME(pack) * pack, int in) {
    const ptrdiff_t inner = layout->class_shape[layout->n_class - 1], step = view->class_stride[layout->n_class - 1];
    const ptrdiff_t padded = (n + XENT_SIDE - 1) / XENT_SIDE * XENT_SIDE;
    const int plain = view->type == NAME(own_type) && !view->swapped;
    for (ptrdiff_t c = 0; c < layout->classes && in && n < padded; c++) /* not read as far or NaN */
        memset(pack->rows + c * pack->stride + n, 0, (size_t)(padded - n) * sizeof(REAL));
    for (ptrdiff_t at = 0; at < n;) {
        const row_run run = run_at(layout, view, first + at, n - at);
        char *row = row_of(layout, view, first + at);
        for (ptrdiff_t c = 0; c < layout->classes; c += inner) {
            char *p = element_of(layout, view, row, c);
            const ptrdiff_t place = c * pack->stride + at;
            if (plain && run.step == (ptrdiff_t)sizeof(REAL)) {
                if (in)
                    NAME(copy_in)(p, step, pack, place, run.rows, inner);
                else
                    NAME(copy_out)(pack, place, p, step, run.rows, inner);
                continue;
            }
            for (ptrdiff_t i = 0; i < inner; i++, p += step) {
                REAL *line = pack->rows + place + i * pack->stride;
                if (in)
                    NAME(get_line)(view, p, run.step, run.rows, line);
                else
                    NAME(put_line)(view, p, run.step, run.rows, line, pack->past);
            }
        }
        at += run.rows;
    }
}

/* n rows packed, as a view whose row `first` is the first of them; the next ones are asked for meanwhile, up to `last`. */
static xent_view NAME(view_of_columns)(const NAME(pack) * pack, const xent_layout *layout, const xent_view *from,
                                       ptrdiff_t first, ptrdiff_t n, ptrdiff_t last) {
    const ptrdiff_t size = (ptrdiff_t)sizeof(REAL), step = from->batch_stride[layout->n_batch - 1];
    xent_view view = plain_rows(layout, pack->rows, NAME(own_type), pack->stride * size, size, first);
    view.direct = 0, view.columns = pack->stride, view.first = first, view.pairs = 1;
    if (first + n < last && magnitude(step) <= XENT_LINE) { /* else hardly anything of a line is theirs */
        view.next = row_of(layout, from, first + n) + (step < 0 ? step * (XENT_SIDE - 1) : 0);
        view.next_class = from->class_stride[layout->n_class - 1], view.next_side = XENT_SIDE * step;
    }
    return view;
}

/* float64 rows may need different guards, and then cannot all go together (rows_alike in cross_entropy.c). */
static int NAME(loss_by_columns)(const xent_loss_args *a) {
    const xent_cross_entropy_problem *p = a->problem;
    const int alike = sizeof(REAL) == 4 || (!p->sample_weight.data && !p->class_weight.data && !p->grad_loss.data);
    return a->packed_runs && alike && by_columns(a->layout, a->logits, a->grad);
}

static void NAME(columns_loss)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last) {
    xent_loss_args inner = *a;
    NAME(pack) pack;
    if (!NAME(columns_start)(&pack, a->layout, a->logits, a->grad, last - first)) {
        atomic_store(a->failed, 1);
        return;
    }
    for (ptrdiff_t n; first < last; first += n) {
        n = NAME(columns_at_once)(&pack, a->layout, a->grad ? a->grad : a->logits, first, last);
        const xent_view view = NAME(view_of_columns)(&pack, a->layout, a->logits, first, n, last);
        inner.logits = &view;
        if (a->grad) inner.grad = &view;
        NAME(move_columns)(a->layout, a->logits, first, n, &pack, 1);
        a->packed(&inner, first, first + n, first / a->group_rows);
        if (a->grad) NAME(move_columns)(a->layout, a->grad, first, n, &pack, 0);
    }
    if (pack.past) stream_end();
    free(pack.memory);
}

static void NAME(columns_reduce)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    xent_reduce_args inner = *a;
    NAME(pack) pack;
    if (!NAME(columns_start)(&pack, a->layout, a->x, a->out, last - first)) {
        atomic_store(a->failed, 1);
        return;
    }
    for (ptrdiff_t n; first < last; first += n) {
        n = NAME(columns_at_once)(&pack, a->layout, a->out ? a->out : a->x, first, last);
        const xent_view view = NAME(view_of_columns)(&pack, a->layout, a->x, first, n, last);
        inner.x = &view;
        if (a->out) inner.out = &view;
        NAME(move_columns)(a->layout, a->x, first, n, &pack, 1);
        a->packed(&inner, first, first + n);
        if (a->out) NAME(move_columns)(a->layout, a->out, first, n, &pack, 0);
    }
    if (pack.past) stream_end();
    free(pack.memory);
}
