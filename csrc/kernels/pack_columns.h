/* Rows that lie side by side in memory, packed as they lie: of each class a line of some rows that follow each other, which
 * kernels take as columns (narrow.h). So no number is turned on the way. Included once per dtype, in pack.c.
 *
 * While the rows of a pack are worked on, those of the next are asked for, into the second-level cache: in the first, they
 * would be gone before they are copied (1000 x 8192, axis 0: 0.42 ns per logit for the loss against 0.63). What is stored
 * past the cache goes by whole lines where it can: packs begin where lines of the result do (8 x 21 x 65536, packs and
 * nothing else: 0.4 ns a number where it takes 0.65 elsewhere).
 *
 * Where 2 XENT_SIDE rows are more than column_bytes allows, XENT_SIDE are taken, and come to the pack a block of classes at a
 * time, as the kernel asks for them, and go from there so: what is worked on is in the second-level cache, however long
 * they are. Of rows too long to be packed whole there is room for a block: each comes for the sums and, if there are results,
 * once more for these. Row by row, where they lie, each of them reads and writes all lines.
 */
#ifndef XENT_PACK_COLUMNS_H
#define XENT_PACK_COLUMNS_H
#include <stddef.h>

/* So many bytes are packed at a time, or XENT_SIDE rows, up to XENT_COLUMN_ROWS of them; and so many classes before one is
 * copied it is asked for. Results want long lines: by contiguous rows, one thread, AVX2, packs of 1 MiB, 512, 256 and 128
 * KiB: 4000 x 2048, axis 0, 2.2, 2.5, 2.4, 2.4; 1000 x 1024 1.5, 1.65, 1.85, 1.95; 2 MiB 1.9 and 1.5, but with two threads
 * as 1 MiB. Where there are none, what is packed is to stay near, and few rows come a block at a time, with their extremes:
 * loss of 1000 x 1024 1.5, 1.5, 1.5, 1.3, and with 64 KiB 1.3.
 *
 * Packs of more than COLUMN_NOTED, half of a second-level cache, have extremes counted on their way in and terms scaled on their
 * way out (column_notes): loss and gradient of 1000 x 8192, axis 0, take 0.93 of the time, 1000 x 1024 0.87 to 0.95, 300 x 32768
 * 0.97; where some rows need more, and the others are scaled in the pack, 0.95 to 1.02. Packs of 100 KiB took as long so, smaller
 * ones longer (21 x 262144 1.16). */
enum {
    XENT_COLUMN_BYTES = 1 << 20,
    XENT_COLUMN_SUMMED = 1 << 17,
    XENT_COLUMN_NOTED = 1 << 18,
    XENT_COLUMNS_AHEAD = 16
};

/* So many bytes of columns are packed at a time. */
XENT_INLINE ptrdiff_t column_bytes(const xent_view *out) {
    return out ? XENT_COLUMN_BYTES : XENT_COLUMN_SUMMED;
}

XENT_INLINE ptrdiff_t block_end(const xent_layout *layout, ptrdiff_t block) {
    const ptrdiff_t end = (block + 1) * XENT_BLOCK;
    return end < layout->classes ? end : layout->classes;
}
_Static_assert(XENT_COLUMN_BYTES / (2 * XENT_SIDE * (int)sizeof(float)) <= XENT_BLOCK,
               "column_notes have no room for classes");
#endif

#include "copy_columns.h"

