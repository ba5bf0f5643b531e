/* The sum of exponentials of a row, in one sweep over it; what every softmax kernel starts from.
 *
 *   x (C) -> max, rest = sum of e^x without one copy of the largest, top = e^max; e (C) if stored
 *
 * The largest term stands apart, so that 1 - p keeps every digit where p is nearly 1:
 *   s = rest / top,  lse = max + log1p(s),  p = e / (top + rest),  1 - p_max = rest / (top + rest).
 *
 * A block is first summed "plain", as e^x in one sweep that also finds its largest and smallest logit. Where they turn
 * out not to lie in the plain range it is summed again as e^x 2^(GUARD - N), N from its maximum, and the blocks that
 * follow in this call look for their maximum first (`careful`). The two differ by an exact power of two, so
 * which of them ran changes no bit. Before a block is overwritten in place, its logits go to a journal.
 * Blocks whose maximum is beyond FAR, where x log2 e has too few digits left of the point, are summed as
 * e^(x - max): that difference is exact for every x that is near enough to count.
 */
#include "rows.h"

#ifndef XENT_ROWSUM_H
#define XENT_ROWSUM_H
enum { SUM_ONLY, SUM_STORE, SUM_IN_PLACE };
enum row_kind { ROW_FINITE, ROW_EMPTY /* nothing above -inf */, ROW_INFINITE /* +inf */, ROW_NAN };

static const double FAR = 65536.0;

/* A sum of exponentials: (rest + top) 2^scale; where a far maximum took part, (rest + top) / top e^max. */
typedef struct {
    double max, min;
    double scale;
    wide rest, top;
    enum row_kind kind;
    int far, plain; /* some block was far; all were plain */
} rowsum;
#endif

/* What a block leaves in the lanes. lo is there where sums have two parts. */
typedef struct {
    double hi[XENT_LANES], lo[LOW_LANES];
    REAL most[XENT_LANES], largest, smallest; /* the largest logit of each lane, and of all; the smallest of all */
} NAME(lanes);

/* One block, into lanes. mode and clamp are constants at every call; clamped, what is below floor counts as floor. */
XENT_INLINE void NAME(sweep)(const REAL *restrict x, REAL *restrict e, REAL *restrict journal, ptrdiff_t n,
                             double offset, REAL floor, int mode, int clamp, NAME(lanes) * out) {
    const ptrdiff_t whole = n - n % XENT_LANES;
    double hi[XENT_LANES], lo[LOW_LANES]; /* local arrays: compilers keep these in registers */
    REAL most[XENT_LANES], least[XENT_LANES];
    for (int l = 0; l < XENT_LANES; l++) hi[l] = lo[LOW_LANE(l)] = 0.0, most[l] = -REAL_INF, least[l] = REAL_INF;
    for (ptrdiff_t i = 0; i < whole; i += XENT_LANES) {
        /* The logits are asked for a page's length ahead: the sweep has few loads in flight beside its arithmetic. (Asking
         * for the lines of `e` too costs more than it gains where both rows together outgrow the second-level cache.) */
        for (int l = 0; l < XENT_LANES; l += XENT_LINE / (int)sizeof(REAL)) {
            if (mode != SUM_IN_PLACE) __builtin_prefetch(x + i + l + XENT_AHEAD / sizeof(REAL), 0);
            if (mode == SUM_IN_PLACE) __builtin_prefetch(e + i + l + XENT_AHEAD / sizeof(REAL), 1);
        }
        for (int l = 0; l < XENT_LANES; l++) {
            REAL v = mode == SUM_IN_PLACE ? e[i + l] : x[i + l];
            if (mode == SUM_IN_PLACE) journal[i + l] = v;
            most[l] = v > most[l] ? v : most[l];
            if (clamp)
                v = v < floor ? floor : v; /* a NaN stays */
            else
                least[l] = v < least[l] ? v : least[l];
            REAL term = NAME(add_exp)(v, offset, 1, &hi[l], &lo[LOW_LANE(l)]);
            if (mode != SUM_ONLY) e[i + l] = term;
        }
    }
    if (whole < n) {
        REAL v[XENT_LANES], term[XENT_LANES];
        const int left = (int)(n - whole);
        for (int l = 0; l < XENT_LANES; l++) v[l] = floor;
        memcpy(v, (mode == SUM_IN_PLACE ? e : x) + whole, (size_t)left * sizeof(REAL));
        if (mode == SUM_IN_PLACE) memcpy(journal + whole, v, (size_t)left * sizeof(REAL));
        for (int j = 0; j < left; j += XENT_TAIL_STEP)
            for (int i = 0; i < XENT_TAIL_STEP; i++) {
                const int l = j + i, counts = l < left;
                REAL u = v[l];
                const REAL high = counts ? u : -REAL_INF, low = counts ? u : REAL_INF;
                most[l] = high > most[l] ? high : most[l];
                least[l] = low < least[l] ? low : least[l];
                u = u < floor ? floor : u;
                term[l] = NAME(add_exp)(u, offset, counts, &hi[l], &lo[LOW_LANE(l)]);
            }
        if (mode != SUM_ONLY) memcpy(e + whole, term, (size_t)left * sizeof(REAL));
    }
    memcpy(out->hi, hi, sizeof hi), memcpy(out->lo, lo, sizeof lo), memcpy(out->most, most, sizeof most);
#define EXTREMES(half)                                                      \
    for (int l = 0; l < half; l++) {                                        \
        most[l] = most[l + half] > most[l] ? most[l + half] : most[l];      \
        least[l] = least[l + half] < least[l] ? least[l + half] : least[l]; \
    }
    XENT_FOLD(EXTREMES)
#undef EXTREMES
    out->largest = most[0], out->smallest = least[0];
}

