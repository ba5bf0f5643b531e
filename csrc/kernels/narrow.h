/* Rows side by side, XENT_SIDE of them as columns: element r of every vector belongs to row r, and class c takes the part
 * of lane c % XENT_LANES, so that all is as row_sums.h has it, bit for bit. What is done once a row is done for all rows of
 * a batch. So are taken rows of up to XENT_NARROW classes, turned for it, if they are more than a few, and the blocks of rows
 * that are packed as columns (pack_columns.h). Included once per dtype, in sweeper.c. */

/* The lanes of XENT_SIDE rows. */
typedef REAL NAME(side_lanes)[XENT_LANES][XENT_SIDE];

/* lo NULL: all low parts are 0. */
XENT_INLINE void NAME(narrow_fold)(double (*hi)[XENT_SIDE], NAME(side_lanes) lo, int lanes, double *sum_hi,
                                   double *sum_lo) {
    for (int half = XENT_LANES / 2, n = lanes; half; half /= 2) {
        for (int c = 0; c + half < n; c++)
            for (int r = 0; r < XENT_SIDE; r++)
                if (lo)
                    NAME(fold_one)(&hi[c][r], &lo[c][r], hi[c + half][r], lo[c + half][r]);
                else
                    hi[c][r] += hi[c + half][r];
        n = n < half ? n : half;
    }
    for (int r = 0; r < XENT_SIDE; r++) {
        const wide sum = NAME(folded)(hi[0][r], lo ? lo[0][r] : 0);
        sum_hi[r] = sum.hi, sum_lo[r] = sum.lo;
    }
}

/* The same where the sums of the high parts are known, as those of float32 are: they are whole multiples of one unit, and add
 * up exactly in any order. What would be the low parts of the sums is 0, and nobody reads it. */
XENT_INLINE void NAME(fold_low)(const double *sums, NAME(side_lanes) lo, int lanes, double *sum_hi) {
    for (int c = lanes; c < 8; c++)
        for (int r = 0; r < XENT_SIDE; r++) lo[c][r] = (REAL)-0.0; /* to add it is to add nothing */
    for (int half = XENT_LANES / 2, n = lanes; half > 4; half /= 2) {
        for (int c = 0; c + half < n; c++)
            for (int r = 0; r < XENT_SIDE; r++) lo[c][r] += lo[c + half][r];
        n = n < half ? n : half;
    }
    for (int r = 0; r < XENT_SIDE; r++) { /* of the last eight lanes at once: they are read once */
        const REAL even = (lo[0][r] + lo[4][r]) + (lo[2][r] + lo[6][r]),
                   odd = (lo[1][r] + lo[5][r]) + (lo[3][r] + lo[7][r]);
        sum_hi[r] = NAME(folded)(sums[r], even + odd).hi;
    }
}

/* The first term of a lane, which is sigma till then; to add -0 is to add nothing. */
XENT_INLINE REAL NAME(first_exp)(REAL x, REAL rounder, int counts, REAL sigma, REAL *hi, REAL *lo) {
    REAL h = sigma, l = (REAL)-0.0;
    const REAL term = NAME(add_exp)(x, rounder, counts, &h, &l);
    *hi = h, *lo = l;
    return term;
}

/* The terms of XENT_SIDE rows added up; and, if `stored`, put in the place of their logits. Class by class, as they
 * lie: with the terms of a lane one behind the other, the lane in registers, 96 classes took 17 clocks for eight
 * numbers where they take 11.5 (AVX2), 40 classes 24. once: each lane gets one term at most, of float32, so that the
 * high parts are of one binade and can be added as integers, at once; a NaN stays one in the low parts. clamps: some
 * logit may be below its floor (where none is, 2 to 3 % less time); drops: and what is far below (drops, in sweep.h)
 * is 0. All are constants. */
