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
enum { XENT_BLOCKS_ON_STACK = 64 };

/* log(1 + s) of a finite row: lse = max + this. */
XENT_INLINE double log_rest(const rowsum *sum) {
    return log1p_wide(wide_div(sum->rest, sum->top));
}
#endif

/* Of one thread's call: buffers and what was learnt on the way. */
typedef struct {
    const xent_layout *layout;
    const xent_view *x, *out; /* out NULL: nothing is stored */
    block_scale *blocks;
    int careful;
    _Alignas(64) REAL logits[XENT_BLOCK];
    _Alignas(64) REAL terms[XENT_BLOCK];
    _Alignas(64) REAL journal[XENT_BLOCK];
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
        if (out_row && !stored_there)
            scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
        if (out_row) w->blocks[b] = (block_scale){block.max, block.scale, block.far};
        if (start == 0)
            *sum = block;
        else
            add_block(sum, &block);
        if (sum->kind == ROW_NAN) return;
    }
}

/* e <- e d 2^k, rounded once: d in two parts of the dtype. The product is formed 2^shift too large, so that what falls
 * below the smallest normal number is seen and made 0 before any subnormal could arise. */
XENT_INLINE void NAME(scale_terms)(REAL *restrict e, ptrdiff_t n, REAL d_hi, REAL d_lo, REAL least, REAL down,
                                   REAL down2, int mode) {
    for (ptrdiff_t i = 0; i < n; i++) {
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
    *lo = fabs(rest) < 0x1p-70 * fabs(d.hi) || (sizeof(REAL) == 4 && fabs(rest) < 0x1p-40 * fabs(d.hi))
              ? (REAL)0
              : (REAL)rest;
}

/* Scale the stored terms of a finite row by d: e^x / sum * g for d = g / (rest + top). */
static inline void NAME(row_scale)(NAME(sweeper) * w, char *out_row, const rowsum *sum, wide d) {
    const ptrdiff_t classes = w->layout->classes;
    const double size = fabs(d.hi);
    /* No product can come near the smallest normal number, with room for the low part of d. */
    const int safe = sum->plain && size > 0.0 &&
                     floor(sum->min * LOG2E) + ilogb(size) > MIN_EXPONENT + (sizeof(REAL) == 4 ? 42 : 124) &&
                     size > REAL_MIN * 0x1p60 && size < 0x1p60;
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        REAL *e = (REAL *)out_row + start, hi, lo;
        if (!w->out->direct) {
            gather_block(w->layout, w->out, out_row, start, n, w->terms, sizeof(REAL));
            e = w->terms;
        }
        if (safe) {
            NAME(split)(d, &hi, &lo);
            NAME(scale_plain)(e, n, hi, lo);
        } else {
            /* d 2^(block scale - row scale) = f 2^k with 1/4 <= |f| < 1/2 */
            wide f = d;
            double k = 0.0;
            const block_scale *block = &w->blocks[b];
            if (!sum->far && !block->far)
                k = block->scale - sum->scale;
            else {
                rowsum from = {.max = block->max, .scale = block->scale, .far = block->far};
                from.top = block->far ? (wide){power_of_two(GUARD), 0.0}
                                      : NAME(exp_wide)((REAL)block->max, -block->scale);
                f = rescaled(d, &from, sum);
            }
            const double magnitude = fabs(f.hi);
            const int exponent = magnitude > 0.0 ? ilogb(magnitude) + 2 : 0;
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
                NAME(scale_twice)(e, n, hi, lo, (REAL)bound, sign * (REAL)scale_by(1.0, -half),
                                  (REAL)scale_by(1.0, half - shift));
            }
        }
        if (!w->out->direct) scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
    }
}

static inline void NAME(row_fill)(NAME(sweeper) * w, char *out_row, REAL value) {
    for (ptrdiff_t i = 0; i < w->layout->classes; i++)
        memcpy(element_of(w->layout, w->out, out_row, i), &value, sizeof value);
}

/* Ready for rows of this layout; 0 where there is no memory for the scales of a row of very many classes. */
static inline int NAME(sweeper_start)(NAME(sweeper) * w, const xent_layout *layout, const xent_view *x, const xent_view *out,
                               block_scale *few) {
    const size_t blocks = (size_t)((layout->classes + XENT_BLOCK - 1) / XENT_BLOCK);
    w->layout = layout, w->x = x, w->out = out, w->careful = 0;
    w->blocks = !out || blocks <= XENT_BLOCKS_ON_STACK ? few : malloc(blocks * sizeof *few);
    return w->blocks != NULL;
}

static inline void NAME(sweeper_stop)(NAME(sweeper) * w, const block_scale *few) {
    if (w->blocks != few) free(w->blocks);
}

/* Round once; below the smallest normal number, 0. */
XENT_INLINE REAL NAME(rounded)(double v) {
    return fabs(v) < REAL_MIN ? (REAL)0 : (REAL)v;
}

static inline double NAME(row_lse)(const rowsum *sum) {
    switch (sum->kind) {
        case ROW_FINITE: return sum->max + log_rest(sum);
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