/* Room for the packs of `rows` rows; 0 where there is none. */
static int NAME(columns_start)(NAME(pack) * pack, const xent_layout *layout, const xent_view *x, const xent_view *out,
                               ptrdiff_t rows) {
    enum { PER_LINE = XENT_LINE / (int)sizeof(REAL) };
    const ptrdiff_t all = (rows + XENT_SIDE - 1) / XENT_SIDE * XENT_SIDE;
    ptrdiff_t n = column_bytes(out) / (layout->classes * (ptrdiff_t)sizeof(REAL)) / XENT_SIDE * XENT_SIDE;
    n = n > XENT_COLUMN_ROWS ? XENT_COLUMN_ROWS : n < XENT_SIDE ? XENT_SIDE : n;
    pack->n = n < all ? n : all;
    pack->room = pack->n > XENT_SIDE ? pack->n + (XENT_COLUMN_ROOM - XENT_COLUMN_ROWS) : XENT_SIDE;
    pack->stride = pack->n > XENT_SIDE ? pack->room + PER_LINE : XENT_SIDE; /* an odd number of lines, as for rows */
    pack->past = NAME(goes_past)(layout, x, out);
    const ptrdiff_t classes = too_long_to_pack(layout, x) ? XENT_BLOCK : layout->classes;
    pack->memory = malloc((size_t)(classes * pack->stride) * sizeof(REAL) + XENT_LINE);
    pack->rows = pack->memory ? (REAL *)(void *)((char *)pack->memory + -(uintptr_t)pack->memory % XENT_LINE) : NULL;
    return pack->memory != NULL;
}

/* How many rows to pack from `first` on, up to `last`: fewer, once, where the next pack begins with a line of `view` then;
 * more, at the end, than to leave a few. */
static ptrdiff_t NAME(columns_at_once)(const NAME(pack) * pack, const xent_layout *layout, const xent_view *view,
                                       ptrdiff_t first, ptrdiff_t last) {
    const ptrdiff_t step = view->batch_stride[layout->n_batch - 1], size = magnitude(step);
    ptrdiff_t n = pack->n;
    if (size && XENT_LINE % size == 0) {
        const uintptr_t begin = (uintptr_t)row_of(layout, view, first) + (uintptr_t)(step < 0 ? size : 0);
        const ptrdiff_t within = (ptrdiff_t)((step < 0 ? -begin : begin) % XENT_LINE) / size;
        n -= within < n ? within : 0;
    }
    return last - first <= n || (last - first <= n + XENT_SIDE / 2 && last - first <= pack->room) ? last - first : n;
}

/* Lines of a class that lie in memory number by number, n of rows `at` and on of the pack, to it and from there. notes: NULL, or
 * extremes are counted, and terms scaled, for which C may use a plain pointer. */
static void NAME(lines_in)(const NAME(pack) * pack, NAME(column_notes) * notes, ptrdiff_t at, const char *from,
                           ptrdiff_t step, REAL *to, ptrdiff_t n, ptrdiff_t lines) {
    if (!notes) {
        NAME(copy_in)(from, step, to, pack->stride, n, lines);
        return;
    }
    const REAL *numbers = (const REAL *)(const void *)from;
    NAME(look_in)
    (numbers, step / (ptrdiff_t)sizeof(REAL), to, pack->stride, n, lines, notes->most + at, notes->least + at);
}
static void NAME(lines_out)(const NAME(pack) * pack, const NAME(column_notes) * notes, ptrdiff_t at, ptrdiff_t c,
                            const REAL *from, char *to, ptrdiff_t step, ptrdiff_t n, ptrdiff_t lines) {
    if (!notes) {
        NAME(copy_out)(from, pack->stride, to, step, n, lines, pack->past);
        return;
    }
    (pack->past ? NAME(scale_past) : NAME(scale_out))(from, pack->stride, notes, at, c, (REAL *)(void *)to,
                                                      step / (ptrdiff_t)sizeof(REAL), n, lines);
}

/* Classes begin .. end - 1 of rows first .. first + n - 1 of a view to those from `place` on of the pack, or from there. notes:
 * NULL, or those of a pack of all classes. */
