/* Whole rows: their sums, and their terms scaled out, as sweeper.c does it for all kernels. Included once per dtype. */
#include <stdlib.h>

#include "asked.h"
#include "half.h"
#include "loss_sums.h"
#include "rowsum.h"

#ifndef XENT_ROW_H
#define XENT_ROW_H
/* What the terms of one block were stored relative to. */
typedef struct {
    double max, scale;
    int far;
} block_scale;
/* Rows are taken several at a time, as many as stay in the first-level cache: XENT_SWEPT at most, or XENT_ROWS of up
 * to XENT_NARROW classes, which are worked on XENT_SIDE side by side, a row per vector element. (With AVX2, loss and
 * gradient and softmax of rows of 130 classes take 0.69 and 0.58 of the time of rows one by one, of 200 0.78 and 0.55,
 * of 256 0.90 and 0.67, of 300 0.90 and 0.82, of 384 1.02 and 0.97; float64 0.64, 0.88, 1.05. With AVX-512 100 were
 * faster so, 128 the same.) */
enum {
    XENT_BLOCKS_ON_STACK = 64,
    XENT_SWEPT = 16,
    XENT_LOGITS_AT_ONCE = 8192,
    XENT_FLOWING = 3,
    XENT_ROWS = 64,
#if defined(__AVX512F__)
    XENT_NARROW = 128,
#else
    XENT_NARROW = 256,
#endif
    XENT_FEW_SHARP = 8,        /* of XENT_SIDE rows at most: their rests are found one by one (narrow.h) */
    XENT_NARROW_LOGITS = 4096, /* so many of their logits at once, or those of XENT_SIDE rows */
    XENT_COLUMN_BLOCKS = XENT_COLUMN_CLASSES / XENT_BLOCK,
    XENT_COLUMN_ROWS = 256, /* so many are packed as columns at most; at the end of all, some more */
    XENT_COLUMN_ROOM = XENT_COLUMN_ROWS + XENT_SIDE,
    XENT_LONG_BLOCKS = 64,     /* of a row that flows (long_flow.h), */
    XENT_LONG_MEMORY = 5 << 19 /* for whose terms the threads of a call have so many bytes */
};
/* What is done with terms on their way from columns to rows. */
enum { UNSCALED, SCALED, SCALED_FLUSHING /* where results may vanish */ };
/* Results of this size go past the cache: in rows of XENT_KEPT classes and more, one by one (flow.h; with AVX-512 40,000 x 168
 * is no faster so, 60,000 x 130 slower), and in rows of up to XENT_NARROW, many of which go as one; those that may_stream allows.
 * Checks of the C code set these so low that theirs do. */
#ifndef XENT_STREAM_BYTES
#define XENT_STREAM_BYTES (1 << 24)
#endif
#ifndef XENT_KEPT
#define XENT_KEPT (XENT_NARROW < 192 ? 192 : XENT_NARROW + 1)
#endif
/* With AVX2 rows of up to so many classes do not, since their terms are scaled by 32 at once, and a row costs less besides.
 * Through the cache take, of the time past it, 33000 x 500 0.92, 16384 x 300 0.88, 8192 x 1000 0.91 to 0.94, with one thread 0.83
 * to 0.90; 16384 x 1300 0.89, 12000 x 1500 0.91, 8192 x 2000 and 2040 0.89 to 0.95, 50000 x 2000 1.00; but 8192 x 2048 1.11, 2100
 * 1.16, 4096 x 4000 1.07 to 1.15. float64: 200000 x 250 0.76, 60000 x 500 0.83, 40000 x 1000 0.84; but 8192 x 1700 1.07. */
#ifndef XENT_THROUGH
#define XENT_THROUGH (sizeof(REAL) == 4 ? 2040 : 1536)
#endif
_Static_assert(XENT_KEPT > XENT_NARROW, "rows side by side leave no terms to keep");

XENT_INLINE ptrdiff_t whole_groups(ptrdiff_t classes) {
    return (classes + XENT_LANES - 1) / XENT_LANES * XENT_LANES;
}

/* Loops over rows that are to be vectors go on to a whole number of them. */
XENT_INLINE int padded_rows(int rows) {
    return (rows + 7) & ~7;
}

