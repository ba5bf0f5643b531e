/* The terms of rows scaled out, and results below the smallest normal number made 0. Included once per dtype, in sweeper.c.
 */

/* e <- e times a factor, rounded once. Whole lines after a first few elements, as a store across two of them costs twice; several
 * at once: a loop over one vector took 7 instructions for it, and more time where it lay across 32 bytes (1000 x 1024 0.9). */
XENT_INLINE void NAME(scale_terms)(REAL *restrict e, ptrdiff_t n, const NAME(factor) * its, const int flushes) {
    const NAME(factor) by = *its;
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)e % XENT_LINE / sizeof(REAL));
    ptrdiff_t i = 0;
    if (before < n)
        for (; i < before; i++) e[i] = NAME(result_of)(e[i], &by, flushes);
    for (; i + XENT_LANES <= n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) e[i + l] = NAME(result_of)(e[i + l], &by, flushes);
    for (; i < n; i++) e[i] = NAME(result_of)(e[i], &by, flushes);
}
XENT_NOINLINE void NAME(scale_plain)(REAL *e, ptrdiff_t n, const NAME(factor) * by) {
    NAME(scale_terms)(e, n, by, 0);
}
XENT_NOINLINE void NAME(scale_flushing)(REAL *e, ptrdiff_t n, const NAME(factor) * by) {
    NAME(scale_terms)(e, n, by, 1);
}

/* d in two parts of the dtype; the low one without the bits that could make a product with it subnormal. */
XENT_INLINE void NAME(split)(wide d, REAL *hi, REAL *lo) {
    *hi = (REAL)d.hi;
    double rest = (d.hi - (double)*hi) + d.lo;
    *lo = (REAL)zero_if(fabs(rest) < (sizeof(REAL) == 4 ? 0x1p-40 : 0x1p-70) * fabs(d.hi), rest);
}

/* Whether no product of the terms of a row, stored in this scale, with d can come near the smallest normal number, with
 * room for the low part of d. */
XENT_INLINE int NAME(is_safe)(double min, double scale, double d) {
    const double size = fabs(d), low_bits = sizeof(REAL) == 4 ? 42.0 : 124.0;
    /* The low part of d by a term that has the deep guard is to be finite: it would else give an infinity its sign. */
    const int large = size > REAL_MIN * power_of_two((int)low_bits),
              small = size < (sizeof(REAL) == 4 ? 0x1p30 : 0x1p60);
    return large & small & (min * LOG2E - scale + binade_of(size) > MIN_EXPONENT + low_bits + 1.0);
}

/* The same of a whole row's factor; it may be 0, and then so are all of them. */
XENT_INLINE int NAME(is_plain)(double min, double scale, double d) {
    return (d == 0.0) | NAME(is_safe)(min, scale, d);
}

/* Whether the largest logit of a finite row has p > 1/2, by more than what rounding may make of two that are equal: it is
 * then the only one whose term is as large. That term, rounded when it was stored, would bring p to the wrong side of 1: it
 * is scaled from `top` instead. */
XENT_INLINE int NAME(outweighs)(double top, double rest) {
    return rest < (1.0 - 0x1p-20) * top;
}
XENT_INLINE int NAME(is_likely)(const rowsum *sum) {
    return NAME(outweighs)(sum->top.hi, sum->rest.hi);
}

XENT_INLINE REAL NAME(scaled_top)(const rowsum *sum, wide d) {
    return NAME(rounded)(NAME(mul)(d, sum->top).hi);
}

/* The term of a block's largest logit, as it is stored. */
XENT_INLINE REAL NAME(largest_term)(const block_scale *block) {
    REAL hi = 0, lo = 0;
    return NAME(add_exp)(block->far ? 0 : (REAL)block->max, NAME(rounder)(-block->scale), 1, &hi, &lo);
}

/* Where in e[0..n) it is; -1 where it is not. Many are looked at at once: what is found in vectors takes long to be
 * made one. */
