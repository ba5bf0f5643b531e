/* Rows that cannot be worked on where they are: another axis than the last, any strides, another byte order, float16 and
 * bfloat16. Some of them at a time are packed into a scratch of the thread's own, as plain rows; the kernel works there,
 * in place, as it would on any rows; what it leaves is put where it belongs, large results past the cache. So each number
 * is read and written once, by whole lines where rows are neighbours: squares are turned by shuffles on the way, unless the
 * kernel takes neighbours as they lie (pack_columns.h).
 */
#ifndef REAL
#define KERNEL_FILE "pack.c"
#include "for_each_dtype.h"
#else
#include "row.h"

#ifndef XENT_PACK_C
#define XENT_PACK_C
/* Of rows that are neighbours in memory as many are packed at a time as stay in the second-level cache beside the next, or
 * XENT_PACKED, four lines of float32, if that is more and stays under XENT_PACK_MOST bytes; where classes are neighbours, as
 * many as stay in the first-level cache. One row at least, whatever its length, which only 16 bits leave open. Loss and
 * gradient by contiguous rows, two threads, each pair in one run: 1000 x 8192, axis 0, packs of 512 KiB 2.0, of 256 2.6 (384
 * and 768, in another: as 512); 32000 x 1024, 64 rows 4.8, 32 rows 6.0; 32 rows 6.8, 16 rows 9.3. Packs of 8 to 64 KiB of
 * rows one by one: the same; of 16 bits 16 a little faster, with the results beside them (8192 x 1000 1 to 3 %). */
enum {
    XENT_PACKED = 64,
    XENT_PACK_NEAR = 16384,
    XENT_PACK_FAR = 524288,
    XENT_PACK_MOST = 1 << 23,
    XENT_CLASSES_AHEAD = 32,
    XENT_PACK_ROWS = 256
};

/* Rows that follow each other: `step` bytes lie between them. */
typedef struct {
    ptrdiff_t rows, step;
    int sideways; /* they lie side by side: to be taken a class of all at once */
} row_run;

static row_run run_at(const xent_layout *layout, const xent_view *view, ptrdiff_t row, ptrdiff_t n) {
    if (!layout->n_batch || !layout->n_class) return (row_run){1, 0, 0};
    const ptrdiff_t inner = layout->batch_shape[layout->n_batch - 1], left = inner - row % inner;
    row_run run = {n < left ? n : left, view->batch_stride[layout->n_batch - 1], 0};
    run.sideways = run.rows >= 4 && magnitude(run.step) < magnitude(view->class_stride[layout->n_class - 1]);
    return run;
}

/* A class of rows that lie side by side is asked for some classes before it is taken: each is in a page of its own,
 * where no processor looks ahead by itself. */
static void ask_for(const char *p, const row_run *run, int in) {
    const ptrdiff_t step = magnitude(run->step), each = !step ? run->rows : step < XENT_LINE ? XENT_LINE / step : 1;
    for (ptrdiff_t r = 0; r < run->rows; r += each)
        if (in)
            __builtin_prefetch(p + r * run->step, 0, 2);
        else
            __builtin_prefetch(p + r * run->step, 1);
}
#endif

#include "lines.h"

/* The scratch that rows are packed into: `stride` numbers from row to row. */
typedef struct {
    REAL *rows;
    ptrdiff_t stride, n, room; /* room: of columns, more rows than n at the end */
    int neighbours;            /* the rows lie side by side */
    int past;                  /* results go past the cache */
    void *memory;
} NAME(pack);

/* So many classes are turned at once: 8 of float32. With 4, 1000 x 8192 takes 1.97 where it takes 1.79; with 16,
 * 2.0, and 1000 x 1024 takes 2.9 where it takes 2.2. */
enum { NAME(TURNED) = 2 * NAME(SQUARE) };

/* n classes of `rows` rows, as lines of classes: lines[i] is that of the i-th, packed row r begins at to + r stride. */
XENT_INLINE void NAME(lines_to_pack)(REAL *const *lines, int n, ptrdiff_t rows, REAL *to, ptrdiff_t stride) {
    ptrdiff_t r = 0;
#ifdef XENT_SHUFFLES
    for (; n == NAME(TURNED) && r + NAME(SQUARE) <= rows; r += NAME(SQUARE))
        for (int i = 0; i < NAME(TURNED); i += NAME(SQUARE))
            NAME(square)((const REAL *const *)lines + i, r, to + r * stride + i, stride);
#endif
    for (; r < rows; r++)
        for (int i = 0; i < n; i++) to[r * stride + i] = lines[i][r];
}