/* The sums of up to XENT_ROWS rows, as in rowsum, side by side; log_s = log(1 + rest / top). */
typedef struct {
    double max[XENT_ROWS], min[XENT_ROWS], scale[XENT_ROWS], log_s[XENT_ROWS];
    double top_hi[XENT_ROWS], top_lo[XENT_ROWS], rest_hi[XENT_ROWS], rest_lo[XENT_ROWS];
    enum row_kind kind[XENT_ROWS];
    int far[XENT_ROWS];
    int ordinary; /* all are finite, none is far; */
    int told;     /* kind and far say so of the first so many already */
} row_batch;

/* What a kernel knows of the rows of a batch by itself: the results at their labels; and their numbers and losses, which
 * are to be counted on the way. */
typedef struct {
    const int64_t *labels;
    const double *label_is, *loss;
    const ptrdiff_t *row;
    loss_sums *sums;
} known_results;

XENT_INLINE void count_losses(const known_results *known, int rows) {
    count_rows(known->sums, known->row, known->loss, rows);
}

XENT_INLINE rowsum sum_of(const row_batch *b, int r) {
    return (rowsum){.max = b->max[r],
                    .min = b->min[r],
                    .scale = b->scale[r],
                    .rest = {b->rest_hi[r], b->rest_lo[r]},
                    .top = {b->top_hi[r], b->top_lo[r]},
                    .kind = b->kind[r],
                    .far = b->far[r]};
}

XENT_INLINE void put_sum(row_batch *b, int r, const rowsum *sum) {
    b->max[r] = sum->max, b->min[r] = sum->min, b->scale[r] = sum->scale;
    b->top_hi[r] = sum->top.hi, b->top_lo[r] = sum->top.lo, b->rest_hi[r] = sum->rest.hi, b->rest_lo[r] = sum->rest.lo;
    b->kind[r] = sum->kind, b->far[r] = sum->far;
    if (sum->kind != ROW_FINITE || sum->far) b->ordinary = b->told = 0;
}

/* The rest of row r, summed anew, where a NaN is found. */
XENT_INLINE void put_new_rest(row_batch *b, int r, double hi, double lo) {
    b->rest_hi[r] = hi, b->rest_lo[r] = lo;
    if (hi != hi) b->kind[r] = ROW_NAN, b->ordinary = b->told = 0;
}
#endif

static const xent_type NAME(own_type) = sizeof(REAL) == 4 ? XENT_FLOAT32 : XENT_FLOAT64;
enum { NAME(SQUARE) = 16 / (int)sizeof(REAL) }; /* so many rows by so many classes are turned at once */

struct NAME(sweeper);

/* What a kernel tells before rows are summed, so that each can be scaled as soon as its sum is known (flow.h): `factor`
 * sets factor_hi, factor_lo and label_is of row r, whose sum, which is finite and not far, is in the batch. */
typedef struct {
    void (*factor)(struct NAME(sweeper) * w, int r, void *of); /* NULL: no row can be */
    void *of;
    const known_results *known; /* NULL: nothing */
} NAME(flow);

/* A row, or a block of one, of n elements whose terms wait to be scaled by a factor, terms[i] to to[i], but for two elements
 * that are known by themselves: the one at `likely`, then the one at `label` (-1: there is none). The first whole line
 * begins at to[first], which is behind them where n < first. flushes: some may vanish. */
typedef struct {
    int waits, flushes;
    ptrdiff_t n;
    const REAL *terms;
    REAL *to;
    NAME(factor) by;
    ptrdiff_t first, likely, label;
    REAL likely_is, label_is;
} NAME(waiting_row);

/* What a large pack of columns (pack_columns.h) and the kernel that works on it tell each other of its rows: their extremes; and
 * what is left to be done on their way out, so that all go through the cache once less: of those of each XENT_SIDE rows for which
 * `left` says so, what their terms are scaled by (side_scale in transpose.h), and their results at labels. */
typedef struct {
    REAL most[XENT_COLUMN_ROOM], least[XENT_COLUMN_ROOM];
    int scales; /* terms may be left to be scaled */
    int labels; /* there are some */
    char left[XENT_COLUMN_ROOM / XENT_SIDE];
    REAL hi[XENT_COLUMN_ROOM], lo[XENT_COLUMN_ROOM], largest[XENT_COLUMN_ROOM], likely[XENT_COLUMN_ROOM];
    int64_t label[XENT_COLUMN_ROOM];
    REAL label_is[XENT_COLUMN_ROOM];
    int16_t first_of[XENT_BLOCK],
        next_of[XENT_COLUMN_ROOM]; /* rows by labels: the first of class c, that behind r; -1: none */
} NAME(column_notes);