XENT_INLINE void NAME(add_narrow)(REAL *restrict v, ptrdiff_t stride, int classes, REAL sigma,
                                  const REAL *restrict rounder, const REAL *restrict floor, const side_ahead *from,
                                  double *restrict sum_hi, double *restrict sum_lo, const int stored, const int once,
                                  const int clamps, const int drops) {
    side_ahead ahead = *from; /* not by value: to copy what was just written number by number is to wait for it */
    const int lanes = classes < XENT_LANES ? classes : XENT_LANES;
    NAME(side_lanes) hi, lo;
    uint32_t units[XENT_SIDE]; /* unsigned: those of a NaN add up to anything */
    for (int r = 0; r < XENT_SIDE; r++)
        units[r] = (uint32_t)-lanes * word_of((float)sigma); /* lanes add all their bits */
    for (int c = 0; c < lanes; c++, v += stride) {
        ask_ahead(&ahead);
        for (int r = 0; r < XENT_SIDE; r++) {
            REAL h;
            const REAL x = clamps && v[r] < floor[r] ? floor[r] : v[r],
                       term = NAME(first_exp)(x, rounder[r], !(drops && NAME(drops)(v[r], floor[r])), sigma, &h,
                                              &lo[c][r]);
            if (once)
                units[r] += word_of((float)h);
            else
                hi[c][r] = h;
            if (stored) v[r] = term;
        }
    }
    for (int c = XENT_LANES; !once && c < classes; c++, v += stride) {
        REAL *restrict h = hi[c % XENT_LANES], *restrict l = lo[c % XENT_LANES];
        ask_ahead(&ahead);
        for (int r = 0; r < XENT_SIDE; r++) {
            const int counts = !(drops && NAME(drops)(v[r], floor[r]));
            const REAL x = clamps && v[r] < floor[r] ? floor[r] : v[r],
                       term = NAME(add_exp)(x, rounder[r], counts, &h[r], &l[r]);
            if (stored) v[r] = term;
        }
    }
    double above[XENT_LANES][XENT_SIDE];
    if (sizeof(REAL) == 8) {
        for (int c = 0; c < lanes; c++)
            for (int r = 0; r < XENT_SIDE; r++) above[c][r] = (double)hi[c][r] - (double)sigma;
        NAME(narrow_fold)(above, lo, lanes, sum_hi, sum_lo);
        return;
    }
    for (int r = 0; r < XENT_SIDE; r++)
        above[0][r] = once ? (int32_t)units[r] * ((double)sigma * 0x1p-23) : lanes * -(double)sigma;
    for (int c = 0; !once && c < lanes; c++)
        for (int r = 0; r < XENT_SIDE; r++) above[0][r] += (double)hi[c][r];
    NAME(fold_low)(above[0], lo, lanes, sum_hi);
}

#define XENT_ADD_NARROW(NAME_, STORED, ONCE, CLAMPS, DROPS)                                                      \
    XENT_NOINLINE void NAME(NAME_)(REAL * v, ptrdiff_t stride, int classes, REAL sigma, const REAL *rounder,     \
                                   const REAL *floor, const side_ahead *ahead, double *sum_hi, double *sum_lo) { \
        NAME(add_narrow)                                                                                         \
        (v, stride, classes, sigma, rounder, floor, ahead, sum_hi, sum_lo, STORED, ONCE, CLAMPS, DROPS);         \
    }
XENT_ADD_NARROW(narrow_terms, 1, 0, 0, 0)
XENT_ADD_NARROW(narrow_terms_once, 1, 1, 0, 0)
XENT_ADD_NARROW(narrow_terms_clamped, 1, 0, 1, 0)
XENT_ADD_NARROW(narrow_terms_once_clamped, 1, 1, 1, 0)
XENT_ADD_NARROW(narrow_terms_dropping, 1, 0, 1, 1)
XENT_ADD_NARROW(narrow_sum, 0, 0, 0, 0)
XENT_ADD_NARROW(narrow_sum_once, 0, 1, 0, 0)
XENT_ADD_NARROW(narrow_sum_clamped, 0, 0, 1, 0)
XENT_ADD_NARROW(narrow_sum_once_clamped, 0, 1, 1, 0)
XENT_ADD_NARROW(narrow_sum_dropping, 0, 0, 1, 1)
#undef XENT_ADD_NARROW
typedef void (*NAME(side_sum))(REAL *, ptrdiff_t, int, REAL, const REAL *, const REAL *, const side_ahead *, double *,
                               double *);