XENT_INLINE int NAME(is_among)(const REAL *e, const int n, REAL largest) {
    NAME(bits) found = 0; /* as wide as what is compared */
    for (int l = 0; l < n; l++) found |= -(NAME(bits))(e[l] == largest);
    return found != 0;
}
static inline ptrdiff_t NAME(place_of_largest)(const REAL *e, ptrdiff_t n, const block_scale *block) {
    enum { MANY = 4 * XENT_LANES };
    const REAL largest = NAME(largest_term)(block);
    ptrdiff_t i = 0;
    while (i + MANY <= n && !NAME(is_among)(e + i, MANY, largest)) i += MANY;
    while (i + XENT_LANES <= n && !NAME(is_among)(e + i, XENT_LANES, largest)) i += XENT_LANES;
    while (i < n && !(e[i] == largest)) i++;
    return i < n ? i : -1;
}

/* Where products with a factor below 1/2 are formed 2^shift too large, those below it are 0; and so is what was dropped when it
 * was stored, as the bound is no less than DROPPED / 2. */
enum { NAME(TOP) = -MIN_EXPONENT };
XENT_INLINE REAL NAME(least_product)(double shift) {
    const double at = MIN_EXPONENT + shift, top = NAME(TOP), up_to = at < top ? at : top;
    return (REAL)power_of_two((int)(up_to > MIN_EXPONENT + 1.0 ? up_to : MIN_EXPONENT + 1.0));
}

/* The least term, of those up to 2^TOP, whose product with hi + lo > 0, as it is rounded, is no less than a power of two. It is
 * at most two units from the quotient: half a unit by which that was rounded, one by lo, half of one by the product. */
XENT_INLINE REAL NAME(least_term)(REAL hi, REAL lo, REAL product) {
    const REAL top = (REAL)power_of_two(NAME(TOP)), quotient = product / hi, about = quotient < top ? quotient : top;
    NAME(bits) bits, below = 0;
    REAL term;
    memcpy(&bits, &about, sizeof bits);
    for (int i = -2; i <= 2; i++) {
        const NAME(bits) there = bits + i;
        memcpy(&term, &there, sizeof term);
        below += NAME(scaled_term)(term, hi, lo) < product;
    }
    bits += below - 2;
    memcpy(&term, &bits, sizeof term);
    return term;
}

/* The factor d of terms that cannot vanish; */
XENT_INLINE NAME(factor) NAME(plain_factor)(wide d) {
    NAME(factor) plain = {.down = 1, .down2 = 1, .zero = (REAL)-0.0};
    NAME(split)(d, &plain.hi, &plain.lo);
    return plain;
}

/* f 2^k where they may, 1/4 <= |f| < 1/2, 2 MIN_EXPONENT <= k; */
XENT_INLINE NAME(factor) NAME(lowered_factor)(wide f, int k) {
    enum { MOST = 2 - 2 * MIN_EXPONENT }; /* then all are infinite */
    const double sign = f.hi < 0.0 ? -1.0 : 1.0;
    const int up_to = k < MOST ? k : MOST, half = up_to / 2;
    NAME(factor) by = {.down = (REAL)(sign * power_of_two(half)), .down2 = (REAL)power_of_two(up_to - half)};
    NAME(split)((wide){fabs(f.hi), sign * f.lo}, &by.hi, &by.lo);
    by.least = NAME(least_term)(by.hi, by.lo, NAME(least_product)(-(double)k));
    return by;
}

/* and d itself, for rows side by side; 0: it is out of range, as 0 is. */
XENT_INLINE int NAME(in_range)(wide d) {
    const int lowest = sizeof(REAL) == 4 ? 2 * MIN_EXPONENT : -1000; /* below, all vanishes, or 2^-k is no double */
    const int k = exponent_of(fabs(d.hi)) + 2;
    return (k >= lowest) & (k < 100);
}
XENT_INLINE int NAME(flushing_factor)(wide d, NAME(factor) * to) {
    const int fits = NAME(in_range)(d), k = fits ? exponent_of(fabs(d.hi)) + 2 : 0;
    const double up = power_of_two(-k);
    *to = NAME(lowered_factor)((wide){fits ? d.hi * up : 0.25, fits ? d.lo * up : 0.0}, k);
    return fits;
}