/* The same of a row of several blocks, those from `done` on (long_flow.h). */
typedef struct {
    int waits, flushes;
    ptrdiff_t done, slot, shift; /* where its terms are */
    REAL *to;
    NAME(factor) by[XENT_LONG_BLOCKS];
    ptrdiff_t likely, label;
    REAL likely_is, label_is;
} NAME(waiting_blocks);

/* The last n elements of a row, which share a line, at `at`, with the next one's first; n is 0 where there are none. */
typedef struct {
    REAL *at;
    ptrdiff_t n;
    _Alignas(64) REAL line[XENT_LINE / sizeof(REAL)];
} NAME(edge);

/* Of one thread's call: buffers and what was learnt on the way. */
typedef struct NAME(sweeper) {
    const xent_layout *layout;
    const xent_view *x, *out; /* out NULL: nothing is stored */
    headroom room;
    block_scale *blocks;
    int side_by_side; /* the last sum_rows took its rows side by side: their columns are where columns_of says, */
    REAL *in_columns; /* from here on, */
    ptrdiff_t column_stride, side_step; /* so far from class to class, and from XENT_SIDE rows to the next; */
    int columns_stored;                 /* and are their terms, not their logits, */
    int keeps_logits;                   /* as they are to be of rows that were turned, or come by blocks */
    int alone;                          /* so many rows are not worth being turned: most_alone */
    int holds,
        sent; /* results of packed rows are not to be sent, or left, yet; those of blocks were (long_columns.h) */
    block_scale column_blocks[XENT_COLUMN_BLOCKS][XENT_SIDE]; /* what those of each block are relative to */
    row_batch batch;                                          /* the rows of the last sum_rows */
    double factor_hi[XENT_ROWS], factor_lo[XENT_ROWS];        /* by which scale_rows is to multiply their terms */
    char *x_rows[XENT_ROWS], *out_rows[XENT_ROWS];
    ptrdiff_t first;                /* of the rows found */
    ptrdiff_t ahead;                /* how far to look ahead from one of them, and then as far again */
    ptrdiff_t gap;                  /* from the end of a long row to the next, in whose place that is to be looked */
    ptrdiff_t stores_ahead;         /* how far before terms are stored their lines are asked for */
    int streams;                    /* results may go past the cache */
    int logs;                       /* those of sums are asked for */
    asked_lines x_asked, out_asked; /* of rows side by side: what XENT_SIDE of them are to be asked for */
    const xent_view *written;       /* where out_asked is: `out`, or where a kernel puts results by itself */
    NAME(flow) flow;
    NAME(waiting_row) waiting[2];
    unsigned turn; /* counts rows that flow: turn % 2 is the one that waited longest, turn % 3 a free part of `kept` */
    char flowed[XENT_ROWS]; /* which rows of the last sum_rows are scaled, or wait for it */
    int by_long_flow;       /* the row of the last sum_rows flows so: its terms are from long_slot on (long_flow.h) */
    int long_asked;         /* whether memory for it was asked for */
    ptrdiff_t long_slot;
    void *long_memory;
    REAL *long_terms;
    NAME(waiting_blocks) waiting_blocks;
    REAL spread; /* of rows side by side: how far the extremes of one are apart at most */
    NAME(edge) edge;
    _Alignas(64) REAL kept[XENT_FLOWING * (XENT_BLOCK + XENT_LINE) + XENT_LINE];
    _Alignas(64) REAL logits[XENT_BLOCK];
    _Alignas(64) REAL terms[XENT_BLOCK];
    _Alignas(64) REAL shifted[XENT_BLOCK];
    _Alignas(64) REAL columns[XENT_NARROW * XENT_SIDE];
    NAME(lanes) lanes[XENT_SWEPT];
    REAL by_max[XENT_ROWS], by_rounder[XENT_ROWS], by_floor[XENT_ROWS]; /* their reductions */
    REAL largest[XENT_ROWS];                                            /* their largest terms, as they are stored */
} NAME(sweeper);

/* ---- what sweeper.c has, once for each tier ------------------------------------------------------------------------ */

/* Ready for rows of this layout; 0 where there is no memory for the scales of a row of very many classes. */
int KERNEL(sweeper_start)(NAME(sweeper) * w, const xent_layout *layout, const xent_view *x, const xent_view *out,
                          block_scale *few, atomic_int *failed);
void KERNEL(sweeper_stop)(NAME(sweeper) * w, const block_scale *few);

