/* The sum of exponentials of a row, block by block; what every softmax kernel starts from.
 *
 *   x (C) -> max, rest = sum of e^x without one copy of the largest, top = e^max; e (C) if stored
 *
 * The largest term stands apart, so that 1 - p keeps every digit where p is nearly 1:
 *   s = rest / top,  lse = max + log1p(s),  p = e / (top + rest),  1 - p_max = rest / (top + rest).
 *
 * Two sweeps over a block, which is still in the first-level cache for the second: its extremes; then the terms
 * e^x 2^(guard - N), N = round(max log2 e). N is an integer, so blocks, and what they leave, differ by exact powers of
 * two; nothing is lost in x - max. Blocks whose maximum is beyond FAR, where x log2 e has too few digits left of the
 * point, are summed as e^(x - max): that difference is exact for every x that is near enough to count.
 *
 * A lane is hi + lo. hi starts at sigma = 2^(guard + 1), above every term, so what an addition loses of a term is found
 * by two subtractions, exactly, and goes to lo.
 */
#include "rows.h"

#ifndef XENT_ROWSUM_H
#define XENT_ROWSUM_H
enum {
    SUM_ONLY,
    SUM_PACKED /* only, too; what is next goes to the second-level cache */,
    SUM_STORE,
    SUM_KEEP /* stored where they stay in the cache */,
    SUM_IN_PLACE,
    SUM_PACKED_IN_PLACE
};
enum row_kind { ROW_FINITE, ROW_EMPTY /* nothing above -inf */, ROW_INFINITE /* +inf */, ROW_NAN };

static const double FAR = 65536.0;

/* A sum of exponentials: (rest + top) 2^scale; where a far maximum took part, (rest + top) / top e^max. */
typedef struct {
    double max, min;
    double scale;
    wide rest, top;
    enum row_kind kind;
    int far; /* some block was far */
} rowsum;

/* What is to be asked for while a row is summed: `at`, then `step` bytes further for each group of lanes. */
typedef struct {
    const char *at;
    ptrdiff_t step;
    int packed;
} look_ahead;

/* How terms are stored: guard is GUARD or GUARD_DEEP. */
typedef struct {
    double guard, depth;
} headroom;
#endif

/* What a block leaves in the lanes. */
typedef struct {
    REAL hi[XENT_LANES], lo[XENT_LANES];
} NAME(lanes);

XENT_INLINE REAL NAME(sigma)(double guard) {
    return (REAL)power_of_two((int)guard + 1);
}

/* The largest and the smallest of x[0..n), NaN aside. */
XENT_NOINLINE void NAME(extremes)(const REAL *x, ptrdiff_t n, REAL *largest, REAL *smallest) {
    REAL most[XENT_LANES], least[XENT_LANES], few[XENT_LANES];
    for (int l = 0; l < XENT_LANES; l++) most[l] = -REAL_INF, least[l] = REAL_INF;
    if (n < XENT_LANES) {
        for (int l = 0; l < XENT_LANES; l++) few[l] = x[0];
        memcpy(few, x, (size_t)n * sizeof(REAL));
        x = few, n = XENT_LANES;
    }
    for (ptrdiff_t i = 0, end = n - XENT_LANES; i < n; i += XENT_LANES) {
        const REAL *at = x + (i < end ? i : end); /* the last lanes overlap the ones before */
        for (int l = 0; l < XENT_LANES; l++) {
            most[l] = at[l] > most[l] ? at[l] : most[l];
            least[l] = at[l] < least[l] ? at[l] : least[l];
        }
    }
#define EXTREMES(half)                                                      \
    for (int l = 0; l < half; l++) {                                        \
        most[l] = most[l + half] > most[l] ? most[l + half] : most[l];      \
        least[l] = least[l + half] < least[l] ? least[l + half] : least[l]; \
    }
    XENT_FOLD(EXTREMES)
#undef EXTREMES
    *largest = most[0], *smallest = least[0];
}

/* The terms of an earlier row, which a sweep scales on its way: to[i] = terms[i] (hi + lo), stored past the cache. `to`
 * is the start of a line, n a whole number of XENT_LANES. */
typedef struct {
    const REAL *terms;
    REAL *to, hi, lo;
    ptrdiff_t n;
} NAME(scaling);

XENT_INLINE REAL NAME(scaled_term)(REAL term, REAL hi, REAL lo) {
    return REAL_FMA(term, hi, term * lo);
}

/* XENT_LANES classes from i on, in the body of sweep, whose arrays compilers then keep in registers. What the next sweep
 * for extremes will read is asked for, which has little arithmetic to hide a wait; and the lines that terms are about to
 * be stored to. */