XENT_INLINE NAME(side_sum) NAME(terms_by)(int once, int clamps, int drops) {
    if (once) return clamps ? NAME(narrow_terms_once_clamped) : NAME(narrow_terms_once);
    return drops ? NAME(narrow_terms_dropping) : clamps ? NAME(narrow_terms_clamped) : NAME(narrow_terms);
}
XENT_INLINE NAME(side_sum) NAME(sum_by)(int once, int clamps, int drops) {
    if (once) return clamps ? NAME(narrow_sum_once_clamped) : NAME(narrow_sum_once);
    return drops ? NAME(narrow_sum_dropping) : clamps ? NAME(narrow_sum_clamped) : NAME(narrow_sum);
}

/* The terms below the largest of each row, added anew, as sharp_rest does. They are at v; or, where they were not stored,
 * the logits are. */
XENT_INLINE void NAME(add_rests)(const REAL *restrict v, ptrdiff_t stride, int classes, const REAL *restrict largest,
                                 const REAL *restrict rounder, const REAL *restrict floor, double *restrict rest_hi,
                                 double *restrict rest_lo, const int stored) {
    const int lanes = classes < XENT_LANES ? classes : XENT_LANES;
    NAME(side_lanes) lo;
    double hi[XENT_LANES][XENT_SIDE];
    for (int c = 0; c < classes; c++, v += stride) {
        double *restrict h = hi[c % XENT_LANES];
        REAL *restrict l = lo[c % XENT_LANES], counted[XENT_SIDE];
        for (int r = 0; r < XENT_SIDE; r++) {
            REAL e = v[r], none = 0, lost = 0;
            const int counts = stored || !NAME(drops)(e, floor[r]);
            if (!stored) e = NAME(add_exp)(e < floor[r] ? floor[r] : e, rounder[r], counts, &none, &lost);
            counted[r] = NAME(rest_term)(e, largest[r]);
        }
        if (c < XENT_LANES)
            for (int r = 0; r < XENT_SIDE; r++) {
                h[r] = (double)counted[r];
                if (sizeof(REAL) == 8) l[r] = 0;
            }
        else
            for (int r = 0; r < XENT_SIDE; r++)
                if (sizeof(REAL) == 4)
                    h[r] += (double)counted[r];
                else
                    NAME(fold_one)(&h[r], &l[r], (double)counted[r], 0);
    }
    NAME(narrow_fold)(hi, sizeof(REAL) == 4 ? NULL : lo, lanes, rest_hi, rest_lo); /* of float32 all low parts are 0 */
}
XENT_NOINLINE void NAME(narrow_rests)(const REAL *v, ptrdiff_t stride, int classes, const REAL *largest,
                                      double *rest_hi, double *rest_lo) {
    NAME(add_rests)(v, stride, classes, largest, NULL, NULL, rest_hi, rest_lo, 1);
}
XENT_NOINLINE void NAME(narrow_rests_anew)(const REAL *v, ptrdiff_t stride, int classes, const REAL *largest,
                                           const REAL *rounder, const REAL *floor, double *rest_hi, double *rest_lo) {
    NAME(add_rests)(v, stride, classes, largest, rounder, floor, rest_hi, rest_lo, 0);
}

/* The rests of the sharp ones of XENT_SIDE rows, rows `at` and on of the batch, at v: all at once, */
XENT_INLINE void NAME(rests_at_once)(NAME(sweeper) * w, int at, const REAL *v, int classes, const int64_t *sharp) {
    row_batch *b = &w->batch;
    double hi[XENT_SIDE], lo[XENT_SIDE];
    if (w->columns_stored)
        NAME(narrow_rests)(v, w->column_stride, classes, w->largest + at, hi, lo);
    else
        NAME(narrow_rests_anew)
    (v, w->column_stride, classes, w->largest + at, w->by_rounder + at, w->by_floor + at, hi, lo);
    uint64_t nan = 0; /* as wide as what is compared */
    for (int r = 0; r < XENT_SIDE; r++) {
        const double rest = sharp[r] ? hi[r] : b->rest_hi[at + r];
        b->rest_lo[at + r] = sharp[r] ? lo[r] : b->rest_lo[at + r];
        b->rest_hi[at + r] = rest, nan |= rest != rest;
    }
    for (int r = at; r < at + XENT_SIDE && nan; r++) put_new_rest(b, r, b->rest_hi[r], b->rest_lo[r]);
}