/* The factor d 2^by, by <= 0, wherever results may vanish, as all of them may; 0: d is out of range, but not 0. */
XENT_INLINE int NAME(factor_within)(wide d, double by, NAME(factor) * to) {
    const int own = exponent_of(fabs(d.hi)) + 2;
    *to = (NAME(factor)){0};
    if (!NAME(in_range)(d)) return d.hi == 0.0;
    if (own + by < 2.0 * MIN_EXPONENT) return 1;
    const double up = power_of_two(-own);
    *to = NAME(lowered_factor)((wide){d.hi * up, d.lo * up}, own + (int)by);
    return 1;
}

/* Scale the n terms at e, stored relative to `block`, of a finite row by d: e^x / sum * g for d = g / total. */
static inline void NAME(block_scale)(const NAME(sweeper) * w, const rowsum *sum, const block_scale *block, REAL *e,
                                     ptrdiff_t n, wide d) {
    const ptrdiff_t likely = NAME(is_likely)(sum) && block->max == sum->max ? NAME(place_of_largest)(e, n, block) : -1;
    const wide there = block->scale == sum->scale ? d : wide_scale(d, block->scale - sum->scale);
    if (!sum->far && NAME(is_safe)(sum->min, block->scale, there.hi)) {
        const NAME(factor) by = NAME(plain_factor)(there);
        NAME(scale_plain)(e, n, &by);
    } else {
        /* d 2^(block scale - row scale) = f 2^k with 1/4 <= |f| < 1/2 */
        wide f = d;
        double k = 0.0;
        if (!sum->far && !block->far)
            k = block->scale - sum->scale;
        else {
            rowsum from = {.max = block->max, .scale = block->scale, .far = block->far};
            from.top = block->far ? (wide){power_of_two((int)w->room.guard), 0.0}
                                  : NAME(exp_wide)((REAL)block->max, -block->scale);
            f = rescaled(d, &from, sum);
        }
        const double magnitude = fabs(f.hi);
        const int exponent = magnitude > 0.0 ? exponent_of(magnitude) + 2 : 0;
        k += exponent;
        if (!(magnitude > 0.0) || k < 2.0 * MIN_EXPONENT)
            memset(e, 0, (size_t)n * sizeof(REAL));
        else {
            const NAME(factor) by = NAME(lowered_factor)(wide_scale(f, -exponent), (int)k);
            NAME(scale_flushing)(e, n, &by);
        }
    }
    if (likely >= 0) e[likely] = NAME(scaled_top)(sum, d);
}

/* The same of row r, of one block, if no result of it can vanish: else 0. */
XENT_NOINLINE int NAME(scale_plain_row)(const NAME(sweeper) * w, int r) {
    const row_batch *b = &w->batch;
    const wide d = {w->factor_hi[r], w->factor_lo[r]};
    const block_scale whole_row = {b->max[r], b->scale[r], 0};
    const ptrdiff_t n = w->layout->classes;
    REAL *e = (REAL *)w->out_rows[r];
    if (b->far[r] || !NAME(is_safe)(b->min[r], b->scale[r], d.hi)) return 0;
    const NAME(factor) by = NAME(plain_factor)(d);
    const ptrdiff_t likely =
        NAME(outweighs)(b->top_hi[r], b->rest_hi[r]) ? NAME(place_of_largest)(e, n, &whole_row) : -1;
    NAME(scale_plain)(e, n, &by);
    if (likely >= 0) e[likely] = NAME(rounded)(NAME(mul)(d, (wide){b->top_hi[r], b->top_lo[r]}).hi);
    return 1;
}

/* Scale the stored terms of row r of the last sum_rows, which is finite, by d. */
static inline void NAME(row_scale)(NAME(sweeper) * w, int r, wide d) {
    const rowsum sum = sum_of(&w->batch, r);
    char *out_row = w->out_rows[r];
    const ptrdiff_t classes = w->layout->classes;
    for (ptrdiff_t start = 0, b = 0; start < classes; start += XENT_BLOCK, b++) {
        const ptrdiff_t n = classes - start < XENT_BLOCK ? classes - start : XENT_BLOCK;
        const block_scale whole_row = {sum.max, sum.scale, sum.far};
        const block_scale *block = classes <= XENT_BLOCK ? &whole_row : NAME(scale_of_block)(w, b, r);
        REAL *e = w->out->direct ? (REAL *)out_row + start : w->terms;
        if (!w->out->direct) gather_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
        NAME(block_scale)(w, &sum, block, e, n, d);
        if (!w->out->direct) scatter_block(w->layout, w->out, out_row, start, n, e, sizeof(REAL));
    }
}

