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
enum { XENT_BLOCKS_ON_STACK = 64, XENT_ROWS = 16, XENT_NARROW = 64, XENT_LOGITS_AT_ONCE = 8192 };
#endif

/* Of one thread's call: buffers and what was learnt on the way. */
typedef struct {
    const xent_layout *layout;
    const xent_view *x, *out; /* out NULL: nothing is stored */
    block_scale *blocks;
    int careful;
    int side_by_side;        /* the last sum_rows took its rows side by side and left their terms in `columns` */
    rowsum sums[XENT_ROWS];  /* of the rows of the last sum_rows */
    double logs[XENT_ROWS];  /* log(1 + rest / top) of them */
    wide factors[XENT_ROWS]; /* by which scale_rows is to multiply their terms */
    char *x_rows[XENT_ROWS], *out_rows[XENT_ROWS];
    _Alignas(64) REAL logits[XENT_BLOCK];
    _Alignas(64) REAL terms[XENT_BLOCK];
    _Alignas(64) REAL journal[XENT_BLOCK];
    _Alignas(64) REAL columns[XENT_NARROW][XENT_ROWS];
    NAME(lanes) lanes[XENT_ROWS];
} NAME(sweeper);

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
        NAME(block_sum)(x, n, e, w->journal, &w->careful, &block);
        if (out_row && !stored_there) scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
        if (out_row) w->blocks[b] = (block_scale){block.max, block.scale, block.far};
        if (start == 0)
            *sum = block;
        else
            add_block(sum, &block);
        if (sum->kind == ROW_NAN) return;
    }
}

/* Up to XENT_ROWS narrow rows side by side: element r of every vector belongs to row r, and class c takes the part of
 * lane c, so that the sums are those of row_sum, bit for bit. 0 where a row is not plain: nothing is done then. */
XENT_NOINLINE int NAME(narrow_sums)(NAME(sweeper) * w, int rows) {
    const int classes = (int)w->layout->classes;
    REAL v[XENT_NARROW][XENT_ROWS], most[XENT_ROWS], least[XENT_ROWS];
    double hi[XENT_NARROW][XENT_ROWS], lo[LOW_LANES][XENT_ROWS], top_hi[XENT_ROWS], top_lo[XENT_ROWS];
    int ties[XENT_ROWS], plain = 1;
    const REAL *x[XENT_ROWS]; /* of missing rows: the first again */
    for (int r = 0; r < XENT_ROWS; r++) x[r] = (const REAL *)w->x_rows[r < rows ? r : 0];
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) v[c][r] = x[r][c];
    for (int r = 0; r < XENT_ROWS; r++) most[r] = -REAL_INF, least[r] = REAL_INF, ties[r] = -1;
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) {
            most[r] = v[c][r] > most[r] ? v[c][r] : most[r];
            least[r] = v[c][r] < least[r] ? v[c][r] : least[r];
        }
    for (int r = 0; r < XENT_ROWS; r++) plain &= most[r] <= PLAIN_HIGH && least[r] >= PLAIN_LOW;
    if (!plain) return 0;
    for (int r = 0; r < XENT_ROWS; r++) {
        const wide top = NAME(exp_wide)(most[r], 0.0);
        top_hi[r] = top.hi, top_lo[r] = top.lo;
    }
    double rest_hi[XENT_ROWS], rest_lo[XENT_ROWS];
    int small[XENT_ROWS], any = 0;
    /* As rest_of and apart_rest: a difference first; the largest taken out of its lanes for rows that need it. */
    for (int apart = 0; apart < 2 && (!apart || any); apart++) {
        for (int c = 0; c < classes; c++)
            for (int r = 0; r < XENT_ROWS; r++) {
                double h = 0.0, l = 0.0;
                w->columns[c][r] = NAME(add_exp)(v[c][r], 0.0, 1, &h, &l);
                const int out = apart && v[c][r] == most[r];
                const wide others = NAME(without)(h, l, out ? top_hi[r] : 0.0, out ? top_lo[r] : 0.0);
                hi[c][r] = others.hi, lo[LOW_LANE(c)][r] = others.lo;
                ties[r] += out;
            }
        for (int half = XENT_NARROW / 2, n = classes; half; half /= 2) {
            for (int c = 0; c + half < n; c++)
                for (int r = 0; r < XENT_ROWS; r++)
                    NAME(fold_one)(&hi[c][r], &lo[LOW_LANE(c)][r], hi[c + half][r], lo[LOW_LANE(c + half)][r]);
            n = n < half ? n : half;
        }
        for (int r = 0; r < XENT_ROWS; r++) {
            wide rest = NAME(folded)(hi[0][r], lo[0][r]);
            if (!apart) {
                rest = NAME(without)(rest.hi, rest.lo, top_hi[r], top_lo[r]);
                small[r] = !(rest.hi >= SHARP * top_hi[r]);
                any |= small[r];
            } else if (ties[r] > 0)
                rest = wide_add(rest, wide_mul((wide){top_hi[r], top_lo[r]}, (wide){(double)ties[r], 0.0}));
            rest_hi[r] = small[r] || !apart ? rest.hi : rest_hi[r];
            rest_lo[r] = small[r] || !apart ? rest.lo : rest_lo[r];
        }
    }
    for (int r = 0; r < rows; r++) {
        rowsum *sum = &w->sums[r];
        *sum = (rowsum){.max = (double)most[r], .min = (double)least[r], .kind = ROW_FINITE, .plain = 1};
        sum->top = (wide){top_hi[r], top_lo[r]}, sum->rest = (wide){rest_hi[r], rest_lo[r]};
        if (sum->rest.hi != sum->rest.hi) sum->kind = ROW_NAN;
    }
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
    w->side_by_side = 0;
    if (direct && rows > 1 && !w->careful && classes <= XENT_NARROW && NAME(narrow_sums)(w, rows))
        w->side_by_side = 1;
    else if (direct && rows > 1 && !w->careful) {
        int swept = 0;
        for (; swept < rows; swept++) {
            const REAL *x = (const REAL *)w->x_rows[swept];
            REAL *e = (REAL *)w->out_rows[swept];
            if (NAME(plain_sweep)(x, classes, e, w->journal, &w->lanes[swept])) continue;
            w->careful = 1;
            NAME(guarded_sum)(e == x ? w->journal : x, classes, e, w->journal, &w->sums[swept]);
            break;
        }
        for (int r = 0; r < swept; r++) NAME(plain_sum)
        (&w->lanes[r], (const REAL *)w->x_rows[r], (const REAL *)w->out_rows[r], classes, &w->sums[r]);
        for (int r = swept + 1; r < rows; r++) NAME(row_sum)(w, w->x_rows[r], w->out_rows[r], &w->sums[r]);
    } else
        for (int r = 0; r < rows; r++) NAME(row_sum)(w, w->x_rows[r], w->out_rows[r], &w->sums[r]);

    double s_hi[XENT_ROWS], s_lo[XENT_ROWS];
    for (int r = 0; r < rows; r++) {
        const int finite = w->sums[r].kind == ROW_FINITE;
        const wide s =
            NAME(div)(finite ? w->sums[r].rest : (wide){0.0, 0.0}, finite ? w->sums[r].top : (wide){1.0, 0.0});
        s_hi[r] = s.hi, s_lo[r] = s.lo;
    }
    for (int r = 0; r < rows; r++) w->logs[r] = log1p_wide((wide){s_hi[r], s_lo[r]});
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

