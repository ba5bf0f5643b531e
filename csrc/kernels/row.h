/* A whole row: its sum, and its terms scaled out. Included once per dtype, after rowsum.h. */
#include <stdlib.h>

#include "rowsum.h"

#ifndef XENT_ROW_H
#define XENT_ROW_H
/* What the terms of one block were stored relative to. */
typedef struct {
    double max, scale;
    int far;
} block_scale;
/* Rows are taken XENT_ROWS at a time, fewer where their logits would not stay in the first-level cache; rows of up to
 * XENT_NARROW classes are then worked on side by side, a row per vector element. */
XENT_INLINE int padded_rows(int rows) { /* loops over rows that are to be vectors go on to a whole number of them */
    return (rows + 7) & ~7;
}
enum { XENT_BLOCKS_ON_STACK = 64, XENT_ROWS = 16, XENT_NARROW = 32, XENT_LOGITS_AT_ONCE = 8192 };
#endif

/* Of one thread's call: buffers and what was learnt on the way. */
typedef struct {
    const xent_layout *layout;
    const xent_view *x, *out; /* out NULL: nothing is stored */
    headroom room;
    block_scale *blocks;
    int side_by_side;        /* the last sum_rows took its rows side by side and left their terms in `columns` */
    rowsum sums[XENT_ROWS];  /* of the rows of the last sum_rows */
    double logs[XENT_ROWS];  /* log(1 + rest / top) of them */
    wide factors[XENT_ROWS]; /* by which scale_rows is to multiply their terms */
    char *x_rows[XENT_ROWS], *out_rows[XENT_ROWS];
    _Alignas(64) REAL logits[XENT_BLOCK];
    _Alignas(64) REAL terms[XENT_BLOCK];
    _Alignas(64) REAL shifted[XENT_BLOCK];
    _Alignas(64) REAL columns[XENT_NARROW][XENT_ROWS];
    NAME(lanes) lanes[XENT_ROWS];
    NAME(reduction) by[XENT_ROWS];
} NAME(sweeper);

/* Terms are about to be counted `times` times at most. */
XENT_INLINE void NAME(make_room)(NAME(sweeper) * w, double times) {
    const double guard = times <= 1.0 ? GUARD : GUARD_DEEP;
    w->room = (headroom){guard, DEPTH(guard)};
}

/* The logits start .. start + n - 1 of a row: in place where they can be read there, else copied to the buffer. */
XENT_INLINE const REAL *NAME(logits_at)(NAME(sweeper) * w, char *row, ptrdiff_t start, ptrdiff_t n) {
    if (w->x->direct) return (const REAL *)row + start;
    gather_block(w->layout, w->x, row, start, n, w->logits, sizeof(REAL));
    return w->logits;
}

/* Sum a row; its terms, unscaled, go to `out_row` (NULL: nowhere), their scales to w->blocks. */
static inline void NAME(row_sum)(NAME(sweeper) * w, char *x_row, char *out_row, rowsum *sum) {
    const ptrdiff_t classes = w->layout->classes;
    *sum = (rowsum){.max = -INFINITY, .min = INFINITY, .kind = ROW_EMPTY};
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        const REAL *x = NAME(logits_at)(w, x_row, start, n);
        const int stored_there = out_row && w->out->direct;
        REAL *e = !out_row ? NULL : stored_there ? (REAL *)out_row + start : w->terms;
        rowsum block;
        NAME(block_sum)(x, n, e, w->room, w->shifted, &w->lanes[0], &block);
        if (out_row && !stored_there) scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
        if (out_row) w->blocks[b] = (block_scale){block.max, block.scale, block.far};
        if (start == 0)
            *sum = block;
        else
            add_block(sum, &block);
        if (sum->kind == ROW_NAN) return;
    }
}

/* Rows of one block each, their sums given: their largest terms, side by side, and their rests. `pending` NULL: all of
 * them, their terms in w->columns; else those it marks, their terms and logits where w's row pointers say. */