XENT_NOINLINE void NAME(sweep_sum)(const REAL *x, ptrdiff_t n, NAME(lanes) * out) {
    NAME(sweep)(x, NULL, NULL, n, 0.0, PLAIN_LOW, SUM_ONLY, 0, out);
}
XENT_NOINLINE void NAME(sweep_store)(const REAL *x, REAL *e, ptrdiff_t n, NAME(lanes) * out) {
    NAME(sweep)(x, e, NULL, n, 0.0, PLAIN_LOW, SUM_STORE, 0, out);
}
XENT_NOINLINE void NAME(sweep_in_place)(REAL *e, REAL *journal, ptrdiff_t n, NAME(lanes) * out) {
    NAME(sweep)(NULL, e, journal, n, 0.0, PLAIN_LOW, SUM_IN_PLACE, 0, out);
}
/* The same for any maximum: offset and floor from it. e NULL: nothing is stored; x may not be e. */
XENT_NOINLINE void NAME(sweep_guarded)(const REAL *x, REAL *e, ptrdiff_t n, double offset, REAL floor,
                                       NAME(lanes) * out) {
    if (e)
        NAME(sweep)(x, e, NULL, n, offset, floor, SUM_STORE, 1, out);
    else
        NAME(sweep)(x, NULL, NULL, n, offset, floor, SUM_ONLY, 1, out);
}

/* The term as a kernel that stores terms would store it; what is dropped there is 0 here. */
XENT_INLINE double NAME(stored)(REAL x, double offset, REAL floor) {
    double hi = 0.0, lo = 0.0;
    REAL term = NAME(add_exp)(x < floor ? floor : x, offset, 1, &hi, &lo);
    return term < (REAL)DROPPED ? 0.0 : (double)term;
}