static void NAME(move_columns)(const xent_layout *layout, const xent_view *view, ptrdiff_t first, ptrdiff_t n,
                               const NAME(pack) * pack, ptrdiff_t begin, ptrdiff_t end, ptrdiff_t place, int in,
                               NAME(column_notes) * notes) {
    const ptrdiff_t inner = layout->class_shape[layout->n_class - 1], step = view->class_stride[layout->n_class - 1];
    const ptrdiff_t padded = (n + XENT_SIDE - 1) / XENT_SIDE * XENT_SIDE;
    const int plain = view->type == NAME(own_type) && !view->swapped;
    REAL *to = pack->rows + place * pack->stride;
    for (ptrdiff_t c = 0; c < end - begin && in && n < padded; c++) /* not read as far or NaN */
        memset(to + c * pack->stride + n, 0, (size_t)(padded - n) * sizeof(REAL));
    for (ptrdiff_t at = 0; at < n;) {
        const row_run run = run_at(layout, view, first + at, n - at);
        char *row = row_of(layout, view, first + at);
        for (ptrdiff_t c = begin, lines; c < end; c += lines) {
            char *p = element_of(layout, view, row, c);
            REAL *line = to + (c - begin) * pack->stride + at;
            lines = inner - c % inner < end - c ? inner - c % inner : end - c;
            if (plain && run.step == (ptrdiff_t)sizeof(REAL)) {
                if (in)
                    NAME(lines_in)(pack, notes, at, p, step, line, run.rows, lines);
                else
                    NAME(lines_out)(pack, notes, at, c, line, p, step, run.rows, lines);
                continue;
            }
            const xent_grid grid = {lines, step, run.rows, run.step, XENT_COLUMNS_AHEAD};
            if (in)
                NAME(get_grid)(view, p, &grid, line, pack->stride);
            else
                NAME(put_grid)(view, p, &grid, line, pack->stride, pack->past);
        }
        at += run.rows;
    }
}

/* Packs of columns, one after another: n rows from `first` on. */
typedef struct {
    xent_blocks blocks; /* the first member: what it points to is this */
    NAME(pack) pack;
    const xent_layout *layout;
    const xent_view *x, *out;   /* out NULL: only sums are wanted */
    int x_aligned, out_aligned; /* are_aligned */
    NAME(column_notes) * notes; /* NULL: none */
    ptrdiff_t first, n;
    int declined;   /* the rows of this pack are left to be done where they lie */
    xent_view view; /* of the pack, as rows from `first` on */
} NAME(columns);
_Static_assert(offsetof(NAME(columns), blocks) == 0, "what is told of its blocks is to lead to a pack");

static void NAME(bring_block)(const xent_blocks *blocks, ptrdiff_t block, ptrdiff_t place, void *most, void *least) {
    const NAME(columns) *c = (const NAME(columns) *)blocks;
    const xent_layout *layout = c->layout;
    const xent_view *x = c->x;
    const ptrdiff_t begin = block * XENT_BLOCK, end = block_end(layout, block);
    const ptrdiff_t inner = layout->class_shape[layout->n_class - 1], step = x->class_stride[layout->n_class - 1];
    REAL *to = c->pack.rows + place * XENT_BLOCK * c->pack.stride, *high = most, *low = least;
    if (!c->x_aligned || run_at(layout, x, c->first, c->n).rows < XENT_SIDE) {
        NAME(move_columns)(layout, x, c->first, c->n, &c->pack, begin, end, place * XENT_BLOCK, 1, NULL);
        KERNEL(narrow_extremes)(to, c->pack.stride, end - begin, high, low);
        return;
    }
    for (int r = 0; r < XENT_SIDE; r++) high[r] = -REAL_INF, low[r] = REAL_INF;
    for (ptrdiff_t i = begin, lines; i < end; i += lines, to += lines * XENT_SIDE) {
        lines = inner - i % inner < end - i ? inner - i % inner : end - i;
        const char *from = element_of(layout, x, row_of(layout, x, c->first), i);
        NAME(copy_side)((const REAL *)(const void *)from, step / (ptrdiff_t)sizeof(REAL), to, lines, high, low);
    }
}
static void NAME(send_block)(const xent_blocks *blocks, ptrdiff_t block) {
    const NAME(columns) *c = (const NAME(columns) *)blocks;
    const ptrdiff_t begin = block * XENT_BLOCK, place = blocks->twice ? 0 : begin;
    NAME(move_columns)(c->layout, c->out, c->first, c->n, &c->pack, begin, block_end(c->layout, block), place, 0, NULL);
}

