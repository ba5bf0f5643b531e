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

/* Logits that are to be summed next: their extremes are found meanwhile, where looks_on says so. */
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
    ptrdiff_t step, more;
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

XENT_INLINE REAL NAME(sigma)(double guard) {
    return (REAL)power_of_two((int)guard + 1);
}

/* A load that spans two lines is two. So of rows of more than a few lines the first few elements are taken by themselves,
 * and then groups of lanes from where half a line begins: AMD loads lines by halves. (8192 x 1000, every place in a line:
 * 0.44 ns per logit where rows begin with half a line, 0.49 elsewhere; taken so, 0.45 everywhere.) */
enum { NAME(PER_LINE) = XENT_LINE / (int)sizeof(REAL), NAME(PER_HALF) = NAME(PER_LINE) / 2 };

/* How many elements come before the first half of a line. */
XENT_INLINE ptrdiff_t NAME(before_half)(const REAL *x) {
    return (ptrdiff_t)(-(uintptr_t)x % (XENT_LINE / 2) / sizeof(REAL));
}

/* Groups of lanes that follow them, wherever that is: if it made a difference, the processor could not foresee where a loop
 * over them ends. 0: the row is too short. */
XENT_INLINE ptrdiff_t NAME(aligned_groups)(ptrdiff_t n) {
    return n < 4 * XENT_LANES ? 0 : (n - (NAME(PER_HALF) - 1)) / XENT_LANES;
}

/* The largest and the smallest of x[0..n), NaN aside. */
#define EXTREMES_OF(AT)                         \
    for (int l = 0; l < XENT_LANES; l++) {      \
        const REAL v = (AT)[l];                 \
        most[l] = v > most[l] ? v : most[l];    \
        least[l] = v < least[l] ? v : least[l]; \
    }
#define EXTREMES(half)                                                      \
    for (int l = 0; l < half; l++) {                                        \
        most[l] = most[l + half] > most[l] ? most[l + half] : most[l];      \
        least[l] = least[l + half] < least[l] ? least[l + half] : least[l]; \
    }
XENT_NOINLINE void NAME(extremes)(const REAL *x, ptrdiff_t n, REAL *largest, REAL *smallest) {
    REAL most[XENT_LANES], least[XENT_LANES], few[XENT_LANES];
    for (int l = 0; l < XENT_LANES; l++) most[l] = -REAL_INF, least[l] = REAL_INF;
    if (n < XENT_LANES) {
        for (int l = 0; l < XENT_LANES; l++) few[l] = x[0];
        memcpy(few, x, (size_t)n * sizeof(REAL));
        x = few, n = XENT_LANES;
    }
    const ptrdiff_t groups = NAME(aligned_groups)(n);
    const REAL *at = x + NAME(before_half)(x), *last = x + (n - XENT_LANES);
    for (ptrdiff_t i = 0; i < groups; i++, at += XENT_LANES) {
        EXTREMES_OF(at)
    }
    if (groups) { /* what comes before and behind */
        EXTREMES_OF(x)
        EXTREMES_OF(last)
        if (n - groups * XENT_LANES > XENT_LANES) {
            EXTREMES_OF(last - XENT_LANES)
        }
    } else
        for (ptrdiff_t i = 0; i < n; i += XENT_LANES) { /* the last lanes overlap the ones before */
            const REAL *few_at = x + i < last ? x + i : last;
            EXTREMES_OF(few_at)
        }
    XENT_FOLD(EXTREMES)
    *largest = most[0], *smallest = least[0];
}

/* Whether a sweep finds the extremes of the logits that come next. It waits for multiply-adds, and comparisons go elsewhere:
 * they cost nothing there, where registers hold all lanes (AVX-512) and lines are not awaited to be stored to. logsumexp of
 * 8192 x 1000, 0.28 ns per logit by itself, 0.25 so; a gradient of 1024 x 32000, 0.43 and 0.48. */
XENT_INLINE int NAME(looks_on)(int mode) {
#if defined(__AVX512F__)
    return sizeof(REAL) == 4 && mode != SUM_STORE && mode != SUM_KEEP;
#else
    (void)mode;
    return 0;
#endif
}

/* Whether it asks for logits of twice that distance, for the second-level cache. In place the tier v3 is 6 to 11 % slower so
 * (8192 x 1000, 1024 x 32000), v4 5 to 15 % faster; lines to be stored to are asked for instead. */
XENT_INLINE int NAME(asks_further)(int mode) {
#if defined(__AVX512F__)
    return mode != SUM_STORE;
#else
    return mode != SUM_STORE && mode != SUM_IN_PLACE;
#endif
}