/* Where rows row[0 .. n) are, in their order; their sums to w->batch, their terms to w->out if there is one; both, of rows
 * first .. first + rows - 1. */
void KERNEL(find_these)(NAME(sweeper) * w, const ptrdiff_t *row, int n);
void KERNEL(sum_found)(NAME(sweeper) * w, int rows);
void KERNEL(sum_rows)(NAME(sweeper) * w, ptrdiff_t first, int rows);

/* Whether rows that come twice are to be done elsewhere (long_columns.h). */
int KERNEL(declines)(const NAME(sweeper) * w, int rows, int scaled);

/* The terms of the rows of the last sum_rows by their factors, factor_hi and factor_lo; known: NULL, or what is to be put in
 * the place of some. */
void KERNEL(scale_rows)(NAME(sweeper) * w, int rows, const known_results *known);

/* Of n rows of a pack, at v, those that were left to be scaled, scaled in the pack. */
void KERNEL(scale_left)(const NAME(column_notes) * notes, ptrdiff_t n, REAL *v, ptrdiff_t stride, ptrdiff_t classes);

/* One row of those found, of any length; a block of one; log(1 + s) of the rows of a batch, if asked for, and harmless numbers
 * where a row has no sum, or is none. */
void KERNEL(row_sum)(NAME(sweeper) * w, int r, rowsum *sum);
void KERNEL(block_sum)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, REAL *shifted, NAME(lanes) * lanes,
                       const coming_logits *found, const look_ahead *look, rowsum *out);
XENT_SHARED void KERNEL(batch_logs)(NAME(sweeper) * w, int rows);

/* The largest and the smallest of a row; rows to columns, with theirs, those of columns, and columns to rows (transpose.h). */
XENT_SHARED void KERNEL(extremes)(const REAL *x, ptrdiff_t n, REAL *largest, REAL *smallest);
XENT_SHARED void KERNEL(rows_to_columns)(const REAL *const *rows, ptrdiff_t n, REAL *columns, REAL *most, REAL *least);
XENT_SHARED void KERNEL(narrow_extremes)(const REAL *v, ptrdiff_t stride, ptrdiff_t classes, REAL *most, REAL *least);
XENT_SHARED void KERNEL(columns_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int count);

/* Round once; below the smallest normal number, 0. */
XENT_INLINE REAL NAME(rounded)(double v) {
    return (REAL)zero_if(fabs(v) < REAL_MIN, v);
}

/* The same for a result formed 2^128 too large, so that no step before the last comes near a subnormal. */
XENT_INLINE REAL NAME(lowered)(double v) {
    return fabs(v) < REAL_MIN * 0x1p128 ? (REAL)0 : (REAL)(v * 0x1p-128);
}

/* Whether terms counted `times` times at most need the deep guard. */
XENT_INLINE int NAME(is_often)(const NAME(sweeper) * w, double times) {
    return times > 1.0 && times * (double)w->layout->classes > XENT_BLOCK;
}

/* Terms are about to be counted `times` times at most. What a row leaves out counts, with the shallow guard, `times` by
 * classes by 2^-34 of the smallest normal number at most (float64: 2^-62): it is enough where that is no more than in a row
 * of a block that counts once. The deep one costs a pass that looks for what vanishes: 65536 x 10 of weight 2, 8.7 ns per
 * logit instead of 3.1. */
XENT_INLINE void NAME(make_room)(NAME(sweeper) * w, double times) {
    const double guard = NAME(is_often)(w, times) ? GUARD_DEEP : GUARD;
    w->room = (headroom){guard, DEPTH(guard)};
}

/* Of rows side by side, those from XENT_SIDE i on: class c of the r-th in element c column_stride + r. */
XENT_INLINE REAL *NAME(columns_of)(const NAME(sweeper) * w, int i) {
    return w->in_columns + i * w->side_step;
}

/* The logits start .. start + n - 1 of a row: in place where they can be read there, else copied to the buffer. */
XENT_INLINE const REAL *NAME(logits_at)(NAME(sweeper) * w, char *row, ptrdiff_t start, ptrdiff_t n) {
    if (w->x->direct) return (const REAL *)row + start;
    if (sizeof(REAL) == 4 && is_half(w->x->type)) {
        uint16_t few[XENT_BLOCK];
        gather_block(w->layout, w->x, row, start, n, few, sizeof *few);
        line_from_half(w->x->type, few, (float *)(void *)w->logits, n);
        return w->logits;
    }
    gather_block(w->layout, w->x, row, start, n, w->logits, sizeof(REAL));
    return w->logits;
}