/* Whether C may use a plain pointer to rows of a view that lie side by side, number by number. */
static int NAME(are_aligned)(const xent_layout *layout, const xent_view *view) {
    uintptr_t places = (uintptr_t)view->data;
    for (int d = 0; d < layout->n_batch; d++) places |= (uintptr_t)view->batch_stride[d];
    for (int d = 0; d < layout->n_class; d++) places |= (uintptr_t)view->class_stride[d];
    return view->type == NAME(own_type) && !view->swapped && places % sizeof(REAL) == 0 &&
           view->batch_stride[layout->n_batch - 1] == (ptrdiff_t)sizeof(REAL);
}

/* Ready to pack `rows` rows; 0 where there is no memory. */
static int NAME(columns_begin)(NAME(columns) * c, const xent_layout *layout, const xent_view *x, const xent_view *out,
                               ptrdiff_t rows, atomic_int *failed) {
    *c = (NAME(columns)){.blocks = {.bring = NAME(bring_block), .send = NAME(send_block), .from = x},
                         .layout = layout,
                         .x = x,
                         .out = out};
    c->blocks.twice = too_long_to_pack(layout, x), c->blocks.declined = &c->declined;
    const int begun = NAME(columns_start)(&c->pack, layout, x, out, rows);
    c->x_aligned = NAME(are_aligned)(layout, x), c->out_aligned = out && NAME(are_aligned)(layout, out);
    const ptrdiff_t size = (ptrdiff_t)sizeof(REAL);
    c->view = plain_rows(layout, c->pack.rows, NAME(own_type), c->pack.stride * size, size, 0);
    c->view.direct = 0, c->view.columns = c->pack.stride, c->view.pairs = 1;
    c->view.blocks = 2 * XENT_SIDE * layout->classes * size > column_bytes(out) ? &c->blocks : NULL;
    const int large = c->pack.n * layout->classes * size > XENT_COLUMN_NOTED;
    c->notes = begun && large && out && c->x_aligned && !c->view.blocks ? malloc(sizeof *c->notes)
                                                                        : NULL; /* none is no harm */
    if (!begun) atomic_store(failed, 1);
    return begun;
}

/* Nothing is known of the rows of a pack yet; behind them it has zeros. */
static void NAME(begin_notes)(const NAME(columns) * c) {
    NAME(column_notes) *notes = c->notes;
    for (ptrdiff_t r = 0; r < XENT_COLUMN_ROOM; r++)
        notes->most[r] = r < c->n ? -REAL_INF : 0, notes->least[r] = r < c->n ? REAL_INF : 0;
    memset(notes->left, 0, sizeof notes->left);
    notes->labels = 0, notes->scales = c->out_aligned;
}

/* Some rows packed, or ready to be by blocks, from `first` on, up to `last`: c->n of them. The next ones are asked for while
 * they are worked on. */
static void NAME(columns_in)(NAME(columns) * c, ptrdiff_t first, ptrdiff_t last) {
    const xent_layout *layout = c->layout;
    const ptrdiff_t step = c->x->batch_stride[layout->n_batch - 1];
    c->declined = 0, c->first = first,
    c->n = NAME(columns_at_once)(&c->pack, layout, c->out ? c->out : c->x, first, last);
    xent_view *view = &c->view;
    begin_rows(view, c->pack.rows, (ptrdiff_t)sizeof(REAL), first);
    view->next = NULL;
    if (magnitude(step) <= XENT_LINE) { /* else hardly anything of a line is theirs */
        const ptrdiff_t before = step < 0 ? step * (XENT_SIDE - 1) : 0;
        view->next_class = c->x->class_stride[layout->n_class - 1], view->next_side = XENT_SIDE * step;
        c->blocks.here = row_of(layout, c->x, first) + before;
        if (first + c->n < last) view->next = row_of(layout, c->x, first + c->n) + before;
    }
    view->notes = c->notes;
    if (c->notes) NAME(begin_notes)(c);
    if (!view->blocks) NAME(move_columns)(layout, c->x, first, c->n, &c->pack, 0, layout->classes, 0, 1, c->notes);
}