/* and one by one. */
XENT_INLINE void NAME(rests_one_by_one)(NAME(sweeper) * w, int at, const REAL *v, int classes, const int64_t *sharp) {
    for (int four = 0; four < XENT_SIDE; four += 4) {
        if (!(sharp[four] | sharp[four + 1] | sharp[four + 2] | sharp[four + 3])) continue; /* as most are */
        for (int r = four; r < four + 4; r++) {
            if (!sharp[r]) continue;
            const NAME(reduction) by = {w->by_rounder[at + r], w->by_floor[at + r], w->by_max[at + r], 1};
            for (int c = 0; c < classes; c++) w->terms[c] = v[c * w->column_stride + r];
            const wide rest = NAME(sharp_rest)(w->terms, w->columns_stored ? w->terms : NULL, classes, &by);
            put_new_rest(&w->batch, at + r, rest.hi, rest.lo);
        }
    }
}

/* What close_rows does, of rows whose terms are side by side: XENT_SIDE by `sides` of them, `classes` classes at v, further
 * on by side_step for each XENT_SIDE. */
XENT_NOINLINE void NAME(close_narrow)(NAME(sweeper) * w, int sides, const REAL *v, int classes, const double *sum_hi,
                                      const double *sum_lo) {
    /* One by one, a row is a fold of all lanes, which takes as long as some classes of all rows do: few classes, few rows. */
    const int alone = (classes - 2) / 2 < XENT_FEW_SHARP ? (classes - 2) / 2 : XENT_FEW_SHARP;
    int64_t sharp[XENT_ROWS];
    if (!NAME(close)(w, sides * XENT_SIDE, sum_hi, sum_lo, 1, sharp)) return;
    for (int at = 0; at < sides * XENT_SIDE; at += XENT_SIDE, v += w->side_step) {
        int64_t some = 0;
        for (int r = at; r < at + XENT_SIDE; r++) some += sharp[r];
        if (!some) continue;
        if (some <= alone)
            NAME(rests_one_by_one)(w, at, v, classes, sharp + at);
        else
            NAME(rests_at_once)(w, at, v, classes, sharp + at);
    }
}

/* For the first XENT_SIDE rows of a batch; where some were left out, only about there. */
static inline side_ahead NAME(side_ahead_of)(const NAME(sweeper) * w, int rows) {
    const xent_view *x = w->x;
    if (x->next) return packed_ahead(x, x->next + (w->first - x->first) * (x->next_side / XENT_SIDE));
    return (side_ahead){.next = asked_from(w->x_asked, w->x_rows[rows - 1] + row_step(w->layout, x)),
                        .to = w->out_asked.lines ? asked_from(w->out_asked, row_of(w->layout, w->written, w->first))
                                                 : (asked_lines){0}};
}

/* Whether one of the maxima of n rows is far, or not finite. */
XENT_INLINE int NAME(any_far)(const REAL *most, int n) {
    int far = 0;
    for (int r = 0; r < n; r++) far |= !(most[r] <= (REAL)FAR) | !(most[r] >= (REAL)-FAR);
    return far;
}

