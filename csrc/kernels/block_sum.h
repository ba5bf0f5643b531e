/* A block of a row summed, as rowsum.h has it. Included once per dtype, in sweeper.c. */
#include "sweep.h"

XENT_INLINE int NAME(has_nan)(const REAL *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (x[i] != x[i]) return 1;
    return 0;
}

/* What the second sweep needs to know of the first. */
typedef struct {
    REAL rounder, floor, max; /* max: 0 for a far block, whose logits are taken relative to it */
    int clamp;                /* some logit is below floor */
} NAME(reduction);

XENT_INLINE NAME(reduction) NAME(reduce_by)(REAL max, REAL min, headroom room, double *scale) {
    const double n = fma((double)max, LOG2E, ROUNDER) - ROUNDER, offset = room.guard - n;
    const REAL floor = max - (REAL)room.depth;
    *scale = -offset;
    return (NAME(reduction)){NAME(rounder)(offset), floor, max, min < floor};
}

/* The first sweep over a block, whose extremes may be known. 0 where there is nothing to sweep again: all of *out is known,
 * and its terms are 0. */
static inline int NAME(block_start)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, const coming_logits *found,
                                    NAME(reduction) * by, rowsum *out) {
    REAL max = (REAL)found->most, min = (REAL)found->least;
    if (!found->known) KERNEL(extremes)(x, n, &max, &min);
    *out = (rowsum){.max = (double)max, .min = (double)min, .kind = ROW_FINITE};
    if (max == -REAL_INF || max == REAL_INF) {
        out->kind = NAME(has_nan)(x, n) ? ROW_NAN : max > 0 ? ROW_INFINITE : ROW_EMPTY;
        if (e) memset(e, 0, (size_t)n * sizeof(REAL));
        return 0;
    }
    out->far = fabs((double)max) > FAR;
    *by = NAME(reduce_by)(out->far ? 0 : max, out->far ? min - max : min, room, &out->scale);
    return 1;
}

/* The second sweep: x (n) -> lanes, terms to e (NULL: nowhere; x: in place). */
static inline void NAME(block_sweep)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, const NAME(reduction) * by,
                                     NAME(lanes) * lanes, const look_ahead *look) {
    const REAL sigma = NAME(sigma)(room.guard);
    xent_lines *left = look->left;
    const ptrdiff_t turns = n / (LINES_AT_ONCE * XENT_LANES), whole = left ? left->n / LINES_AT_ONCE : 0;
    if (turns && whole && look->packed && (!e || e == x) && !by->clamp) {
        const NAME(scaling) these = {.terms = (const REAL *)(const void *)left->from,
                                     .to = (REAL *)(void *)left->to,
                                     .n = (turns < whole ? turns : whole) * LINES_AT_ONCE};
        if (e) NAME(sweep_and_store_lines)
        (NULL, e, n, by->rounder, sigma, by->floor, lanes, look, &these);
        else NAME(sweep_sum_and_store_lines)(x, NULL, n, by->rounder, sigma, by->floor, lanes, look, &these);
        left->from += these.n * XENT_LINE, left->to += these.n * XENT_LINE, left->n -= these.n;
    } else if (!e)
        (by->clamp      ? NAME(sweep_sum_clamped)
         : look->packed ? NAME(sweep_packed)
                        : NAME(sweep_sum))(x, NULL, n, by->rounder, sigma, by->floor, lanes, look, NULL);
    else if (e == x)
        (by->clamp      ? NAME(sweep_in_place_clamped)
         : look->packed ? NAME(sweep_packed_in_place)
                        : NAME(sweep_in_place))(NULL, e, n, by->rounder, sigma, by->floor, lanes, look, NULL);
    else
        (by->clamp ? NAME(sweep_store_clamped) : NAME(sweep_store))(x, e, n, by->rounder, sigma, by->floor, lanes, look,
                                                                    NULL);
}

/* The lanes folded in halves. */
XENT_INLINE wide NAME(fold)(double *hi, REAL *lo) {
#define SUMS(half) \
    for (int l = 0; l < half; l++) NAME(fold_one)(&hi[l], &lo[l], hi[l + half], lo[l + half]);
    XENT_FOLD(SUMS)
#undef SUMS
    return NAME(folded)(hi[0], lo[0]);
}

XENT_INLINE wide NAME(lanes_sum)(const NAME(lanes) * lanes, double sigma) {
    double hi[XENT_LANES];
    REAL lo[XENT_LANES];
    for (int l = 0; l < XENT_LANES; l++) hi[l] = (double)lanes->hi[l] - sigma, lo[l] = lanes->lo[l];
    return NAME(fold)(hi, lo);
}

