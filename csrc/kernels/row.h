/* A whole row: its sum, and its terms scaled out. Included once per dtype, after rowsum.h. */
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
    XENT_LONG_BLOCKS = 64,     /* of a row that flows (long_flow.h), */
    XENT_LONG_MEMORY = 5 << 19 /* for whose terms the threads of a call have so many bytes */
};
/* What is done with terms on their way from columns to rows. */
enum { UNSCALED, SCALED, SCALED_FLUSHING /* where results may vanish */ };
/* Results of this size go past the cache: in rows of XENT_KEPT classes and more, one by one (flow.h; with AVX-512 40,000 x 168
 * is no faster so, 60,000 x 130 slower), and in rows of up to XENT_NARROW, many of which go as one; those that may_stream allows.
 * Checks of the C code set both so low that theirs do, but for what it keeps in the cache. */
#ifndef XENT_STREAM_BYTES
#define XENT_STREAM_BYTES (1 << 24)
#endif
#ifndef XENT_KEPT
#define XENT_KEPT (XENT_NARROW < 192 ? 192 : XENT_NARROW + 1)
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
    int told;     /* kind and far say so of every row already */
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
    int holds, sent;                    /* results of blocks are not to be sent yet; or were (long_columns.h) */
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

/* The rests of those rows of a batch that have little beside their largest term. */
static void NAME(sharp_rests)(NAME(sweeper) * w, int rows, const int64_t *sharp) {
    row_batch *b = &w->batch;
    for (int r = 0; r < rows; r++) {
        if (!sharp[r]) continue;
        const NAME(reduction) by = {w->by_rounder[r], w->by_floor[r], w->by_max[r], 1};
        const wide rest = NAME(sharp_rest)((const REAL *)w->x_rows[r], (REAL *)w->out_rows[r], w->layout->classes, &by);
        put_new_rest(b, r, rest.hi, rest.lo);
    }
}

/* Rows of one block each, their sums given: their largest terms, side by side, and their rests. Of far rows and such as
 * are not finite, of which there are none if `open`, all is known. sharp: those whose rest is too small to be found so;
 * whether there is one. */
XENT_INLINE int NAME(close)(NAME(sweeper) * w, int rows, const double *restrict sum_hi, const double *restrict sum_lo,
                            const int open, int64_t *restrict sharp) {
    row_batch *b = &w->batch;
    int64_t any = 0; /* and sharp: as wide as what is compared, else masks of vectors are narrowed */
    for (int r = 0; r < rows; r++) {
        const wide top = NAME(exp_wide)(w->by_max[r], -b->scale[r]),
                   added = NAME(added)(w->by_max[r], w->by_rounder[r]);
        const wide rest = NAME(sub)((wide){sum_hi[r], sum_lo[r]}, added);
        const int closes = open || (b->kind[r] == ROW_FINITE && !b->far[r]);
        b->top_hi[r] = closes ? top.hi : b->top_hi[r], b->top_lo[r] = closes ? top.lo : b->top_lo[r];
        b->rest_hi[r] = closes ? rest.hi : b->rest_hi[r], b->rest_lo[r] = closes ? rest.lo : b->rest_lo[r];
        w->largest[r] = (REAL)added.hi;
        sharp[r] = closes & !(rest.hi >= SHARP * top.hi);
        any |= sharp[r];
    }
    return any != 0;
}
XENT_NOINLINE void NAME(close_rows)(NAME(sweeper) * w, int rows, const double *sum_hi, const double *sum_lo) {
    int64_t sharp[XENT_ROWS];
    if (NAME(close)(w, padded_rows(rows), sum_hi, sum_lo, 0, sharp)) NAME(sharp_rests)(w, rows, sharp);
}

#include "narrow.h"
#include "scale.h"
#include "flow.h"
#include "long_flow.h"
#include "row_sums.h"

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

/* log(1 + s) of the rows of a batch, if asked for, and harmless numbers where a row has no sum, or is none. */
XENT_NOINLINE void NAME(batch_logs)(NAME(sweeper) * w, int rows) {
    row_batch *b = &w->batch;
    const int padded = padded_rows(rows);
    for (int r = 0; r < padded && !(b->ordinary && rows == padded); r++)
        if (r >= rows || b->kind[r] != ROW_FINITE)
            b->rest_hi[r] = b->rest_lo[r] = b->top_lo[r] = b->max[r] = b->scale[r] = 0.0, b->top_hi[r] = 1.0;
    if (!w->logs) return;
    for (int r = 0; r < padded; r++)
        b->log_s[r] = log1p_wide(NAME(div)((wide){b->rest_hi[r], b->rest_lo[r]}, (wide){b->top_hi[r], b->top_lo[r]}));
}