XENT_INLINE void NAME(pack_to_lines)(REAL *const *lines, int n, ptrdiff_t rows, const REAL *from, ptrdiff_t stride) {
    ptrdiff_t r = 0;
#ifdef XENT_SHUFFLES
    for (; n == NAME(TURNED) && r + NAME(SQUARE) <= rows; r += NAME(SQUARE))
        for (int i = 0; i < NAME(TURNED); i += NAME(SQUARE))
            NAME(square_back)(from + r * stride + i, stride, lines + i, r);
#endif
    for (; r < rows; r++)
        for (int i = 0; i < n; i++) lines[i][r] = from[r * stride + i];
}

/* A run of rows that lie side by side, `in` to the pack or from there, a class of all of them at once. */
static void NAME(move_sideways)(const xent_layout *layout, const xent_view *view, char *first, const row_run *run,
                                NAME(pack) * pack, ptrdiff_t row, int in) {
    const ptrdiff_t classes = layout->classes;
    const int in_place = view->type == NAME(own_type) && !view->swapped && run->step == (ptrdiff_t)sizeof(REAL);
    const int past = !in && pack->past && magnitude(run->step) == SIZE_OF[view->type];
    REAL few[NAME(TURNED)][XENT_PACK_ROWS], *lines[NAME(TURNED)];
    for (ptrdiff_t c = 0; c < classes; c += NAME(TURNED)) {
        const int n = classes - c < NAME(TURNED) ? (int)(classes - c) : NAME(TURNED);
        REAL *packed = pack->rows + row * pack->stride + c;
        char *places[NAME(TURNED)];
        for (ptrdiff_t ahead = c + XENT_CLASSES_AHEAD; ahead < c + XENT_CLASSES_AHEAD + n && ahead < classes; ahead++)
            if (!past) ask_for(element_of(layout, view, first, ahead), run, in);
        for (int i = 0; i < n; i++) {
            places[i] = element_of(layout, view, first, c + i);
            const int plain = in_place && !past && (uintptr_t)places[i] % sizeof(REAL) == 0;
            lines[i] = plain ? (REAL *)(void *)places[i] : few[i];
            if (in && !plain) NAME(get_line)(view, places[i], run->step, run->rows, few[i]);
        }
        if (in)
            NAME(lines_to_pack)(lines, n, run->rows, packed, pack->stride);
        else
            NAME(pack_to_lines)(lines, n, run->rows, packed, pack->stride);
        for (int i = 0; i < n && !in; i++)
            if (lines[i] == few[i]) NAME(put_line)(view, places[i], run->step, run->rows, few[i], past);
    }
}

/* A run of rows that do not lie side by side: one grid, or, where there is more than one class axis, some of each row. */
static void NAME(move_grids)(const xent_layout *layout, const xent_view *view, char *first, const row_run *run,
                             NAME(pack) * pack, ptrdiff_t row, int in) {
    const int last = layout->n_class - 1;
    xent_grid grid = {.rows = run->rows, .row_step = run->step, .n = layout->classes};
    ptrdiff_t packed_step = pack->stride, turns = 1, plane = layout->classes;
    if (last >= 0) grid.n = layout->class_shape[last], grid.stride = view->class_stride[last];
    if (last > 0) {
        grid.rows = layout->class_shape[last - 1], grid.row_step = view->class_stride[last - 1];
        packed_step = grid.n, turns = run->rows, plane = grid.n * grid.rows;
    } else if (packed_step == grid.n &&
               grid.row_step == grid.n * grid.stride) /* each begins where the one before ends */
        grid.n *= grid.rows, grid.rows = 1;
    for (ptrdiff_t r = 0; r < turns; r++, first += run->step)
        for (ptrdiff_t c = 0; c < layout->classes; c += plane) {
            REAL *packed = pack->rows + (row + r) * pack->stride + c;
            char *p = element_of(layout, view, first, c);
            if (in)
                NAME(get_grid)(view, p, &grid, packed, packed_step);
            else
                NAME(put_grid)(view, p, &grid, packed, packed_step, pack->past);
        }
}

/* Rows first .. first + n - 1 of a view to the pack, or from there. */
static void NAME(move_rows)(const xent_layout *layout, const xent_view *view, ptrdiff_t first, ptrdiff_t n,
                            NAME(pack) * pack, int in) {
    for (ptrdiff_t at = 0, rows; at < n; at += rows) {
        const row_run run = run_at(layout, view, first + at, n - at < XENT_PACK_ROWS ? n - at : XENT_PACK_ROWS);
        rows = run.rows;
        (run.sideways ? NAME(move_sideways) : NAME(move_grids))(layout, view, row_of(layout, view, first + at), &run,
                                                                pack, at, in);
    }
}