/* The terms of XENT_SIDE rows scaled by their factors; the largest of each becomes `likely`. flushes, a constant: results may
 * vanish. */
XENT_INLINE void NAME(scale_columns)(REAL *restrict v, ptrdiff_t stride, ptrdiff_t classes, const NAME(side_scale) * by,
                                     const int flushes) {
    const REAL *restrict hi = by->hi, *restrict lo = by->lo, *restrict largest = by->largest,
                         *restrict likely = by->likely, *restrict least = by->least, *restrict down = by->down,
                         *restrict down2 = by->down2;
    for (ptrdiff_t c = 0; c < classes; c++, v += stride)
        for (int r = 0; r < XENT_SIDE; r++) {
            NAME(factor) its = {.hi = hi[r], .lo = lo[r]};
            if (flushes) its.least = least[r], its.down = down[r], its.down2 = down2[r];
            const REAL result = NAME(result_of)(v[r], &its, flushes);
            v[r] = v[r] == largest[r] ? likely[r] : result;
        }
}
XENT_NOINLINE void NAME(scale_side)(REAL *v, ptrdiff_t stride, ptrdiff_t classes, const NAME(side_scale) * by) {
    NAME(scale_columns)(v, stride, classes, by, 0);
}
XENT_NOINLINE void NAME(scale_side_flushing)(REAL *v, ptrdiff_t stride, ptrdiff_t classes,
                                             const NAME(side_scale) * by) {
    NAME(scale_columns)(v, stride, classes, by, 1);
}

/* The same on their way to rows: stored and loaded once less. With extremes found on the way to columns, loss and gradient of
 * 65536 x 32 take 0.90 of the time (AVX2). */
XENT_INLINE void NAME(columns_scaled_to_rows)(REAL *columns, ptrdiff_t n, const NAME(side_scale) * by,
                                              REAL *const *rows, int count, const int flushes) {
    ptrdiff_t last = n;
#ifdef XENT_SHUFFLES
    const int squares = n >= NAME(SQUARE) && count == XENT_SIDE;
    if (squares) {
        NAME(squares_to_rows)(columns, n, rows, XENT_SIDE, by, flushes ? SCALED_FLUSHING : SCALED);
        if (n % NAME(SQUARE) == 0) return;
        last = NAME(last_classes)(n);
    }
#endif
    (flushes ? NAME(scale_side_flushing) : NAME(scale_side))(columns + (n - last) * XENT_SIDE, XENT_SIDE, last, by);
#ifdef XENT_SHUFFLES
    if (squares) {
        NAME(last_to_rows)(columns, n, rows, XENT_SIDE);
        return;
    }
#endif
    KERNEL(columns_to_rows)(columns, n, rows, count);
}
XENT_NOINLINE void NAME(scale_to_rows)(REAL *columns, ptrdiff_t n, const NAME(side_scale) * by, REAL *const *rows,
                                       int count) {
    NAME(columns_scaled_to_rows)(columns, n, by, rows, count, 0);
}
XENT_NOINLINE void NAME(scale_to_rows_flushing)(REAL *columns, ptrdiff_t n, const NAME(side_scale) * by,
                                                REAL *const *rows, int count) {
    NAME(columns_scaled_to_rows)(columns, n, by, rows, count, 1);
}

/* By what rows side by side are scaled; and, where some row is not plain, which are odd: they need more than that. */
typedef struct {
    REAL hi[XENT_ROWS], lo[XENT_ROWS], largest[XENT_ROWS], likely[XENT_ROWS];
    REAL least[XENT_ROWS], down[XENT_ROWS], down2[XENT_ROWS];
    int odd[XENT_ROWS];
} NAME(side_factors);