XENT_INLINE void NAME(close_rows)(NAME(sweeper) * w, int rows, const wide *sums, const int *pending) {
    REAL max[XENT_ROWS], rounder[XENT_ROWS];
    double offset[XENT_ROWS], top_hi[XENT_ROWS], top_lo[XENT_ROWS], added_hi[XENT_ROWS], added_lo[XENT_ROWS];
    const ptrdiff_t classes = w->layout->classes;
    const int padded = padded_rows(rows);
    for (int r = 0; r < padded; r++) {
        const int given = r < rows && (!pending || pending[r]);
        max[r] = given ? w->by[r].max : 0, offset[r] = given ? -w->sums[r].scale : 0.0;
        rounder[r] = NAME(rounder)(offset[r]);
    }
    for (int r = 0; r < padded; r++) {
        const wide top = NAME(exp_wide)(max[r], offset[r]), added = NAME(added)(max[r], rounder[r]);
        top_hi[r] = top.hi, top_lo[r] = top.lo, added_hi[r] = added.hi, added_lo[r] = added.lo;
    }
    for (int r = 0; r < rows; r++) {
        if (pending && !pending[r]) continue;
        const REAL *x = (const REAL *)w->x_rows[r], *e = (const REAL *)w->out_rows[r];
        if (!pending) {
            for (ptrdiff_t c = 0; c < classes; c++) w->terms[c] = w->columns[c][r];
            e = w->terms;
        }
        NAME(close_block)
        (sums[r], (wide){top_hi[r], top_lo[r]}, (wide){added_hi[r], added_lo[r]}, &w->by[r], x, e, classes, &w->sums[r]);
    }
}

/* Up to XENT_ROWS narrow rows side by side: element r of every vector belongs to row r, and class c takes the part of
 * lane c, so that the sums are those of row_sum, bit for bit. 0 where a row is far or not finite: nothing is done then. */
XENT_NOINLINE int NAME(narrow_sums)(NAME(sweeper) * w, int rows) {
    const int classes = (int)w->layout->classes;
    REAL v[XENT_NARROW][XENT_ROWS], most[XENT_ROWS], least[XENT_ROWS], rounder[XENT_ROWS], floor[XENT_ROWS];
    double hi[XENT_NARROW][XENT_ROWS];
    REAL lo[XENT_NARROW][XENT_ROWS];
    int near = 1;
    const REAL *x[XENT_ROWS]; /* of missing rows: the first again */
    for (int r = 0; r < XENT_ROWS; r++) x[r] = (const REAL *)w->x_rows[r < rows ? r : 0];
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) v[c][r] = x[r][c];
    for (int r = 0; r < XENT_ROWS; r++) most[r] = -REAL_INF, least[r] = REAL_INF;
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) {
            most[r] = v[c][r] > most[r] ? v[c][r] : most[r];
            least[r] = v[c][r] < least[r] ? v[c][r] : least[r];
        }
    for (int r = 0; r < XENT_ROWS; r++) near &= fabs((double)most[r]) <= FAR;
    if (!near) return 0;
    for (int r = 0; r < XENT_ROWS; r++) {
        w->by[r] = NAME(reduce_by)(most[r], least[r], w->room, &w->sums[r].scale);
        rounder[r] = w->by[r].rounder, floor[r] = w->by[r].floor;
    }
    const REAL sigma = NAME(sigma)(w->room.guard);
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) {
            REAL h = sigma, l = 0, u = v[c][r] < floor[r] ? floor[r] : v[c][r];
            w->columns[c][r] = NAME(add_exp)(u, rounder[r], 1, &h, &l);
            hi[c][r] = (double)h - (double)sigma, lo[c][r] = l;
        }
    for (int half = XENT_NARROW / 2, n = classes; half; half /= 2) {
        for (int c = 0; c + half < n; c++)
            for (int r = 0; r < XENT_ROWS; r++)
                NAME(fold_one)(&hi[c][r], &lo[c][r], hi[c + half][r], lo[c + half][r]);
        n = n < half ? n : half;
    }
    wide sums[XENT_ROWS];
    for (int r = 0; r < XENT_ROWS; r++) {
        sums[r] = NAME(folded)(hi[0][r], lo[0][r]);
        w->sums[r] = (rowsum){.max = (double)most[r], .min = (double)least[r], .scale = w->sums[r].scale};
    }
    NAME(close_rows)(w, rows, sums, NULL);
    return 1;
}

/* How many rows to give sum_rows at once. */
XENT_INLINE int NAME(rows_at_once)(const NAME(sweeper) * w) {
    const ptrdiff_t classes = w->layout->classes, n = classes ? XENT_LOGITS_AT_ONCE / classes : XENT_ROWS;
    return n < 1 ? 1 : n > XENT_ROWS ? XENT_ROWS : (int)n;
}