#define SWEEP_GROUP                                                                                  \
    for (int l = 0; l < XENT_LANES; l += XENT_LINE / (int)sizeof(REAL)) {                            \
        if (mode == SUM_PACKED || mode == SUM_PACKED_IN_PLACE)                                       \
            __builtin_prefetch(ahead + l * (int)sizeof(REAL), 0, 2);                                 \
        else                                                                                         \
            __builtin_prefetch(ahead + l * (int)sizeof(REAL), 0);                                    \
        if (mode == SUM_STORE) __builtin_prefetch((const char *)(e + i + l) + XENT_STORES_AHEAD, 1); \
    }                                                                                                \
    ahead += ahead_step;                                                                             \
    for (int l = 0; l < XENT_LANES; l++) {                                                           \
        REAL v = mode >= SUM_IN_PLACE ? e[i + l] : x[i + l];                                         \
        if (clamp) v = v < floor ? floor : v; /* a NaN stays */                                      \
        REAL term = NAME(add_exp)(v, rounder, 1, &hi[l], &lo[l]);                                    \
        if (mode >= SUM_STORE) e[i + l] = term;                                                      \
    }

/* One block, into lanes. mode, clamp and scale are constants at every call; clamped, what is below floor counts as
 * floor; with scale, `scaled_n` terms of an earlier row are scaled, or as many as there are whole groups of x. */
XENT_INLINE void NAME(sweep)(const REAL *restrict x, REAL *restrict e, ptrdiff_t n, REAL rounder, REAL sigma,
                             REAL floor, int mode, int clamp, NAME(lanes) *restrict out, int scale,
                             const REAL *restrict terms, REAL *restrict to, REAL d_hi, REAL d_lo, ptrdiff_t scaled_n,
                             const char *ahead, ptrdiff_t ahead_step) {
    const REAL *from = mode >= SUM_IN_PLACE ? e : x;
    const ptrdiff_t whole = n - n % XENT_LANES, both = scaled_n < whole ? scaled_n : whole;
    REAL hi[XENT_LANES],
        lo[XENT_LANES]; /* local arrays: compilers keep these in registers, but gcc not in a loop with stream_line */
    ptrdiff_t i = 0;
    for (int l = 0; l < XENT_LANES; l++) hi[l] = sigma, lo[l] = 0;
    if (scale) {
        enum { MANY = 4 * XENT_LANES }; /* so lines are made in a loop, then stored */
        while (i + MANY <= both) {
            _Alignas(XENT_LINE) REAL lines[MANY];
            const ptrdiff_t end = i + MANY;
            const REAL *its = terms + i;
            for (REAL *line = lines; i < end; i += XENT_LANES, line += XENT_LANES, its += XENT_LANES) {
                SWEEP_GROUP
                for (int l = 0; l < XENT_LANES; l++) line[l] = NAME(scaled_term)(its[l], d_hi, d_lo);
            }
            for (int l = 0; l < MANY; l += XENT_LINE / (int)sizeof(REAL)) stream_line(to + end - MANY + l, lines + l);
        }
        for (; i < both; i += XENT_LANES) {
            SWEEP_GROUP
            REAL line[XENT_LANES];
            for (int l = 0; l < XENT_LANES; l++) line[l] = NAME(scaled_term)(terms[i + l], d_hi, d_lo);
            for (int l = 0; l < XENT_LANES; l += XENT_LINE / (int)sizeof(REAL)) stream_line(to + i + l, line + l);
        }
    }
    for (; i < whole; i += XENT_LANES) {
        SWEEP_GROUP
    }
    memcpy(out->hi, hi, sizeof hi), memcpy(out->lo, lo, sizeof lo);
    for (i = whole; i < n; i += XENT_TAIL_STEP) {
        const int left = n - i < XENT_TAIL_STEP ? (int)(n - i) : XENT_TAIL_STEP;
        REAL *at_hi = out->hi + (i - whole), *at_lo = out->lo + (i - whole);
        for (int l = 0; l < XENT_TAIL_STEP; l++) {
            REAL v = l < left ? from[i + l] : floor;
            if (clamp) v = v < floor ? floor : v;
            REAL term = NAME(add_exp)(v, rounder, l < left, &at_hi[l], &at_lo[l]);
            if (mode >= SUM_STORE && l < left) e[i + l] = term;
        }
    }
}
#undef SWEEP_GROUP

#define SWEEP(NAME_, MODE, CLAMP, SCALE)                                                                         \
    XENT_NOINLINE void NAME(NAME_)(const REAL *x, REAL *e, ptrdiff_t n, REAL rounder, REAL sigma, REAL floor,    \
                                   NAME(lanes) * out, look_ahead look, const NAME(scaling) * s) {                \
        NAME(sweep)                                                                                              \
        (x, e, n, rounder, sigma, floor, MODE, CLAMP, out, SCALE, SCALE ? s->terms : NULL, SCALE ? s->to : NULL, \
         SCALE ? s->hi : 0, SCALE ? s->lo : 0, SCALE ? s->n : 0, look.at, look.step);                            \
    }
SWEEP(sweep_sum, SUM_ONLY, 0, 0)
SWEEP(sweep_sum_clamped, SUM_ONLY, 1, 0)
SWEEP(sweep_packed, SUM_PACKED, 0, 0)
SWEEP(sweep_store, SUM_STORE, 0, 0)
SWEEP(sweep_store_clamped, SUM_STORE, 1, 0)
SWEEP(sweep_and_stream, SUM_KEEP, 0, 1)
SWEEP(sweep_in_place, SUM_IN_PLACE, 0, 0)
SWEEP(sweep_in_place_clamped, SUM_IN_PLACE, 1, 0)
SWEEP(sweep_packed_in_place, SUM_PACKED_IN_PLACE, 0, 0)
#undef SWEEP

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