/* The results of an odd row of the last narrow_sums, in the place of its terms. */
static inline void NAME(scale_odd_row)(NAME(sweeper) * w, int r) {
    const rowsum sum = sum_of(&w->batch, r);
    const block_scale whole_row = {sum.max, sum.scale, sum.far};
    const ptrdiff_t stride = w->column_stride, classes = w->layout->classes;
    REAL *v = NAME(columns_of)(w, r / XENT_SIDE) + r % XENT_SIDE;
    for (ptrdiff_t c = 0; c < classes; c++) w->terms[c] = v[c * stride];
    if (sum.kind == ROW_FINITE)
        NAME(block_scale)(w, &sum, &whole_row, w->terms, classes, (wide){w->factor_hi[r], w->factor_lo[r]});
    for (ptrdiff_t c = 0; c < classes; c++) v[c * stride] = sum.kind == ROW_FINITE ? w->terms[c] : (REAL)NAN;
}

/* The factors of n rows, the first `rows` of which count, and some are not plain: the bits are those of block_scale. The terms
 * of odd rows stay as they are. */
XENT_NOINLINE void NAME(flushing_factors)(const NAME(sweeper) * w, int n, int rows, NAME(side_factors) * by) {
    for (int r = 0; r < n; r++) {
        NAME(factor) its;
        by->odd[r] = !NAME(flushing_factor)((wide){w->factor_hi[r], w->factor_lo[r]}, &its);
        by->hi[r] = its.hi, by->lo[r] = its.lo, by->least[r] = its.least;
        by->down[r] = its.down, by->down2[r] = its.down2;
    }
    for (int r = 0; r < rows; r++) {
        by->odd[r] |= w->batch.kind[r] != ROW_FINITE;
        if (!by->odd[r]) continue;
        by->hi[r] = by->down[r] = by->down2[r] = 1, by->lo[r] = by->least[r] = 0, by->largest[r] = -1;
    }
}

/* Whether n rows of the last narrow_sums are plain, whose factors are of these sizes at least and at most: asked of all together,
 * and, where that is not enough, of each. */
static inline int NAME(are_plain)(const NAME(sweeper) * w, int n, double least, double most) {
    const row_batch *b = &w->batch;
    const double lowest = -(double)w->spread, scale = 1.5 - w->room.guard; /* 1/2, as N was rounded, and then some */
    uint64_t special = 0; /* as wide as what is compared: else masks of vectors are narrowed */
    if (!b->ordinary) return 0;
    if (NAME(is_safe)(lowest, scale, least) && NAME(is_safe)(lowest, scale, most)) return 1;
    for (int r = 0; r < n; r++) special |= !NAME(is_plain)(b->min[r], b->scale[r], w->factor_hi[r]);
    return !special;
}

/* Rows of a large pack of columns are left to be scaled on their way out, if they can be: whether they are. */
static inline int NAME(leave)(const NAME(sweeper) * w, int sides, const NAME(side_factors) * by) {
    NAME(column_notes) *notes = w->x->notes;
    if (!notes || !notes->scales || w->holds) return 0;
    const ptrdiff_t at = w->first - w->x->first;
    const size_t size = (size_t)(sides * XENT_SIDE) * sizeof(REAL);
    memset(notes->left + at / XENT_SIDE, 1, (size_t)sides);
    memcpy(notes->hi + at, by->hi, size), memcpy(notes->lo + at, by->lo, size);
    memcpy(notes->largest + at, by->largest, size), memcpy(notes->likely + at, by->likely, size);
    return 1;
}
/* The same of what is at labels, once these rows are; their losses are counted. */
static inline int NAME(leave_labels)(const NAME(sweeper) * w, int rows, const known_results *known) {
    NAME(column_notes) *notes = w->x->notes;
    const ptrdiff_t at = notes ? w->first - w->x->first : 0;
    if (!notes || !notes->left[at / XENT_SIDE]) return 0;
    memcpy(notes->label + at, known->labels, (size_t)rows * sizeof *notes->label);
    for (int r = 0; r < rows; r++) notes->label_is[at + r] = NAME(rounded)(known->label_is[r]);
    notes->labels = 1;
    count_losses(known, rows);
    return 1;
}
void KERNEL(scale_left)(const NAME(column_notes) * notes, ptrdiff_t n, REAL *v, ptrdiff_t stride, ptrdiff_t classes) {
    for (ptrdiff_t at = 0; at < n; at += XENT_SIDE) {
        if (!notes->left[at / XENT_SIDE]) continue;
        NAME(scale_side)
        (v + at, stride, classes,
         &(NAME(side_scale)){
             .hi = notes->hi + at, .lo = notes->lo + at, .largest = notes->largest + at, .likely = notes->likely + at});
        for (ptrdiff_t r = at; r < at + XENT_SIDE && r < n && notes->labels; r++)
            v[notes->label[r] * stride + r] = notes->label_is[r];
    }
}