/* What to ask for while row r of those found is summed from x, its class `start`, on: what comes XENT_AHEAD bytes later,
 * passing over what is between two rows; in rows of one block as many rows later as that makes. */
XENT_INLINE look_ahead NAME(ahead_of)(const NAME(sweeper) * w, int r, const REAL *x, ptrdiff_t start) {
    const ptrdiff_t group = XENT_LANES * (ptrdiff_t)sizeof(REAL);
    const xent_view *v = w->x;
    if (v->next) {
        const ptrdiff_t at = w->first + r - v->first, groups = start / XENT_LANES;
        const char *next = v->next + at / v->pairs * v->next_row + at % v->pairs * (2 * XENT_LINE);
        return (look_ahead){
            next + groups * v->next_step, v->next_step, v->next_more, w->stores_ahead, 1, v->left, NULL};
    }
    const ptrdiff_t gap = start + XENT_BLOCK < w->layout->classes ? 0 : w->gap;
    return (look_ahead){(const char *)x + w->ahead + gap, group, w->ahead, w->stores_ahead, 0, v->left, NULL};
}

/* What comes in a row behind the n logits at x, of which `left` are left. */
XENT_INLINE coming_logits NAME(behind)(const NAME(sweeper) * w, const REAL *x, ptrdiff_t n, ptrdiff_t left) {
    return (coming_logits){.x = w->x->direct && left ? x + n : NULL, .n = left < XENT_BLOCK ? left : XENT_BLOCK};
}

/* Of rows of more than one block: what the terms of a block of row r are relative to. Without columns there is one row. */
XENT_INLINE block_scale *NAME(scale_of_block)(NAME(sweeper) * w, ptrdiff_t block, int r) {
    return w->x->columns ? &w->column_blocks[block][r] : &w->blocks[block];
}

/* Whether rows of this layout flow, if several are summed at once. */
XENT_INLINE int NAME(flows)(const NAME(sweeper) * w) {
    return w->streams && w->flow.factor && w->layout->classes >= XENT_KEPT && w->layout->classes <= XENT_BLOCK;
}

/* How many rows to give sum_rows at once. */
XENT_INLINE int NAME(rows_at_once)(const NAME(sweeper) * w) {
    const ptrdiff_t classes = w->layout->classes;
    const int narrow = classes <= XENT_NARROW, most = narrow ? XENT_ROWS : XENT_SWEPT;
    if (w->x->columns) return classes <= XENT_NARROW_LOGITS / XENT_ROWS ? XENT_ROWS : XENT_SIDE;
    const ptrdiff_t together = classes ? XENT_NARROW_LOGITS / classes / XENT_SIDE * XENT_SIDE : 0;
    const ptrdiff_t n = !classes         ? most
                        : narrow         ? (together ? together : XENT_SIDE)
                        : NAME(flows)(w) ? most
                                         : XENT_LOGITS_AT_ONCE / whole_groups(classes);
    return n < 1 ? 1 : n > most ? most : (int)n;
}

/* Whether results go past the cache: large ones, not in place. */
XENT_INLINE int NAME(goes_past)(const xent_layout *layout, const xent_view *x, const xent_view *out) {
    return out && out->data != x->data &&
           layout->rows >= XENT_STREAM_BYTES / (ptrdiff_t)sizeof(REAL) / (layout->classes ? layout->classes : 1);
}

/* Where rows side by side are to be written: there or, `to` NULL, nowhere. */
static inline void NAME(ask_for_results)(NAME(sweeper) * w, const xent_view *to) {
    const ptrdiff_t classes = w->layout->classes, bytes = classes * (ptrdiff_t)sizeof(REAL);
    const ptrdiff_t step = to ? magnitude(row_step(w->layout, to)) : 0;
    w->written = to;
    if (!to || !w->x || to->data == w->x->data || classes <= 0 || classes > XENT_NARROW) return;
    if (w->streams && (step == bytes || step <= 2 * XENT_LINE)) return;
    w->out_asked = lines_of_rows(row_step(w->layout, to), bytes, classes);
}

static inline void NAME(write_element)(NAME(sweeper) * w, char *out_row, ptrdiff_t i, REAL value) {
    memcpy(element_of(w->layout, w->out, out_row, i), &value, sizeof value);
}