/* Room for some rows, whole groups of them; 0 where there is none. */
static int NAME(pack_start)(NAME(pack) * pack, const xent_layout *layout, const xent_view *x, const xent_view *out,
                            ptrdiff_t rows, ptrdiff_t group) {
    const xent_view *view = x->direct ? out : x;
    const ptrdiff_t size = layout->classes * (ptrdiff_t)sizeof(REAL),
                    step = layout->n_batch ? view->batch_stride[layout->n_batch - 1] : 0;
    pack->neighbours = layout->n_class && magnitude(step) < magnitude(view->class_stride[layout->n_class - 1]);
    ptrdiff_t n = (pack->neighbours ? XENT_PACK_FAR : XENT_PACK_NEAR) / (size ? size : 1);
    if (pack->neighbours && n < XENT_PACKED)
        n = XENT_PACKED * size <= XENT_PACK_MOST ? XENT_PACKED : XENT_PACK_MOST / size;
    pack->past = NAME(goes_past)(layout, x, out);
    n = n > XENT_PACK_ROWS ? XENT_PACK_ROWS : n < 1 ? 1 : n;
    n = (n + group - 1) / group * group;
    pack->n = n < rows ? n : rows;
    pack->stride = layout->classes;
    if (layout->classes > XENT_NARROW) /* an odd number of lines, so that rows take turns in the sets of a cache */
        pack->stride = whole_groups(layout->classes) + XENT_LINE / (ptrdiff_t)sizeof(REAL);
    pack->memory = malloc((size_t)(pack->n * pack->stride) * sizeof(REAL) + XENT_LINE);
    pack->rows = pack->memory ? (REAL *)(void *)((char *)pack->memory + -(uintptr_t)pack->memory % XENT_LINE) : NULL;
    return pack->memory != NULL;
}

/* The pack as a view whose row `first` is the pack's first, in *view, which has been one of it. While its rows are summed,
 * those that will be packed next are asked for; but where terms are stored elsewhere, and memory is busy with that (4096 x
 * 2000, every second class: 1.1 ns per logit against 0.9). */
static void NAME(view_pack)(const NAME(pack) * pack, const xent_layout *layout, const xent_view *from,
                            const xent_view *out, ptrdiff_t first, xent_view *view) {
    begin_rows(view, pack->rows, pack->stride * (ptrdiff_t)sizeof(REAL), first);
    view->pairs = 1, view->next = NULL;
    if (!layout->n_class || !layout->n_batch || (out && out->direct)) return;
    const ptrdiff_t step = from->class_stride[layout->n_class - 1], row = from->batch_stride[layout->n_batch - 1];
    if (pack->neighbours && (!row || magnitude(row) > XENT_LINE)) return;
    view->next = row_of(layout, from, first + pack->n);
    if (pack->neighbours) {
        view->pairs = (pack->n * magnitude(row) - 1) / (2 * XENT_LINE) + 1;
        if (row < 0) view->next += row * (pack->n - 1);
        view->next_step = step, view->next_row = layout->classes / XENT_LANES * step;
        view->next_class = step, view->next_side = XENT_SIDE * magnitude(row);
    } else { /* from the lowest address on, as they will be read */
        view->next_step = magnitude(step) * XENT_LANES, view->next_row = row;
        if (view->next_step > 2 * XENT_LINE) /* as that of every second class, which spans four lines */
            view->next_more = view->next_step / 2;
        if (step < 0) view->next += step * (layout->class_shape[layout->n_class - 1] - 1);
    }
}

#include "pack_halves.h"
#include "pack_columns.h"

/* Packs, one after another. */
typedef struct {
    NAME(pack) pack;
    NAME(halves) halves;
    const xent_layout *layout;
    const xent_view *x, *out; /* out NULL: no results are left in the pack */
    xent_view view;           /* of the pack */
} NAME(packs);