/* The sums of `sides` by XENT_SIDE rows to the batch, of `classes` classes at v, given their extremes. */
static inline void NAME(sum_sides)(NAME(sweeper) * w, int sides, REAL *v, int classes, const REAL *most,
                                   const REAL *least, side_ahead ahead) {
    const REAL sigma = NAME(sigma)(w->room.guard);
    const int once = sizeof(REAL) == 4 && classes <= XENT_LANES;
    row_batch *b = &w->batch;
    double sum_hi[XENT_ROWS], sum_lo[XENT_ROWS];
    NAME(bits) spread = 0, clamps = 0; /* by its bits, which compilers compare in vectors */
    for (int r = 0; r < sides * XENT_SIDE; r++) {
        const REAL apart = most[r] - least[r];
        NAME(bits) bits;
        memcpy(&bits, &apart, sizeof bits);
        spread = bits > spread ? bits : spread;
        const NAME(reduction) by = NAME(reduce_by)(most[r], least[r], w->room, &b->scale[r]);
        clamps |= by.clamp;
        w->by_max[r] = most[r], w->by_rounder[r] = by.rounder, w->by_floor[r] = by.floor;
        b->max[r] = (double)most[r], b->min[r] = (double)least[r];
    }
    memcpy(&w->spread, &spread, sizeof spread);
    for (int r = b->told; r < sides * XENT_SIDE; r++) b->kind[r] = ROW_FINITE, b->far[r] = 0;
    b->told = b->told < sides * XENT_SIDE ? sides * XENT_SIDE : b->told;
    const int drops = sizeof(REAL) == 8 && !((double)w->spread < w->room.depth);
    const NAME(side_sum) sum_side =
        w->columns_stored ? NAME(terms_by)(once, clamps != 0, drops) : NAME(sum_by)(once, clamps != 0, drops);
    for (int i = 0; i < sides; i++) {
        const int at = i * XENT_SIDE;
        sum_side(v + i * w->side_step, w->column_stride, classes, sigma, w->by_rounder + at, w->by_floor + at, &ahead,
                 sum_hi + at, sum_lo + at);
        ahead.next.at += ahead.next.side, ahead.to.at += ahead.to.side;
    }
    NAME(close_narrow)(w, sides, v, classes, sum_hi, sum_lo);
}

static int NAME(long_columns_sums)(NAME(sweeper) * w); /* long_columns.h */

/* The sums of the rows of a batch, whose terms are then where columns_of says: those of columns, if there is an output. 0
 * where one is far or not finite: then nothing is done. */
static inline int NAME(narrow_sums)(NAME(sweeper) * w, int rows) {
    const int classes = (int)w->layout->classes, sides = (rows + XENT_SIDE - 1) / XENT_SIDE;
    const ptrdiff_t given = w->x->columns;
    REAL most[XENT_ROWS], least[XENT_ROWS];
    w->column_stride = given ? given : XENT_SIDE,
    w->columns_stored = given ? w->out && !(w->x->blocks && w->x->blocks->twice) : !w->keeps_logits;
    w->in_columns = given ? (REAL *)w->x_rows[0] : w->columns;
    w->side_step = given ? XENT_SIDE : w->layout->classes * XENT_SIDE;
    if (w->x->blocks) return NAME(long_columns_sums)(w);
    for (int r = rows; r < sides * XENT_SIDE; r++) w->x_rows[r] = w->x_rows[0];
    const NAME(column_notes) *notes = w->x->notes;
    const ptrdiff_t at = notes ? w->first - w->x->first : 0;
    for (int i = 0; i < sides; i++) {
        REAL *columns = NAME(columns_of)(w, i), *high = most + i * XENT_SIDE, *low = least + i * XENT_SIDE;
        if (notes)
            memcpy(high, notes->most + at + i * XENT_SIDE, XENT_SIDE * sizeof *high),
                memcpy(low, notes->least + at + i * XENT_SIDE, XENT_SIDE * sizeof *low);
        else if (given)
            KERNEL(narrow_extremes)(columns, w->column_stride, classes, high, low);
        else
            KERNEL(rows_to_columns)((const REAL *const *)(w->x_rows + i * XENT_SIDE), classes, columns, high, low);
    }
    if (NAME(any_far)(most, sides * XENT_SIDE)) return 0;
    NAME(sum_sides)(w, sides, w->in_columns, classes, most, least, NAME(side_ahead_of)(w, rows));
    return 1;
}