static inline void NAME(row_fill)(NAME(sweeper) * w, char *out_row, REAL value) {
    const ptrdiff_t step = w->out->direct ? 1 : w->out->columns;
    if (step)
        for (ptrdiff_t i = 0; i < w->layout->classes; i++) ((REAL *)out_row)[i * step] = value;
    else
        for (ptrdiff_t i = 0; i < w->layout->classes; i++)
            memcpy(element_of(w->layout, w->out, out_row, i), &value, sizeof value);
}

/* The numbers of XENT_SIDE rows, of any type and layout, as columns of doubles. */
static inline void NAME(numbers_to_columns)(const xent_layout *layout, const xent_view *view, char *const *rows,
                                            double *columns) {
    double numbers[XENT_NARROW];
    for (int r = 0; r < XENT_SIDE; r++) {
        gather_numbers(layout, view, rows[r], 0, layout->classes, numbers);
        for (ptrdiff_t c = 0; c < layout->classes; c++) columns[c * XENT_SIDE + r] = numbers[c];
    }
}
XENT_NOINLINE void NAME(widen)(const REAL *restrict v, ptrdiff_t n, double *restrict to) {
    for (ptrdiff_t i = 0; i < n; i++) to[i] = (double)v[i];
}

/* Of rows that come by blocks: how many, their classes, where the columns of one are. */
XENT_INLINE int NAME(blocks_of)(const NAME(sweeper) * w) {
    return (int)((w->layout->classes + XENT_BLOCK - 1) / XENT_BLOCK);
}

XENT_INLINE int NAME(classes_in)(const NAME(sweeper) * w, int block) {
    const ptrdiff_t left = w->layout->classes - (ptrdiff_t)block * XENT_BLOCK;
    return left < XENT_BLOCK ? (int)left : XENT_BLOCK;
}

XENT_INLINE REAL *NAME(block_columns)(const NAME(sweeper) * w, int block) {
    return w->in_columns + (ptrdiff_t)block * XENT_BLOCK * w->column_stride;
}

/* Results to where they belong, if they are not there yet. */
static inline void NAME(send_blocks)(const NAME(sweeper) * w) {
    for (int i = 0; w->x->blocks && !w->sent && i < NAME(blocks_of)(w); i++) w->x->blocks->send(w->x->blocks, i);
}

/* Whether the rows of a pack, which are one batch then, come twice; and whether they were declined. */
XENT_INLINE int NAME(come_twice)(const NAME(sweeper) * w) {
    return w->x->blocks && w->x->blocks->twice;
}
XENT_INLINE int NAME(declined)(const NAME(sweeper) * w) {
    return NAME(come_twice)(w) && *w->x->blocks->declined;
}

/* lse of a row whose log(1 + s) is log_s. */
static inline double NAME(row_lse)(const rowsum *sum, double log_s) {
    switch (sum->kind) {
        case ROW_FINITE: return sum->max + log_s;
        case ROW_EMPTY: return -INFINITY;
        case ROW_INFINITE: return INFINITY;
        case ROW_NAN: break;
    }
    return NAN;
}

/* For a second look at the logits of a finite row: e^x = term(x) 2^-offset, total and rest in that scale. */
typedef struct {
    double shift, offset, floor;
    REAL max;
    wide total, rest;
} NAME(view_of_sum);

static inline NAME(view_of_sum) NAME(look_again)(const rowsum *sum) {
    NAME(view_of_sum) v = {.max = (REAL)sum->max, .shift = sum->far ? sum->max : 0.0};
    const double m = sum->far ? 0.0 : sum->max;
    v.offset = LOOK_GUARD - rint(m * LOG2E);
    v.floor = (double)(REAL)(m - LOOK_DEPTH);
    wide top = NAME(exp_wide)((REAL)m, v.offset);
    v.rest = sum->far ? wide_mul(wide_div(sum->rest, sum->top), top) : wide_scale(sum->rest, sum->scale + v.offset);
    v.total = wide_add(v.rest, top);
    return v;
}

/* In double, for float32 too: what is near enough to count is subtracted exactly in either. */
XENT_INLINE wide NAME(term)(const NAME(view_of_sum) * v, REAL x) {
    const double u = (double)x - v->shift;
    const wide e = NAME(exp_wide)(u < v->floor ? v->floor : u, v->offset);
    return (wide){u < v->floor ? 0.0 : e.hi, u < v->floor ? 0.0 : e.lo};
}