/* Whether no product of the terms of a row with d can come near the smallest normal number, with room for the low part
 * of d. */
XENT_INLINE int NAME(is_safe)(const rowsum *sum, wide d) {
    const double size = fabs(d.hi), low_bits = sizeof(REAL) == 4 ? 42.0 : 124.0;
    return sum->plain && size > REAL_MIN * 0x1p60 && size < 0x1p60 &&
           sum->min * LOG2E + (double)exponent_of(size) > MIN_EXPONENT + low_bits + 1.0;
}

/* Scale the stored terms of row r of the last sum_rows, which is finite, by d: e^x / sum * g for d = g / total. */
static inline void NAME(row_scale)(NAME(sweeper) * w, int r, wide d) {
    const rowsum *sum = &w->sums[r];
    char *out_row = w->out_rows[r];
    const ptrdiff_t classes = w->layout->classes;
    const int safe = NAME(is_safe)(sum, d);
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        REAL *e = (REAL *)out_row + start, hi, lo;
        if (!w->out->direct) {
            gather_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
            e = w->terms;
        }
        if (w->side_by_side)
            for (ptrdiff_t c = 0; c < n; c++) e[c] = w->columns[c][r];
        if (safe) {
            NAME(split)(d, &hi, &lo);
            NAME(scale_plain)(e, n, hi, lo);
        } else {
            /* d 2^(block scale - row scale) = f 2^k with 1/4 <= |f| < 1/2 */
            wide f = d;
            double k = 0.0;
            const block_scale whole_row = {sum->max, sum->scale, sum->far};
            const block_scale *block = classes <= XENT_BLOCK ? &whole_row : &w->blocks[b];
            if (!sum->far && !block->far)
                k = block->scale - sum->scale;
            else {
                rowsum from = {.max = block->max, .scale = block->scale, .far = block->far};
                from.top =
                    block->far ? (wide){power_of_two(GUARD), 0.0} : NAME(exp_wide)((REAL)block->max, -block->scale);
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
        together = w->sums[r].kind == ROW_FINITE && NAME(is_safe)(&w->sums[r], w->factors[r]);
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
    w->layout = layout, w->x = x, w->out = out, w->careful = 0;
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
    v.offset = GUARD - rint(m * LOG2E);
    v.floor = (REAL)(m - DEEP);
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