/* The sums of rows first .. first + rows - 1 to w->sums, their terms to w->out if there is one; log(1 + s) to w->logs.
 * Short rows are all swept before their lanes are folded, and the logarithms come last: the folds and logarithms are
 * long chains of operations that wait for each other, and so those of several rows run at the same time. */
static inline void NAME(sum_rows)(NAME(sweeper) * w, ptrdiff_t first, int rows) {
    const ptrdiff_t classes = w->layout->classes;
    const int direct = classes > 0 && w->x->direct && (!w->out || w->out->direct);
    for (int r = 0; r < rows; r++) {
        w->x_rows[r] = row_of(w->layout, w->x, first + r);
        w->out_rows[r] = w->out ? row_of(w->layout, w->out, first + r) : NULL;
    }
    w->side_by_side = direct && rows > 1 && classes <= XENT_NARROW && NAME(narrow_sums)(w, rows);
    if (!w->side_by_side && direct && rows > 1) {
        int sweeps[XENT_ROWS + 1] = {0}; /* the row has a second sweep */
        for (int r = 0; r <= rows; r++) { /* the first sweep over a row one ahead of the second over the one before */
            if (r < rows)
                sweeps[r] = NAME(block_start)((const REAL *)w->x_rows[r], classes, (REAL *)w->out_rows[r], w->room,
                                              &w->by[r], &w->sums[r]);
            const int last = r - 1;
            if (last < 0 || !sweeps[last]) continue;
            const REAL *x = (const REAL *)w->x_rows[last];
            REAL *e = (REAL *)w->out_rows[last];
            if (!w->sums[last].far)
                NAME(block_sweep)(x, classes, e, w->room, &w->by[last], &w->lanes[last]);
            else {
                NAME(block_sum)(x, classes, e, w->room, w->shifted, &w->lanes[last], &w->sums[last]);
                sweeps[last] = 0;
            }
        }
        wide sums[XENT_ROWS];
        for (int r = 0; r < rows; r++)
            if (sweeps[r]) sums[r] = NAME(lanes_sum)(&w->lanes[r], (double)NAME(sigma)(w->room.guard));
        NAME(close_rows)(w, rows, sums, sweeps);
    } else if (!w->side_by_side)
        for (int r = 0; r < rows; r++) NAME(row_sum)(w, w->x_rows[r], w->out_rows[r], &w->sums[r]);

    double s_hi[XENT_ROWS], s_lo[XENT_ROWS];
    double top_hi[XENT_ROWS], top_lo[XENT_ROWS];
    const int padded = padded_rows(rows);
    for (int r = 0; r < padded; r++) {
        const int finite = r < rows && w->sums[r].kind == ROW_FINITE;
        s_hi[r] = finite ? w->sums[r].rest.hi : 0.0, s_lo[r] = finite ? w->sums[r].rest.lo : 0.0;
        top_hi[r] = finite ? w->sums[r].top.hi : 1.0, top_lo[r] = finite ? w->sums[r].top.lo : 0.0;
    }
    for (int r = 0; r < padded; r++) {
        const wide s = NAME(div)((wide){s_hi[r], s_lo[r]}, (wide){top_hi[r], top_lo[r]});
        w->logs[r] = log1p_wide(s);
    }
}

/* e <- e d 2^k, rounded once: d in two parts of the dtype. The product is formed 2^shift too large, so that what falls
 * below the smallest normal number is seen and made 0 before any subnormal could arise. */
XENT_INLINE void NAME(scale_terms)(REAL *restrict e, ptrdiff_t n, REAL d_hi, REAL d_lo, REAL least, REAL down,
                                   REAL down2, int mode) {
    /* Whole lines after a first few: a store across two lines costs twice. */
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)e % XENT_LINE / sizeof(REAL)), head = before < n ? before : n;
    for (ptrdiff_t i = 0, end = head; i < n; end = n)
        for (; i < end; i++) {
            REAL v = REAL_FMA(e[i], d_hi, e[i] * d_lo);
            if (mode > 0) v = v < least ? (REAL)0 : v * down;
            if (mode > 1) v *= down2;
            e[i] = v;
        }
}
XENT_NOINLINE void NAME(scale_plain)(REAL *e, ptrdiff_t n, REAL d_hi, REAL d_lo) {
    NAME(scale_terms)(e, n, d_hi, d_lo, 0, 0, 0, 0);
}
XENT_NOINLINE void NAME(scale_flushing)(REAL *e, ptrdiff_t n, REAL d_hi, REAL d_lo, REAL least, REAL down) {
    NAME(scale_terms)(e, n, d_hi, d_lo, least, down, 0, 1);
}
XENT_NOINLINE void NAME(scale_twice)(REAL *e, ptrdiff_t n, REAL d_hi, REAL d_lo, REAL least, REAL down, REAL down2) {
    NAME(scale_terms)(e, n, d_hi, d_lo, least, down, down2, 2);
}

