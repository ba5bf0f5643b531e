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
/* What else is done within a sweep: an earlier row scaled; lines stored, one for each group, some at once. */
enum { WITH_SCALING = 1, WITH_LINES, LINES_AT_ONCE = 4 };
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

/* Logits that are to be summed next, no more than are summed now: their extremes are found meanwhile, where looks_on says
 * so. */
typedef struct {
    const void *x; /* NULL: none */
    ptrdiff_t n;
    int known; /* whether they were found */
    double most, least;
} coming_logits;

/* What is to be asked for while a row is summed: the lines of a group of lanes from `at` on, then `step` bytes further for
 * each group; and, for the second-level cache, as many from at + more on. Of what is to be packed, all is for that one. */
typedef struct {
    const char *at;
    ptrdiff_t step, more, stores; /* stores: how far before terms are stored their lines are asked for */
    int packed;
    xent_lines *left;      /* results to be stored meanwhile */
    coming_logits *coming; /* NULL: none */
} look_ahead;

/* How terms are stored: guard is GUARD or GUARD_DEEP. */
typedef struct {
    double guard, depth;
} headroom;
#endif

/* What a block leaves in the lanes: of float32, lane l of lanes.h in (l - n) % XENT_LANES, whatever n. */
typedef struct {
    REAL hi[XENT_LANES], lo[XENT_LANES];
} NAME(lanes);

/* By what terms are scaled: hi + lo. Where results may vanish products are formed too large, then made smaller by two powers of
 * two; a term below `least`, whose result would be no normal number, is 0 before that, as its product with lo would be
 * subnormal, which takes a processor long. Of a factor that needs none of this, least is 0, and both powers are 1. What is 0 is
 * +0 where `zero` is, and what the product made it where that is -0. */
typedef struct {
    REAL hi, lo, least, down, down2, zero;
} NAME(factor);

XENT_INLINE REAL NAME(scaled_term)(REAL term, REAL hi, REAL lo) {
    return REAL_FMA(term, hi, term * lo);
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