/* The terms of an earlier row, which a sweep scales on its way: to[i] = terms[i] (hi + lo), stored past the cache. `to`
 * is the start of a line, n a whole number of XENT_LANES, no more than the sweep takes so. Or, at `terms`, n lines of any
 * results, which it stores as they are: LINES_AT_ONCE or a multiple. */
typedef struct {
    const REAL *terms;
    REAL *to, hi, lo;
    ptrdiff_t n;
} NAME(scaling);

/* Of float32 such a sweep takes its groups from where half a line begins: hi[l] is then that of lane l + before, and a fold
 * adds the same pairs; of float64 that would not be the same. Elements before and behind them are its edges. */
XENT_INLINE ptrdiff_t NAME(aligned_by)(ptrdiff_t n) {
    return sizeof(REAL) == 4 ? NAME(aligned_groups)(n) * XENT_LANES : 0;
}
XENT_INLINE ptrdiff_t NAME(scaling_room)(ptrdiff_t n) {
    const ptrdiff_t aligned = NAME(aligned_by)(n);
    return aligned ? aligned : n / XENT_LANES * XENT_LANES;
}

XENT_INLINE REAL NAME(scaled_term)(REAL term, REAL hi, REAL lo) {
    return REAL_FMA(term, hi, term * lo);
}

/* XENT_LANES classes from i on, in the body of sweep, whose arrays compilers then keep in registers. What the next sweep
 * for extremes will read is asked for, which has little arithmetic to hide a wait; and the lines that terms are about to
 * be stored to. */
#define SWEEP_GROUP(LOOKS)                                                                                 \
    for (int l = 0; l < XENT_LANES; l += XENT_LINE / (int)sizeof(REAL)) {                                  \
        if (mode == SUM_PACKED || mode == SUM_PACKED_IN_PLACE)                                             \
            __builtin_prefetch(ahead + l * (int)sizeof(REAL), 0, 2);                                       \
        else                                                                                               \
            __builtin_prefetch(ahead + l * (int)sizeof(REAL), 0);                                          \
        if (NAME(asks_further)(mode)) __builtin_prefetch(ahead + look.more + l * (int)sizeof(REAL), 0, 2); \
        if (mode == SUM_STORE) __builtin_prefetch((const char *)(e + i + l) + XENT_STORES_AHEAD, 1);       \
    }                                                                                                      \
    ahead += look.step;                                                                                    \
    if (LOOKS) {                                                                                           \
        EXTREMES_OF(next)                                                                                  \
        next += XENT_LANES;                                                                                \
    }                                                                                                      \
    for (int l = 0; l < XENT_LANES; l++) {                                                                 \
        REAL v = mode >= SUM_IN_PLACE ? e[i + l] : x[i + l];                                               \
        if (clamp) v = v < floor ? floor : v; /* a NaN stays */                                            \
        REAL term = NAME(add_exp)(v, rounder, 1, &hi[l], &lo[l]);                                          \
        if (mode >= SUM_STORE) e[i + l] = term;                                                            \
    }

/* The terms of a row's edges, as many as make a line: of the `left` elements at `tail`, and at the end those of the elements
 * from `first` on at `head`. What is not of the row counts as 0. */
XENT_INLINE void NAME(edge_terms)(const REAL *tail, REAL left, const REAL *head, REAL first, REAL rounder, REAL floor,
                                  REAL *restrict term) {
    REAL hi = 0, lo = 0;
    for (int l = 0; l < NAME(PER_LINE); l++) {
        const int behind = (REAL)l < left, ahead = (REAL)l >= first; /* of integers gcc makes loops, number by number */
        REAL v = behind ? tail[l] : floor;
        v = ahead ? head[l] : v;
        term[l] = NAME(add_exp)(v, rounder, behind | ahead, &hi, &lo);
    }
}

/* hi + lo += a term, as add_exp adds it; 0 changes nothing. */
XENT_INLINE void NAME(add_term)(REAL term, REAL *hi, REAL *lo) {
    const REAL sum = *hi + term;
    *lo += (*hi - sum) + term;
    *hi = sum;
}

/* The first `left` of a line of edge terms to the lanes, all to e: what is stored beside a row is not read as its own. */
XENT_INLINE void NAME(put_tail)(const REAL *term, REAL left, REAL *hi, REAL *lo, REAL *e) {
    for (int l = 0; l < NAME(PER_LINE); l++) {
        NAME(add_term)((REAL)l < left ? term[l] : 0, &hi[l], &lo[l]);
        e[l] = term[l];
    }
}

/* One block, into lanes. mode, clamp and scale are constants at every call; clamped, what is below floor counts as
 * floor; WITH_SCALING, `scaled_n` terms of an earlier row are scaled, scaling_room(n) at most; WITH_LINES, it counts lines. */