/* d in two parts of the dtype; the low one without the bits that could make a product with it subnormal. */
XENT_INLINE void NAME(split)(wide d, REAL *hi, REAL *lo) {
    *hi = (REAL)d.hi;
    double rest = (d.hi - (double)*hi) + d.lo;
    *lo = fabs(rest) < 0x1p-70 * fabs(d.hi) || (sizeof(REAL) == 4 && fabs(rest) < 0x1p-40 * fabs(d.hi)) ? (REAL)0
                                                                                                        : (REAL)rest;
}

/* Whether no product of the terms of a row, stored in this scale, with d can come near the smallest normal number, with
 * room for the low part of d. */
XENT_INLINE int NAME(is_safe)(const rowsum *sum, double scale, wide d) {
    const double size = fabs(d.hi), low_bits = sizeof(REAL) == 4 ? 42.0 : 124.0;
    return !sum->far && size > REAL_MIN * power_of_two((int)low_bits) && size < 0x1p60 &&
           sum->min * LOG2E - scale + (double)exponent_of(size) > MIN_EXPONENT + low_bits + 1.0;
}

/* Scale the stored terms of row r of the last sum_rows, which is finite, by d: e^x / sum * g for d = g / total. */
static inline void NAME(row_scale)(NAME(sweeper) * w, int r, wide d) {
    const rowsum *sum = &w->sums[r];
    char *out_row = w->out_rows[r];
    const ptrdiff_t classes = w->layout->classes;
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        REAL *e = (REAL *)out_row + start, hi, lo;
        if (!w->out->direct) {
            gather_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
            e = w->terms;
        }
        if (w->side_by_side)
            for (ptrdiff_t c = 0; c < n; c++) e[c] = w->columns[c][r];
        const block_scale whole_row = {sum->max, sum->scale, sum->far};
        const block_scale *block = classes <= XENT_BLOCK ? &whole_row : &w->blocks[b];
        const wide there = block->scale == sum->scale ? d : wide_scale(d, block->scale - sum->scale);
        if (NAME(is_safe)(sum, block->scale, there)) {
            NAME(split)(there, &hi, &lo);
            NAME(scale_plain)(e, n, hi, lo);
        } else {
            /* d 2^(block scale - row scale) = f 2^k with 1/4 <= |f| < 1/2 */
            wide f = d;
            double k = 0.0;
            if (!sum->far && !block->far)
                k = block->scale - sum->scale;
            else {
                rowsum from = {.max = block->max, .scale = block->scale, .far = block->far};
                from.top =
                    block->far ? (wide){power_of_two((int)w->room.guard), 0.0} : NAME(exp_wide)((REAL)block->max, -block->scale);
                f = rescaled(d, &from, sum);
            }
            const double magnitude = fabs(f.hi);
            const int exponent = magnitude > 0.0 ? exponent_of(magnitude) + 2 : 0;
            f = wide_scale(f, -exponent), k += exponent;
            /* shift = -k; what was dropped when stored is dropped here too */
            const double shift = -k, top = sizeof(REAL) == 4 ? 126.0 : 1022.0;
            const double least = scale_by(1.0, fmax(fmin(MIN_EXPONENT + shift, top), MIN_EXPONENT + 1.0));
            const double dropped = DROPPED * fabs(f.hi), bound = least > dropped ? least : dropped;
            const double once = fmin(shift, top);
            const REAL sign = f.hi < 0.0 ? (REAL)-1 : (REAL)1;
            if (f.hi < 0.0) f.hi = -f.hi, f.lo = -f.lo;
            NAME(split)(f, &hi, &lo);
            if (!(magnitude > 0.0) || MIN_EXPONENT + shift > top)
                memset(e, 0, (size_t)n * sizeof(REAL));
            else if (shift <= top)
                NAME(scale_flushing)(e, n, hi, lo, (REAL)bound, sign * (REAL)scale_by(1.0, -once));
            else {
                const double half = floor(shift / 2.0);
                NAME(scale_twice)
                (e, n, hi, lo, (REAL)bound, sign * (REAL)scale_by(1.0, -half), (REAL)scale_by(1.0, half - shift));
            }
        }
        if (!w->out->direct) scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
    }
}