/* The first sweep over a block. 0 where there is nothing to sweep again: all of *out is known, and its terms are 0. */
static inline int NAME(block_start)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, NAME(reduction) * by,
                                    rowsum *out) {
    REAL max, min;
    NAME(extremes)(x, n, &max, &min);
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
                                     NAME(lanes) * lanes, look_ahead look) {
    const REAL sigma = NAME(sigma)(room.guard);
    if (!e)
        (by->clamp     ? NAME(sweep_sum_clamped)
         : look.packed ? NAME(sweep_packed)
                       : NAME(sweep_sum))(x, NULL, n, by->rounder, sigma, by->floor, lanes, look, NULL);
    else if (e == x)
        (by->clamp     ? NAME(sweep_in_place_clamped)
         : look.packed ? NAME(sweep_packed_in_place)
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

/* The rest of a block that is small beside its largest term: the terms below it, as they are stored, added anew. */
XENT_NOINLINE wide NAME(sharp_rest)(const REAL *x, const REAL *e, ptrdiff_t n, const NAME(reduction) * by) {
    double hi[XENT_LANES];
    REAL lo[XENT_LANES], none = 0, lost = 0;
    const REAL largest = NAME(add_exp)(by->max, by->rounder, 1, &none, &lost);
    for (int l = 0; l < XENT_LANES; l++) hi[l] = 0.0, lo[l] = 0;
    for (ptrdiff_t i = 0; i < n; i += XENT_LANES) {
        const int left = n - i < XENT_LANES ? (int)(n - i) : XENT_LANES;
        REAL term[XENT_LANES] = {0};
        if (e)
            memcpy(term, e + i, (size_t)left * sizeof(REAL));
        else {
            memcpy(term, x + i, (size_t)left * sizeof(REAL));
            for (int l = 0; l < XENT_LANES; l++) {
                REAL hi_ = 0, lo_ = 0, v = term[l] < by->floor ? by->floor : term[l];
                term[l] = NAME(add_exp)(v, by->rounder, l < left, &hi_, &lo_);
            }
        }
        for (int l = 0; l < XENT_LANES; l++) {
            const REAL counted = term[l] < (REAL)DROPPED || term[l] >= largest ? 0 : term[l];
            NAME(fold_one)(&hi[l], &lo[l], (double)counted, 0);
        }
    }
    return NAME(fold)(hi, lo);
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

/* A whole block at once; `shifted` has room for a far one's x - max. */
static inline void NAME(block_sum)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, REAL *shifted,
                                   NAME(lanes) * lanes, look_ahead look, rowsum *out) {
    NAME(reduction) by;
    if (!NAME(block_start)(x, n, e, room, &by, out)) return;
    if (out->far) {
        for (ptrdiff_t i = 0; i < n; i++) shifted[i] = x[i] - (REAL)out->max;
        x = shifted;
    }
    NAME(block_sweep)(x, n, e, room, &by, lanes, look);
    NAME(close_block)
    (NAME(lanes_sum)(lanes, (double)NAME(sigma)(room.guard)), NAME(exp_wide)(by.max, -out->scale),
     NAME(added)(by.max, by.rounder), &by, x, e, n, out);
}

#ifndef XENT_ROWSUM_SCALAR
#define XENT_ROWSUM_SCALAR
/* e^(low - high) for two far maxima; 0 where it is no normal number. */
XENT_INLINE wide far_factor(double low, double high) {
    double d = low - high;
    return d < -708.0 ? (wide){0.0, 0.0} : exp_f64(d, 0.0);
}

/* A sum in the scale of `from`, in that of `into`, whose maximum is no smaller. Two near scales differ by a power
 * of two: exact. */
XENT_INLINE wide rescaled(wide a, const rowsum *from, const rowsum *into) {
    if (!from->far && !into->far) return wide_scale(a, from->scale - into->scale);
    const wide factor = far_factor(from->max, into->max);
    if (factor.hi == 0.0) return factor; /* and so the two tops are of the same size */
    return wide_mul(wide_mul(a, factor), wide_div(into->top, from->top));
}

/* row += block, blocks in order. */
static inline void add_block(rowsum *row, const rowsum *block) {
    if (block->kind == ROW_NAN || row->kind == ROW_NAN) {
        row->kind = ROW_NAN;
        return;
    }
    if (row->kind == ROW_INFINITE || block->kind == ROW_EMPTY) return;
    if (block->kind == ROW_INFINITE || row->kind == ROW_EMPTY) {
        *row = *block;
        return;
    }
    const int higher = block->max > row->max;
    const rowsum *high = higher ? block : row, *low = higher ? row : block;
    rowsum sum = *high;
    sum.rest = wide_add(rescaled(wide_add(low->rest, low->top), low, high), high->rest);
    sum.far = low->far || high->far;
    sum.min = row->min < block->min ? row->min : block->min;
    *row = sum;
}
#endif