XENT_INLINE void NAME(sweep)(const REAL *restrict x, REAL *restrict e, ptrdiff_t n, REAL rounder, REAL sigma,
                             REAL floor, int mode, int clamp, NAME(lanes) *restrict out, int scale,
                             const REAL *restrict terms, REAL *restrict to, REAL d_hi, REAL d_lo, ptrdiff_t scaled_n,
                             look_ahead look) {
    const char *ahead = look.at;
    const REAL *from = mode >= SUM_IN_PLACE ? e : x;
    REAL hi[XENT_LANES],
        lo[XENT_LANES]; /* local arrays: compilers keep these in registers, but gcc not in a loop with stream_line */
    for (int l = 0; l < XENT_LANES; l++) hi[l] = sigma, lo[l] = 0;
    enum { PER_LINE = NAME(PER_LINE) };
    const ptrdiff_t aligned = scale == WITH_SCALING ? NAME(aligned_by)(n) : 0;
    const int edges = (int)((n - aligned + PER_LINE - 1) / PER_LINE); /* lines of them: 1 to 3 */
    REAL edge[3][PER_LINE], behind = 0;
    if (aligned) {
        const ptrdiff_t before = NAME(before_half)(x);
        const REAL *head = (const REAL *)((uintptr_t)(x + before) - XENT_LINE), first = (REAL)(PER_LINE - before);
        x += before, e += before, n -= before, behind = (REAL)(n - aligned);
        const REAL *tail = x + aligned;
        NAME(edge_terms)(tail, behind, head, edges == 1 ? first : PER_LINE, rounder, floor, edge[0]);
        if (edges > 1) NAME(edge_terms)
        (tail + PER_LINE, behind - PER_LINE, head, edges == 2 ? first : PER_LINE, rounder, floor, edge[1]);
        if (edges > 2)
            NAME(edge_terms)(tail + 2 * PER_LINE, behind - 2 * PER_LINE, head, first, rounder, floor, edge[2]);
        for (int l = 0; l < PER_LINE; l++) {
            const int lane = XENT_LANES - PER_LINE + l;
            NAME(add_term)((REAL)l >= first ? edge[edges - 1][l] : 0, &hi[lane], &lo[lane]);
            e[l - PER_LINE] = edge[edges - 1][l];
        }
    }
    const ptrdiff_t whole = aligned ? aligned : n - n % XENT_LANES;
    ptrdiff_t i = 0;
    const int looks = NAME(looks_on)(mode);
    ptrdiff_t coming = looks && look.coming && look.coming->x ? look.coming->n / XENT_LANES * XENT_LANES : 0;
    if (scale == WITH_LINES && coming < whole) coming = 0;
    const REAL *next = coming ? look.coming->x : from; /* lines go with a look at something */
    REAL most[XENT_LANES], least[XENT_LANES];
    for (int l = 0; l < XENT_LANES && looks; l++) most[l] = -REAL_INF, least[l] = REAL_INF;
    for (; scale == WITH_LINES && scaled_n >= LINES_AT_ONCE; scaled_n -= LINES_AT_ONCE) {
        for (const ptrdiff_t end = i + LINES_AT_ONCE * XENT_LANES; i < end; i += XENT_LANES) {
            SWEEP_GROUP(looks)
        }
        for (int l = 0; l < LINES_AT_ONCE; l++, terms += PER_LINE, to += PER_LINE) stream_line(to, terms);
    }
    if (scale == WITH_SCALING) {
        enum { MANY = 4 * XENT_LANES }; /* so lines are made in a loop, then stored */
        while (i + MANY <= scaled_n) {
            _Alignas(XENT_LINE) REAL lines[MANY];
            const ptrdiff_t end = i + MANY;
            const REAL *its = terms + i;
            for (REAL *line = lines; i < end; i += XENT_LANES, line += XENT_LANES, its += XENT_LANES) {
                SWEEP_GROUP(0)
                for (int l = 0; l < XENT_LANES; l++) line[l] = NAME(scaled_term)(its[l], d_hi, d_lo);
            }
            for (int l = 0; l < MANY; l += XENT_LINE / (int)sizeof(REAL)) stream_line(to + end - MANY + l, lines + l);
        }
        for (; i < scaled_n; i += XENT_LANES) {
            SWEEP_GROUP(0)
            REAL line[XENT_LANES];
            for (int l = 0; l < XENT_LANES; l++) line[l] = NAME(scaled_term)(terms[i + l], d_hi, d_lo);
            for (int l = 0; l < XENT_LANES; l += XENT_LINE / (int)sizeof(REAL)) stream_line(to + i + l, line + l);
        }
    }
    for (const ptrdiff_t both = coming < whole ? coming : whole; looks && i < both; i += XENT_LANES) {
        SWEEP_GROUP(1)
    }
    for (; i < whole; i += XENT_LANES) {
        SWEEP_GROUP(0)
    }
    if (coming) { /* what is left of them; the last lanes overlap the ones before */
        const REAL *end = (const REAL *)look.coming->x + coming, *last = end + (look.coming->n - coming) - XENT_LANES;
        for (; next < end; next += XENT_LANES) {
            EXTREMES_OF(next)
        }
        EXTREMES_OF(last)
        XENT_FOLD(EXTREMES)
        look.coming->most = (double)most[0], look.coming->least = (double)least[0], look.coming->known = 1;
    }
    if (aligned) {
        REAL *to = e + whole;
        NAME(put_tail)(edge[0], behind, hi, lo, to);
        if (edges > 1) NAME(put_tail)(edge[1], behind - PER_LINE, hi + PER_LINE, lo + PER_LINE, to + PER_LINE);
        if (edges > 2) NAME(put_tail)(edge[2], behind - 2 * PER_LINE, hi, lo, to + 2 * PER_LINE);
    }
    memcpy(out->hi, hi, sizeof hi), memcpy(out->lo, lo, sizeof lo);
    for (i = whole; i < n && !aligned; i += XENT_TAIL_STEP) {
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
#undef EXTREMES
#undef EXTREMES_OF

#define SWEEP(NAME_, MODE, CLAMP, SCALE)                                                                         \
    XENT_NOINLINE void NAME(NAME_)(const REAL *x, REAL *e, ptrdiff_t n, REAL rounder, REAL sigma, REAL floor,    \
                                   NAME(lanes) * out, look_ahead look, const NAME(scaling) * s) {                \
        NAME(sweep)                                                                                              \
        (x, e, n, rounder, sigma, floor, MODE, CLAMP, out, SCALE, SCALE ? s->terms : NULL, SCALE ? s->to : NULL, \
         SCALE ? s->hi : 0, SCALE ? s->lo : 0, SCALE ? s->n : 0, look);                                          \
    }
SWEEP(sweep_sum, SUM_ONLY, 0, 0)
SWEEP(sweep_sum_clamped, SUM_ONLY, 1, 0)
SWEEP(sweep_packed, SUM_PACKED, 0, 0)
SWEEP(sweep_store, SUM_STORE, 0, 0)
SWEEP(sweep_store_clamped, SUM_STORE, 1, 0)
SWEEP(sweep_and_stream, SUM_KEEP, 0, WITH_SCALING)
SWEEP(sweep_in_place, SUM_IN_PLACE, 0, 0)
SWEEP(sweep_in_place_clamped, SUM_IN_PLACE, 1, 0)
SWEEP(sweep_packed_in_place, SUM_PACKED_IN_PLACE, 0, 0)
SWEEP(sweep_and_store_lines, SUM_PACKED_IN_PLACE, 0, WITH_LINES)
SWEEP(sweep_sum_and_store_lines, SUM_PACKED, 0, WITH_LINES)
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

/* The first sweep over a block, whose extremes may be known. 0 where there is nothing to sweep again: all of *out is known,
 * and its terms are 0. */
static inline int NAME(block_start)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, const coming_logits *found,
                                    NAME(reduction) * by, rowsum *out) {
    REAL max = (REAL)found->most, min = (REAL)found->least;
    if (!found->known) NAME(extremes)(x, n, &max, &min);
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
    xent_lines *left = look.left;
    const ptrdiff_t turns = n / (LINES_AT_ONCE * XENT_LANES), whole = left ? left->n / LINES_AT_ONCE : 0;
    if (turns && whole && look.packed && (!e || e == x) && !by->clamp) {
        const NAME(scaling) these = {.terms = (const REAL *)(const void *)left->from,
                                     .to = (REAL *)(void *)left->to,
                                     .n = (turns < whole ? turns : whole) * LINES_AT_ONCE};
        if (e) NAME(sweep_and_store_lines)
        (NULL, e, n, by->rounder, sigma, by->floor, lanes, look, &these);
        else NAME(sweep_sum_and_store_lines)(x, NULL, n, by->rounder, sigma, by->floor, lanes, look, &these);
        left->from += these.n * XENT_LINE, left->to += these.n * XENT_LINE, left->n -= these.n;
    } else if (!e)
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

/* The same where it would be part of a large function, in which gcc takes number by number what it takes by vectors here. */
XENT_NOINLINE wide NAME(lanes_sum_apart)(const NAME(lanes) * lanes, double sigma) {
    return NAME(lanes_sum)(lanes, sigma);
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

/* A whole block at once, whose extremes may be known; `shifted` has room for a far one's x - max. */
static inline void NAME(block_sum)(const REAL *x, ptrdiff_t n, REAL *e, headroom room, REAL *shifted,
                                   NAME(lanes) * lanes, const coming_logits *found, look_ahead look, rowsum *out) {
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