/* The same for a result formed 2^128 too large, so that no step before the last comes near a subnormal. */
XENT_INLINE REAL NAME(lowered)(double v) {
    return fabs(v) < REAL_MIN * 0x1p128 ? (REAL)0 : (REAL)(v * 0x1p-128);
}

static inline void NAME(row_fill)(NAME(sweeper) * w, char *out_row, REAL value) {
    for (ptrdiff_t i = 0; i < w->layout->classes; i++)
        memcpy(element_of(w->layout, w->out, out_row, i), &value, sizeof value);
}

/* Scale the terms of the rows of the last sum_rows by w->factors; NaN where a row is not finite. */
static inline void NAME(scale_rows)(NAME(sweeper) * w, int rows) {
    int together = w->side_by_side;
    for (int r = 0; r < rows && together; r++)
        together = w->sums[r].kind == ROW_FINITE && NAME(is_safe)(&w->sums[r], w->sums[r].scale, w->factors[r]);
    if (!together) {
        for (int r = 0; r < rows; r++)
            if (w->sums[r].kind == ROW_FINITE)
                NAME(row_scale)(w, r, w->factors[r]);
            else
                NAME(row_fill)(w, w->out_rows[r], (REAL)NAN);
        return;
    }
    const int classes = (int)w->layout->classes;
    REAL hi[XENT_ROWS] = {0}, lo[XENT_ROWS] = {0};
    for (int r = 0; r < rows; r++) NAME(split)(w->factors[r], &hi[r], &lo[r]);
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++)
            w->columns[c][r] = REAL_FMA(w->columns[c][r], hi[r], w->columns[c][r] * lo[r]);
    REAL *out[XENT_ROWS];
    for (int r = 0; r < rows; r++) out[r] = (REAL *)w->out_rows[r];
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < rows; r++) out[r][c] = w->columns[c][r];
}

/* Ready for rows of this layout; 0 where there is no memory for the scales of a row of very many classes. */
static inline int NAME(sweeper_start)(NAME(sweeper) * w, const xent_layout *layout, const xent_view *x,
                                      const xent_view *out, block_scale *few, atomic_int *failed) {
    const size_t blocks = (size_t)((layout->classes + XENT_BLOCK - 1) / XENT_BLOCK);
    w->layout = layout, w->x = x, w->out = out;
    NAME(make_room)(w, 1.0);
    w->blocks = !out || blocks <= XENT_BLOCKS_ON_STACK ? few : malloc(blocks * sizeof *few);
    if (!w->blocks) atomic_store(failed, 1);
    return w->blocks != NULL;
}

static inline void NAME(sweeper_stop)(NAME(sweeper) * w, const block_scale *few) {
    if (w->blocks != few) free(w->blocks);
}

/* Round once; below the smallest normal number, 0. */
XENT_INLINE REAL NAME(rounded)(double v) {
    return fabs(v) < REAL_MIN ? (REAL)0 : (REAL)v;
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
    double shift, offset;
    REAL max, floor;
    wide total, rest;
} NAME(view_of_sum);

static inline NAME(view_of_sum) NAME(look_again)(const rowsum *sum) {
    NAME(view_of_sum) v = {.max = (REAL)sum->max, .shift = sum->far ? sum->max : 0.0};
    const double m = sum->far ? 0.0 : sum->max;
    v.offset = LOOK_GUARD - rint(m * LOG2E);
    v.floor = (REAL)(m - LOOK_DEPTH);
    wide top = NAME(exp_wide)((REAL)m, v.offset);
    v.rest = sum->far ? wide_mul(wide_div(sum->rest, sum->top), top) : wide_scale(sum->rest, sum->scale + v.offset);
    v.total = wide_add(v.rest, top);
    return v;
}

XENT_INLINE wide NAME(term)(const NAME(view_of_sum) * v, REAL x) {
    REAL u = x - (REAL)v->shift;
    wide e = NAME(exp_wide)(u < v->floor ? v->floor : u, v->offset);
    return u < v->floor ? (wide){0.0, 0.0} : e;
}