XENT_NOINLINE REAL NAME(largest)(const REAL *x, ptrdiff_t n) {
    REAL most[XENT_LANES], m = -REAL_INF;
    const ptrdiff_t whole = n - n % XENT_LANES;
    for (int l = 0; l < XENT_LANES; l++) most[l] = -REAL_INF;
    for (ptrdiff_t i = 0; i < whole; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
    for (ptrdiff_t i = whole; i < n; i++) m = x[i] > m ? x[i] : m;
    for (int l = 0; l < XENT_LANES; l++) m = most[l] > m ? most[l] : m;
    return m;
}

XENT_INLINE int NAME(has_nan)(const REAL *x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        if (x[i] != x[i]) return 1;
    return 0;
}

/* The lanes folded in halves. */
XENT_INLINE wide NAME(fold)(double *hi, double *lo) {
#define SUMS(half) \
    for (int l = 0; l < half; l++) NAME(fold_one)(&hi[l], &lo[LOW_LANE(l)], hi[l + half], lo[LOW_LANE(l + half)]);
    XENT_FOLD(SUMS)
#undef SUMS
    return NAME(folded)(hi[0], lo[0]);
}

/* The rest of a block whose largest term stands alone in a lane that has too little left for a difference: add the
 * other terms of that lane, as they are stored. */
XENT_NOINLINE wide NAME(sharp_rest)(const NAME(lanes) * lanes, const REAL *x, const REAL *e, ptrdiff_t n, REAL m,
                                    double offset, REAL floor) {
    const double largest_term = NAME(stored)(m, offset, floor);
    NAME(lanes) work = *lanes;
    double sum = 0.0;
    int skipped = 0, lane = 0;
    while (lane < XENT_LANES - 1 && lanes->most[lane] != m) lane++;
    for (ptrdiff_t i = lane; i < n; i += XENT_LANES) {
        double term = e ? (double)e[i] : NAME(stored)(x[i], offset, floor);
        if (term < DROPPED) term = 0.0;
        if (!skipped && term == largest_term)
            skipped = 1;
        else
            sum += term;
    }
    work.hi[lane] = sum, work.lo[LOW_LANE(lane)] = 0.0;
    return NAME(fold)(work.hi, work.lo);
}

/* The rest of a block that is small beside its largest term m, which is `top`: taken out of every lane whose largest it
 * is, and put back for all those lanes but one. */
XENT_NOINLINE wide NAME(apart_rest)(const NAME(lanes) * lanes, const REAL *x, const REAL *e, ptrdiff_t n, REAL m,
                                    wide top, double offset, REAL floor) {
    double hi[XENT_LANES], lo[LOW_LANES];
    int ties = -1;
    for (int l = 0; l < XENT_LANES; l++) {
        const int holds = lanes->most[l] == m;
        wide others = NAME(without)(lanes->hi[l], lanes->lo[LOW_LANE(l)], holds ? top.hi : 0.0, holds ? top.lo : 0.0);
        hi[l] = others.hi, lo[LOW_LANE(l)] = others.lo;
        ties += holds;
    }
    wide rest = NAME(fold)(hi, lo);
    if (ties > 0) return wide_add(rest, wide_mul(top, (wide){(double)ties, 0.0}));
    if (n > XENT_LANES && !(rest.hi >= SHARP * top.hi)) return NAME(sharp_rest)(lanes, x, e, n, m, offset, floor);
    return rest;
}

/* The sum of a block without one copy of the largest term: a difference where enough is left for one. */
XENT_INLINE wide NAME(rest_of)(const NAME(lanes) * lanes, const REAL *x, const REAL *e, ptrdiff_t n, REAL m, wide top,
                               double offset, REAL floor) {
    double hi[XENT_LANES], lo[LOW_LANES];
    memcpy(hi, lanes->hi, sizeof hi), memcpy(lo, lanes->lo, sizeof lo);
    const wide sum = NAME(fold)(hi, lo), rest = NAME(without)(sum.hi, sum.lo, top.hi, top.lo);
    if (rest.hi >= SHARP * top.hi) return rest;
    return NAME(apart_rest)(lanes, x, e, n, m, top, offset, floor);
}

/* Sweep a block in the hope that it is plain: terms to e (NULL: nowhere; x: in place, x is then in the journal). */
XENT_INLINE int NAME(plain_sweep)(const REAL *x, ptrdiff_t n, REAL *e, REAL *journal, NAME(lanes) * lanes) {
    if (!e)
        NAME(sweep_sum)(x, n, lanes);
    else if (e == x)
        NAME(sweep_in_place)(e, journal, n, lanes);
    else
        NAME(sweep_store)(x, e, n, lanes);
    return lanes->largest <= PLAIN_HIGH && lanes->smallest >= PLAIN_LOW;
}

/* The sum of a block whose sweep was plain. */
XENT_INLINE void NAME(plain_sum)(const NAME(lanes) * lanes, const REAL *x, const REAL *e, ptrdiff_t n, rowsum *out) {
    const REAL m = lanes->largest;
    *out = (rowsum){.max = (double)m, .min = (double)lanes->smallest, .kind = ROW_FINITE, .plain = 1};
    out->top = NAME(exp_wide)(m, 0.0);
    out->rest = NAME(rest_of)(lanes, x, e, n, m, out->top, 0.0, PLAIN_LOW);
    if (out->rest.hi != out->rest.hi) out->kind = ROW_NAN;
}

/* The sum of a block that is not plain; x is not e. The terms as e^x 2^(GUARD - N), N from the block's maximum. */
XENT_NOINLINE void NAME(guarded_sum)(const REAL *x, ptrdiff_t n, REAL *e, REAL *journal, rowsum *out) {
    NAME(lanes) lanes;
    REAL m = NAME(largest)(x, n);
    *out = (rowsum){.max = (double)m, .min = -INFINITY, .kind = ROW_FINITE};
    if (m == -REAL_INF || m == REAL_INF) {
        out->kind = NAME(has_nan)(x, n) ? ROW_NAN : m > 0 ? ROW_INFINITE : ROW_EMPTY;
        if (e) memset(e, 0, (size_t)n * sizeof(REAL));
        return;
    }
    out->far = fabs((double)m) > FAR;
    if (out->far) {
        for (ptrdiff_t i = 0; i < n; i++) journal[i] = x[i] - m;
        x = journal, m = 0;
    }
    const double offset = GUARD - rint((double)m * LOG2E);
    const REAL floor = m - (REAL)DEEP;
    out->scale = -offset;
    NAME(sweep_guarded)(x, e, n, offset, floor, &lanes);
    out->top = NAME(exp_wide)(m, offset);
    out->rest = NAME(rest_of)(&lanes, x, e, n, m, out->top, offset, floor);
    if (out->rest.hi != out->rest.hi) out->kind = ROW_NAN;
}

/* One block of a row: x[0..n) -> out; the terms to e unless it is NULL; e == x works in place.
 * journal has room for XENT_BLOCK logits. */
static inline void NAME(block_sum)(const REAL *x, ptrdiff_t n, REAL *e, REAL *journal, int *careful, rowsum *out) {
    if (!*careful) {
        NAME(lanes) lanes;
        if (NAME(plain_sweep)(x, n, e, journal, &lanes)) {
            NAME(plain_sum)(&lanes, x, e, n, out);
            return;
        }
        *careful = 1;
    } else if (e == x)
        memcpy(journal, x, (size_t)n * sizeof(REAL));
    NAME(guarded_sum)(e == x ? journal : x, n, e, journal, out);
}

#ifndef XENT_ROWSUM_SCALAR
#define XENT_ROWSUM_SCALAR
/* Of e^(low - high) for two far maxima. */
XENT_INLINE wide far_factor(double low, double high) {
    double d = low - high;
    return d < -1000.0 ? (wide){0.0, 0.0} : exp_f64(d, 0.0);
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
    sum.plain = row->plain && block->plain;
    *row = sum;
}
#endif
