/* The two sweeps over a block of a row: extremes, then terms, added in lanes; and what is done on their way. Included once
 * per dtype, in block_sum.h.
 */
XENT_INLINE REAL NAME(sigma)(double guard) {
    return (REAL)power_of_two((int)guard + 1);
}

/* A load that spans two lines is two. So of rows of more than a few lines the first few elements are taken by themselves,
 * and then groups of lanes from where half a line begins: AMD loads lines by halves. (8192 x 1000, every place in a line:
 * 0.44 ns per logit where rows begin with half a line, 0.49 elsewhere; taken so, 0.45 everywhere.) */
enum { NAME(PER_LINE) = XENT_LINE / (int)sizeof(REAL), NAME(PER_HALF) = NAME(PER_LINE) / 2 };

/* Whether a logit below `floor`, which counts as floor, leaves 0 for a term instead of what is taken for 0 later: of
 * float64 that has a subnormal low part, and rows with many of them, as masks of -inf have, took 1.6 times as long. */
XENT_INLINE int NAME(drops)(REAL x, REAL floor) {
    return sizeof(REAL) == 8 && x < floor;
}

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
void KERNEL(extremes)(const REAL *x, ptrdiff_t n, REAL *largest, REAL *smallest) {
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

/* Whether it asks for what lies look.more further, too. In place the tier v3 is 6 to 11 % slower so (8192 x 1000,
 * 1024 x 32000), v4 5 to 15 % faster; where terms are stored, lines of theirs are asked for instead. */
XENT_INLINE int NAME(asks_further)(int mode) {
#if defined(__AVX512F__)
    return mode != SUM_STORE;
#else
    return mode != SUM_STORE && mode != SUM_IN_PLACE;
#endif
}

/* The terms of an earlier row, which a sweep scales on its way: terms[i], by a factor, to to[i], past the cache. `to`
 * is the start of a line, n a whole number of XENT_LANES, no more than the sweep takes so. Or, at `terms`, n lines of any
 * results, which it stores as they are: LINES_AT_ONCE or a multiple. */
typedef struct {
    const REAL *terms;
    REAL *to;
    ptrdiff_t n;
    const NAME(factor) * by;
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

/* flushes, a constant: whether results may vanish. */
XENT_INLINE REAL NAME(result_of)(REAL term, const NAME(factor) * by, const int flushes) {
    const REAL counted = flushes && term < by->least ? (REAL)0 : term, p = NAME(scaled_term)(counted, by->hi, by->lo);
    return flushes ? REAL_FMA(p * by->down, by->down2, by->zero) : p;
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
        if (mode == SUM_STORE) __builtin_prefetch((const char *)(e + i + l) + look.stores, 1);             \
    }                                                                                                      \
    ahead += look.step;                                                                                    \
    if (LOOKS) {                                                                                           \
        EXTREMES_OF(next)                                                                                  \
        next += XENT_LANES;                                                                                \
    }                                                                                                      \
    for (int l = 0; l < XENT_LANES; l++) {                                                                 \
        REAL v = mode >= SUM_IN_PLACE ? e[i + l] : x[i + l];                                               \
        const int drops = clamp && NAME(drops)(v, floor);                                                  \
        if (clamp) v = v < floor ? floor : v; /* a NaN stays */                                            \
        REAL term = NAME(add_exp)(v, rounder, !drops, &hi[l], &lo[l]);                                     \
        if (mode >= SUM_STORE) e[i + l] = term;                                                            \
    }

/* The terms of a row's edges, as many as make a line: of the `left` elements at `tail`, and at the end those of the elements
 * from `first` on at `head`. What is not of the row counts as 0. */
XENT_INLINE void NAME(edge_terms)(const REAL *tail, REAL left, const REAL *head, REAL first, REAL rounder, REAL floor,
                                  const int clamp, REAL *restrict term) {
    REAL hi = 0, lo = 0;
    for (int l = 0; l < NAME(PER_LINE); l++) {
        const int behind = (REAL)l < left, ahead = (REAL)l >= first; /* of integers gcc makes loops, number by number */
        REAL v = behind ? tail[l] : floor;
        v = ahead ? head[l] : v;
        if (clamp) v = v < floor ? floor : v;
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

/* n numbers, up to XENT_TAIL_STEP, to e. (A store of some of a vector, by a mask, takes 4 ns with AVX2, another 0.6.) */
XENT_INLINE void NAME(put_few)(const REAL *restrict few, int n, REAL *restrict e) {
    for (int some = XENT_TAIL_STEP; some; some /= 2) {
        if (!(n & some)) continue;
        memcpy(e, few, (size_t)some * sizeof *e);
        e += some, few += some;
    }
}

/* One block, into lanes. mode, clamp and scale are constants at every call; clamped, what is below floor counts as
 * floor; WITH_SCALING, `scaled_n` terms of an earlier row are scaled by d, scaling_room(n) at most, and, clamped, may vanish;
 * WITH_LINES, it counts lines. */
XENT_INLINE void NAME(sweep)(const REAL *restrict x, REAL *restrict e, ptrdiff_t n, REAL rounder, REAL sigma,
                             REAL floor, int mode, int clamp, NAME(lanes) *restrict out, int scale,
                             const REAL *restrict terms, REAL *restrict to, NAME(factor) d, ptrdiff_t scaled_n,
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
        NAME(edge_terms)(tail, behind, head, edges == 1 ? first : PER_LINE, rounder, floor, clamp, edge[0]);
        if (edges > 1) NAME(edge_terms)
        (tail + PER_LINE, behind - PER_LINE, head, edges == 2 ? first : PER_LINE, rounder, floor, clamp, edge[1]);
        if (edges > 2)
            NAME(edge_terms)(tail + 2 * PER_LINE, behind - 2 * PER_LINE, head, first, rounder, floor, clamp, edge[2]);
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
                for (int l = 0; l < XENT_LANES; l++) line[l] = NAME(result_of)(its[l], &d, clamp);
            }
            for (int l = 0; l < MANY; l += XENT_LINE / (int)sizeof(REAL)) stream_line(to + end - MANY + l, lines + l);
        }
        for (; i < scaled_n; i += XENT_LANES) {
            SWEEP_GROUP(0)
            REAL line[XENT_LANES];
            for (int l = 0; l < XENT_LANES; l++) line[l] = NAME(result_of)(terms[i + l], &d, clamp);
            for (int l = 0; l < XENT_LANES; l += XENT_LINE / (int)sizeof(REAL)) stream_line(to + i + l, line + l);
        }
    }
    for (; looks && i < coming; i += XENT_LANES) {
        SWEEP_GROUP(1)
    }
    for (; i < whole; i += XENT_LANES) {
        SWEEP_GROUP(0)
    }
    if (coming) { /* the last lanes overlap the ones before */
        const REAL *last = (const REAL *)look.coming->x + (look.coming->n - XENT_LANES);
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
        REAL *at_hi = out->hi + (i - whole), *at_lo = out->lo + (i - whole), few[XENT_TAIL_STEP];
        for (int l = 0; l < XENT_TAIL_STEP; l++) {
            REAL v = l < left ? from[i + l] : floor;
            int counts = l < left; /* not in one expression, of which gcc makes a loop 6 % slower, in float32, too */
            if (sizeof(REAL) == 8 && clamp) counts = counts && !NAME(drops)(v, floor);
            if (clamp) v = v < floor ? floor : v;
            few[l] = NAME(add_exp)(v, rounder, counts, &at_hi[l], &at_lo[l]);
        }
        if (mode >= SUM_STORE) NAME(put_few)(few, left, e + i);
    }
}
#undef SWEEP_GROUP
#undef EXTREMES
#undef EXTREMES_OF

#define SWEEP(NAME_, MODE, CLAMP, SCALE)                                                                         \
    XENT_NOINLINE void NAME(NAME_)(const REAL *x, REAL *e, ptrdiff_t n, REAL rounder, REAL sigma, REAL floor,    \
                                   NAME(lanes) * out, const look_ahead *look, const NAME(scaling) * s) {         \
        NAME(sweep)                                                                                              \
        (x, e, n, rounder, sigma, floor, MODE, CLAMP, out, SCALE, SCALE ? s->terms : NULL, SCALE ? s->to : NULL, \
         SCALE == WITH_SCALING ? *s->by : (NAME(factor)){0}, SCALE ? s->n : 0, *look);                           \
    }
SWEEP(sweep_sum, SUM_ONLY, 0, 0)
SWEEP(sweep_sum_clamped, SUM_ONLY, 1, 0)
SWEEP(sweep_packed, SUM_PACKED, 0, 0)
SWEEP(sweep_store, SUM_STORE, 0, 0)
SWEEP(sweep_store_clamped, SUM_STORE, 1, 0)
SWEEP(sweep_and_stream, SUM_KEEP, 0, WITH_SCALING)
SWEEP(sweep_and_stream_clamped, SUM_KEEP, 1, WITH_SCALING)
SWEEP(sweep_in_place, SUM_IN_PLACE, 0, 0)
SWEEP(sweep_in_place_clamped, SUM_IN_PLACE, 1, 0)
SWEEP(sweep_packed_in_place, SUM_PACKED_IN_PLACE, 0, 0)
SWEEP(sweep_and_store_lines, SUM_PACKED_IN_PLACE, 0, WITH_LINES)
SWEEP(sweep_sum_and_store_lines, SUM_PACKED, 0, WITH_LINES)
#undef SWEEP