/* Ready to pack `rows` rows, whole groups of them; 0 where there is no memory. */
static int NAME(packs_begin)(NAME(packs) * p, const xent_layout *layout, const xent_view *x, const xent_view *out,
                             ptrdiff_t rows, ptrdiff_t group, atomic_int *failed) {
    p->layout = layout, p->x = x, p->out = out && out->direct ? NULL : out;
    if (!NAME(pack_start)(&p->pack, layout, x, out, rows, group)) {
        atomic_store(failed, 1);
        return 0;
    }
    NAME(halves_start)(&p->halves, layout, p->out, &p->pack);
    const ptrdiff_t size = (ptrdiff_t)sizeof(REAL);
    p->view = plain_rows(layout, p->pack.rows, NAME(own_type), size, p->pack.stride * size, 0);
    p->view.left = &p->halves.left;
    return 1;
}
static void NAME(packs_in)(NAME(packs) * p, const xent_view *out, ptrdiff_t first, ptrdiff_t n) {
    NAME(view_pack)(&p->pack, p->layout, p->x, out, first, &p->view);
    NAME(move_rows)(p->layout, p->x, first, n, &p->pack, 1);
}
static void NAME(packs_out)(NAME(packs) * p, ptrdiff_t first, ptrdiff_t n) {
    if (p->halves.out)
        NAME(halves_out)(&p->halves, p->layout, &p->pack, first, n);
    else if (p->out)
        NAME(move_rows)(p->layout, p->out, first, n, &p->pack, 0);
}
static void NAME(packs_end)(NAME(packs) * p) {
    NAME(halves_end)(&p->halves);
    if (p->pack.past) stream_end();
    free(p->pack.memory);
}

/* a->packed on packed rows; it is given several groups at once where it can take them. */
static void NAME(packs_loss)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    xent_loss_args inner = *a;
    NAME(packs) p;
    if (!NAME(packs_begin)(&p, a->layout, a->logits, a->grad, last - first, a->group_rows, a->failed)) return;
    inner.group_rows = a->packed_runs ? a->group_rows : 0;
    inner.logits = &p.view, inner.grad = p.out ? &p.view : a->grad;
    for (ptrdiff_t n; first < last; first += n, group += n / a->group_rows) {
        n = last - first < p.pack.n ? last - first : p.pack.n;
        NAME(packs_in)(&p, a->grad, first, n);
        const ptrdiff_t step = a->packed_runs ? n : a->group_rows;
        for (ptrdiff_t at = 0; at < n; at += step)
            a->packed(&inner, first + at, first + (n - at < step ? n : at + step), group + at / a->group_rows);
        NAME(packs_out)(&p, first, n);
    }
    NAME(packs_end)(&p);
}

/* The same of rows too long for it, where they lie; 16 bits, which cannot be worked on there, are packed. */
static void NAME(loss_by_rows)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    xent_loss_args inner = *a;
    if (is_half(a->logits->type)) {
        NAME(packs_loss)(a, first, last, group);
        return;
    }
    inner.group_rows = a->packed_runs ? a->group_rows : 0;
    const ptrdiff_t step = a->packed_runs ? last - first : a->group_rows;
    for (ptrdiff_t n; first < last; first += n, group += n / a->group_rows) {
        n = last - first < step ? last - first : step;
        a->packed(&inner, first, first + n, group);
    }
}

void KERNEL(packed_loss)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    if (NAME(loss_by_columns)(a))
        NAME(columns_loss)(a, first, last);
    else if (too_long_to_pack(a->layout, a->logits))
        NAME(loss_by_rows)(a, first, last, group);
    else
        NAME(packs_loss)(a, first, last, group);
}

/* The same for reductions. */
static void NAME(packs_reduce)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    xent_reduce_args inner = *a;
    NAME(packs) p;
    const ptrdiff_t group =
        a->layout->classes <= XENT_NARROW ? XENT_SIDE : 1; /* 256 classes, float16: 0.6 of the time */
    if (!NAME(packs_begin)(&p, a->layout, a->x, a->out, last - first, group, a->failed)) return;
    inner.x = &p.view, inner.out = p.out ? &p.view : a->out;
    for (ptrdiff_t n; first < last; first += n) {
        n = last - first < p.pack.n ? last - first : p.pack.n;
        NAME(packs_in)(&p, a->out, first, n);
        a->packed(&inner, first, first + n);
        NAME(packs_out)(&p, first, n);
    }
    NAME(packs_end)(&p);
}

void KERNEL(packed_reduce)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    if (by_columns(a->layout, a->x, a->out))
        NAME(columns_reduce)(a, first, last);
    else if (too_long_to_pack(a->layout, a->x) && !is_half(a->x->type)) /* threads have become more meanwhile */
        a->packed(a, first, last);
    else
        NAME(packs_reduce)(a, first, last);
}
#endif