/* Rows by their labels. */
static void NAME(sort_labels)(NAME(column_notes) * notes, ptrdiff_t n, ptrdiff_t classes) {
    memset(notes->first_of, -1, (size_t)classes * sizeof *notes->first_of);
    for (ptrdiff_t r = 0; r < n; r++) {
        int16_t *first = &notes->first_of[notes->label[r]];
        notes->next_of[r] = *first, *first = (int16_t)r;
    }
}

/* Their results in their places. Where only some were left to be scaled, these are scaled in the pack. */
static void NAME(columns_out)(NAME(columns) * c) {
    if (!c->out || c->view.blocks) return;
    NAME(column_notes) *notes = c->notes;
    const ptrdiff_t sides = (c->n + XENT_SIDE - 1) / XENT_SIDE, classes = c->layout->classes;
    ptrdiff_t unscaled = 0;
    for (ptrdiff_t i = 0; i < sides && notes; i++) unscaled += notes->left[i];
    if (unscaled < sides) {
        if (unscaled) KERNEL(scale_left)(notes, c->n, c->pack.rows, c->pack.stride, classes);
        notes = NULL;
    } else if (notes->labels)
        NAME(sort_labels)(notes, c->n, classes);
    NAME(move_columns)(c->layout, c->out, c->first, c->n, &c->pack, 0, classes, 0, 0, notes);
}

static void NAME(columns_end)(NAME(columns) * c) {
    if (c->pack.past) stream_end();
    free(c->notes);
    free(c->pack.memory);
}

/* float64 rows may need different guards, and then cannot all go together (rows_alike in cross_entropy.c). */
static int NAME(loss_by_columns)(const xent_loss_args *a) {
    const xent_cross_entropy_problem *p = a->problem;
    const int alike = sizeof(REAL) == 4 || (!p->sample_weight.data && !p->class_weight.data && !p->grad_loss.data);
    const int labels =
        !a->probabilities && p->label_smoothing == 0.0; /* what takes target rows does not take columns */
    return a->packed_runs && labels && alike && by_columns(a->layout, a->logits, a->grad);
}

static void NAME(loss_by_rows)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group); /* pack.c */

static void NAME(columns_loss)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last) {
    xent_loss_args inner = *a;
    NAME(columns) c;
    if (!NAME(columns_begin)(&c, a->layout, a->logits, a->grad, last - first, a->failed)) return;
    inner.logits = &c.view, inner.grad = a->grad ? &c.view : NULL;
    for (; first < last; first += c.n) {
        NAME(columns_in)(&c, first, last);
        a->packed(&inner, first, first + c.n, first / a->group_rows);
        if (c.declined) NAME(loss_by_rows)(a, first, first + c.n, first / a->group_rows);
        NAME(columns_out)(&c);
    }
    NAME(columns_end)(&c);
}

static void NAME(columns_reduce)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    xent_reduce_args inner = *a;
    NAME(columns) c;
    if (!NAME(columns_begin)(&c, a->layout, a->x, a->out, last - first, a->failed)) return;
    inner.x = &c.view, inner.out = a->out ? &c.view : NULL;
    for (; first < last; first += c.n) {
        NAME(columns_in)(&c, first, last);
        a->packed(&inner, first, first + c.n);
        if (c.declined) a->packed(a, first, first + c.n); /* 16 bits have no results here */
        NAME(columns_out)(&c);
    }
    NAME(columns_end)(&c);
}