/* The terms of the last narrow_sums scaled by their factors, and put in `to`; NULL: left as columns. */
XENT_NOINLINE void NAME(narrow_scale)(NAME(sweeper) * w, int rows, REAL *const *to) {
    const int classes = (int)w->layout->classes, sides = (rows + XENT_SIDE - 1) / XENT_SIDE;
    const row_batch *b = &w->batch;
    NAME(side_factors) by;
    int64_t least = INT64_MAX, most = 0; /* sizes of factors, by their bits: those of a NaN are above all */
    for (int r = rows; r < sides * XENT_SIDE; r++) w->factor_hi[r] = w->factor_lo[r] = 0.0;
    for (int r = 0; r < sides * XENT_SIDE; r++) {
        const wide d = {w->factor_hi[r], sizeof(REAL) == 4 ? -0.0 : w->factor_lo[r]}; /* to add -0 is to add nothing */
        const double largest = (double)w->largest[r];
        const int64_t size = (int64_t)bits_of(fabs(d.hi));
        by.largest[r] = (REAL)(NAME(outweighs)(b->top_hi[r], b->rest_hi[r]) ? largest : -1.0); /* no term is negative */
        by.likely[r] = NAME(rounded)(NAME(mul)(d, (wide){b->top_hi[r], b->top_lo[r]}).hi);
        NAME(split)(d, &by.hi[r], &by.lo[r]);
        least = size < least ? size : least, most = size > most ? size : most;
    }
    const int plain = NAME(are_plain)(w, sides * XENT_SIDE, from_bits((uint64_t)least), from_bits((uint64_t)most));
    if (!plain) NAME(flushing_factors)(w, sides * XENT_SIDE, rows, &by);
    if (plain && !to && NAME(leave)(w, sides, &by)) return;
    for (int i = 0; i < sides; i++) {
        const int at = i * XENT_SIDE, left = rows - at < XENT_SIDE ? rows - at : XENT_SIDE;
        REAL *v = NAME(columns_of)(w, i);
        const NAME(side_scale) scale = {.hi = by.hi + at,
                                        .lo = by.lo + at,
                                        .largest = by.largest + at,
                                        .likely = by.likely + at,
                                        .least = by.least + at,
                                        .down = by.down + at,
                                        .down2 = by.down2 + at};
        int odd = 0;
        for (int r = at; r < at + left && !plain; r++) odd |= by.odd[r];
        if (to && !odd) {
            (plain ? NAME(scale_to_rows) : NAME(scale_to_rows_flushing))(v, classes, &scale, to + at, left);
            continue;
        }
        (plain ? NAME(scale_side) : NAME(scale_side_flushing))(v, w->column_stride, classes, &scale);
        for (int r = at; r < at + left && odd; r++)
            if (by.odd[r]) NAME(scale_odd_row)(w, r);
        if (to) KERNEL(columns_to_rows)(v, classes, to + at, left);
    }
}

/* The results at the labels of rows side by side, and their losses counted. From class to class there are `stride` elements. */
XENT_NOINLINE void NAME(put_labels)(const known_results *known, int rows, REAL *const *to, ptrdiff_t stride) {
    REAL at[XENT_ROWS];
    for (int r = 0; r < rows; r++) at[r] = NAME(rounded)(known->label_is[r]);
    for (int r = 0; r < rows; r++) to[r][known->labels[r] * stride] = at[r];
    count_losses(known, rows);
}