/* Where rows row[0 .. n) are, in their order. */
static inline void NAME(find_these)(NAME(sweeper) * w, const ptrdiff_t *row, int n) {
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

/* The sums of the rows that find_these found to w->batch, their terms to w->out if there is one. */
static inline void NAME(sum_found)(NAME(sweeper) * w, int rows) {
    const ptrdiff_t classes = w->layout->classes;
    const int direct = classes > 0 && w->x->direct && (!w->out || w->out->direct);
    row_batch *b = &w->batch;
    b->ordinary = 1;
    memset(w->flowed, 0, sizeof w->flowed);
    w->side_by_side = w->x->columns || (direct && rows > w->alone && classes <= XENT_NARROW);
    if (w->side_by_side) w->side_by_side = NAME(narrow_sums)(w, rows);
    if (NAME(declines)(w, 0, 0)) return;
    w->by_long_flow = rows == 1 && NAME(long_flows)(w);
    if (w->waiting_blocks.done) NAME(put_blocks)(w); /* nobody scaled the row before this one */
    if (direct && rows > 1 && NAME(flows)(w))
        NAME(flow_sums)(w, rows);
    else if (direct && rows > 1 && rows <= XENT_SWEPT && !w->side_by_side)
        NAME(short_sums)(w, rows);
    else if (!w->side_by_side)
        for (int r = 0; r < rows; r++) {
            rowsum sum;
            NAME(row_sum)(w, r, &sum);
            put_sum(b, r, &sum);
        }
    NAME(batch_logs)(w, rows);
}

/* The same of rows first .. first + rows - 1. */
static inline void NAME(sum_rows)(NAME(sweeper) * w, ptrdiff_t first, int rows) {
    ptrdiff_t row[XENT_ROWS];
    for (int r = 0; r < XENT_ROWS; r++) row[r] = first + r;
    NAME(find_these)(w, row, rows);
    NAME(sum_found)(w, rows);
}

/* Whether rows of so many classes go past the cache where results are large. With AVX2 not those side by side, whose lines are
 * asked for meanwhile: 400000 x 12, 65536 x 100, and 5000000 x 10 of 200 MB take 0.83 to 0.93 of the time through it, with two
 * threads, 0.90 to 0.97 with one (with AVX-512, before lines were asked for, 65536 x 100 took 0.56 ns per logit past it, 0.75
 * through it). Nor float64 that flows, of few classes: 200000 x 250 0.76, 60000 x 500 0.83, 40000 x 1000 0.84; but 16384 x 2000
 * 1.07. */
XENT_INLINE int NAME(may_stream)(ptrdiff_t classes) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    return classes > (sizeof(REAL) == 4 ? XENT_NARROW : 1536);
#else
    (void)classes;
    return 1;
#endif
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

/* Up to so many rows of few classes are taken one by one: side by side, XENT_SIDE of them take their time. With AVX2,
 * in us by a call: 8 x 200 2.6 against 5.4, 8 x 100 2.2 and 3.5, 4 x 32 1.6 and 2.1, 4 x 10 1.6 and 1.7; 10 x 32 the
 * same. */
XENT_INLINE int NAME(most_alone)(ptrdiff_t classes) {
    const ptrdiff_t most = 4 + classes / 6;
    return most < XENT_SWEPT ? (int)most : XENT_SWEPT;
}

/* Ready for rows of this layout; 0 where there is no memory for the scales of a row of very many classes. */
static inline int NAME(sweeper_start)(NAME(sweeper) * w, const xent_layout *layout, const xent_view *x,
                                      const xent_view *out, block_scale *few, atomic_int *failed) {
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

static inline void NAME(sweeper_stop)(NAME(sweeper) * w, const block_scale *few) {
    NAME(put_blocks)(w);
    NAME(put_waiting)(w);
    if (w->streams) stream_end();
    free(w->long_memory);
    if (w->blocks != few) free(w->blocks);
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