/* The same where it would be part of a large function, in which gcc takes number by number what it takes by vectors here. */
XENT_NOINLINE wide NAME(lanes_sum_apart)(const NAME(lanes) * lanes, double sigma) {
    return NAME(lanes_sum)(lanes, sigma);
}

/* A term of a row that is counted in a rest that is small: one below the largest that was not dropped. A NaN stays.
 * (By its bits: of a choice between numbers gcc makes masks for each double that comes of them.) */
XENT_INLINE REAL NAME(rest_term)(REAL term, REAL largest) {
    NAME(bits) bits;
    memcpy(&bits, &term, sizeof bits);
    bits &= -(NAME(bits))(!(term < (REAL)DROPPED) & !(term >= largest));
    memcpy(&term, &bits, sizeof bits);
    return term;
}

/* The rest of a block that is small beside its largest term: the terms below it, as they are stored, added anew.
 * stored, a constant: they are at v; else the logits are. */
XENT_INLINE wide NAME(rest_of)(const REAL *v, ptrdiff_t n, const NAME(reduction) * by, const int stored) {
    double hi[XENT_LANES];
    REAL lo[XENT_LANES], none = 0, lost = 0;
    const REAL rounder = by->rounder, floor = by->floor, largest = NAME(add_exp)(by->max, rounder, 1, &none, &lost);
    for (int l = 0; l < XENT_LANES; l++) hi[l] = 0.0, lo[l] = 0;
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES) {
        REAL few[XENT_LANES], term[XENT_LANES];
        const REAL *at = v + i;
        if (n - i < XENT_LANES) { /* what is behind the row counts as 0 */
            for (int l = 0; l < XENT_LANES; l++) few[l] = stored ? 0 : -REAL_INF;
            memcpy(few, at, (size_t)(n - i) * sizeof(REAL));
            at = few;
        }
        for (int l = 0; l < XENT_LANES; l++) {
            REAL hi_ = 0, lo_ = 0, e = at[l];
            if (!stored) e = NAME(add_exp)(e < floor ? floor : e, rounder, !NAME(drops)(e, floor), &hi_, &lo_);
            term[l] = NAME(rest_term)(e, largest);
        }
        for (int l = 0; l < XENT_LANES; l++)
            if (sizeof(REAL) == 4) /* of float32 all low parts are 0 */
                hi[l] += (double)term[l];
            else
                NAME(fold_one)(&hi[l], &lo[l], (double)term[l], 0);
    }
    return NAME(fold)(hi, lo);
}
XENT_NOINLINE wide NAME(rest_of_terms)(const REAL *e, ptrdiff_t n, const NAME(reduction) * by) {
    return NAME(rest_of)(e, n, by, 1);
}
XENT_NOINLINE wide NAME(rest_of_logits)(const REAL *x, ptrdiff_t n, const NAME(reduction) * by) {
    return NAME(rest_of)(x, n, by, 0);
}
static inline wide NAME(sharp_rest)(const REAL *x, const REAL *e, ptrdiff_t n, const NAME(reduction) * by) {
    return e ? NAME(rest_of_terms)(e, n, by) : NAME(rest_of_logits)(x, n, by);
}

/* A block's rest, given its sum, its largest term `top`, and that term as the sum has it; e NULL: the terms were not
 * stored, and x has the logits. */
XENT_INLINE void NAME(close_block)(wide sum, wide top, wide added, const NAME(reduction) * by, const REAL *x,
                                   const REAL *e, ptrdiff_t n, rowsum *out) {
    out->top = top;
    out->rest = NAME(sub)(sum, added);
    if (!(out->rest.hi >= SHARP * top.hi)) out->rest = NAME(sharp_rest)(x, e, n, by);
    if (out->rest.hi != out->rest.hi) out->kind = ROW_NAN;
}

/* A whole block at once, whose extremes may be known; `shifted` has room for a far one's x - max. */
void KERNEL(block_sum)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, REAL *shifted, NAME(lanes) * lanes,
                       const coming_logits *found, const look_ahead *look, rowsum *out) {
    NAME(reduction) by;
    if (!NAME(block_start)(x, n, e, room, found, &by, out)) return;
    if (out->far) {
        for (ptrdiff_t i = 0; i < n; i++) shifted[i] = x[i] - (REAL)out->max;
        x = shifted;
    }
    NAME(block_sweep)(x, n, e, room, &by, lanes, look);
    NAME(close_block)
    (NAME(lanes_sum)(lanes, (double)NAME(sigma)(room.guard)), NAME(exp_wide)(by.max, -out->scale),
     NAME(added)(by.max, by.rounder), &by, x, e, n, out);
}
