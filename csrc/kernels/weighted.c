/* logsumexp with weights b (C), of either sign: out = log |sum b_c e^x_c|, sign = its sign.
 * Two sweeps: the largest x among those with b != 0; then the sum of b e^(x - max), the terms at the maximum apart, so
 * that log(|m|) + log1p(s), s = rest / m, keeps what is too small beside them for two doubles. A term with b = 0 counts for
 * nothing, whatever its x. Sums are kept in two doubles, by the lanes of lanes.h.
 */
#ifndef REAL
#define KERNEL_FILE "weighted.c"
#include "for_each_dtype.h"
#else
#include "row.h"

/* Some numbers of a row and their weights, up to whole groups of lanes with weight 0. */
typedef struct {
    double z[XENT_SMALL_BLOCK], b[XENT_SMALL_BLOCK];
    ptrdiff_t n;
} NAME(weighted);

static void NAME(weighted_at)(const xent_reduce_args *a, NAME(sweeper) * w, ptrdiff_t row, ptrdiff_t start,
                              NAME(weighted) * to) {
    const ptrdiff_t left = a->layout->classes - start, n = left < XENT_SMALL_BLOCK ? left : XENT_SMALL_BLOCK;
    const REAL *x = NAME(logits_at)(w, row_of(a->layout, a->x, row), start, n);
    gather_numbers(a->layout, a->weights, row_of(a->layout, a->weights, row), start, n, to->b);
    for (ptrdiff_t i = 0; i < n; i++) {
        const double z = (double)x[i];
        to->z[i] = fabs(z) < 0x1p-1022 ? 0.0 : z; /* as with subnormals off */
    }
    to->n = whole_groups(n);
    for (ptrdiff_t i = n; i < to->n; i++) to->z[i] = to->b[i] = 0.0;
}

/* The largest z with a weight so far, in lanes; whether a z or a weight that counts is NaN or infinite, -inf for z aside. */
XENT_NOINLINE int NAME(weighted_max)(const NAME(weighted) * v, double *max) {
    int odd = 0;
    for (ptrdiff_t i = 0; i < v->n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            const double z = v->z[i + l], b = v->b[i + l];
            const int counts = b != 0.0;
            odd |= counts & !((fabs(b) < INFINITY) & (z < INFINITY));
            max[l] = (counts & (z > max[l])) ? z : max[l];
        }
    return odd;
}

/* The terms below the maximum, and the weights at it, to lanes in two parts. */
typedef struct {
    double rest[XENT_LANES], rest_lo[XENT_LANES], top[XENT_LANES], top_lo[XENT_LANES];
} NAME(weighted_sums);

XENT_NOINLINE void NAME(add_weighted)(const NAME(weighted) * v, double max, NAME(weighted_sums) * sums) {
    NAME(weighted_sums) s = *sums; /* local: compilers keep it in registers */
    for (ptrdiff_t i = 0; i < v->n; i += XENT_LANES)
        for (int l = 0; l < XENT_LANES; l++) {
            const double z = v->z[i + l], b = v->b[i + l], below = z - max, depth = LOOK_DEPTH / 2;
            const int at_max = z == max, counts = (b != 0.0) & !at_max & (below > -depth);
            const wide term = wide_mul((wide){b, 0.0}, exp_f64(below > -depth ? below : -depth, 0.0));
            const wide rest = two_sum(s.rest[l], counts ? term.hi : 0.0), top = two_sum(s.top[l], at_max ? b : 0.0);
            s.rest[l] = rest.hi, s.rest_lo[l] += rest.lo + (counts ? term.lo : 0.0);
            s.top[l] = top.hi, s.top_lo[l] += top.lo;
        }
    *sums = s;
}

/* What a row with an odd number comes to: NaN, or the infinity of all its infinite terms. */
static double NAME(odd_sum)(const xent_reduce_args *a, NAME(sweeper) * w, ptrdiff_t row, NAME(weighted) * v) {
    int nan = 0, positive = 0, negative = 0;
    for (ptrdiff_t start = 0; start < a->layout->classes; start += XENT_SMALL_BLOCK) {
        NAME(weighted_at)(a, w, row, start, v);
        for (ptrdiff_t i = 0; i < v->n; i++) {
            const double z = v->z[i], b = v->b[i];
            if (b == 0.0) continue;
            nan |= z != z || b != b || (fabs(b) == INFINITY && z == -INFINITY);
            const int infinite = z == INFINITY || (fabs(b) == INFINITY && z > -INFINITY);
            positive |= infinite && b > 0.0, negative |= infinite && !(b > 0.0);
        }
    }
    return nan || (positive && negative) ? NAN : positive ? INFINITY : -INFINITY;
}

/* The sum of a row whose numbers that count are finite, or -inf: log |sum|, and its sign. */
static double NAME(log_of_sum)(wide top, wide rest, double max, double *sign) {
    wide sum = wide_add(top, rest);
    const wide part = top.hi != 0.0 ? wide_div(rest, top) : rest;
    *sign = sum.hi > 0.0 ? 1.0 : sum.hi < 0.0 ? -1.0 : 0.0;
    if (sum.hi < 0.0) sum.hi = -sum.hi, sum.lo = -sum.lo;
    if (sum.hi == 0.0) return -INFINITY;
    if (top.hi != 0.0 && part.hi > 0.0 && part.hi < 0x1p-50) /* log |m| + log1p(s): no digit of a small s is lost */
        return max + (log_parts(fabs(top.hi), top.hi < 0.0 ? -top.lo : top.lo) + log1p_wide(part));
    return max + log_parts(sum.hi, sum.lo);
}

/* A row's result, given the largest z with a weight, whether some number is odd, and the sums. */
static void NAME(put_weighted)(const xent_reduce_args *a, NAME(sweeper) * w, ptrdiff_t row, int odd, double max,
                               wide top, wide rest, NAME(weighted) * v) {
    double value = -INFINITY, sign = 0.0;
    if (odd) {
        sign = NAME(odd_sum)(a, w, row, v);
        value = fabs(sign), sign = sign != sign ? NAN : sign > 0.0 ? 1.0 : -1.0;
    } else if (max > -INFINITY)
        value = NAME(log_of_sum)(top, rest, max, &sign);
    if (!a->row_sign && sign < 0.0) value = NAN;
    ((REAL *)a->row_out)[row] = NAME(rounded)(value);
    if (a->row_sign) ((REAL *)a->row_sign)[row] = (REAL)sign;
}

/* One row, of any length. */
static void NAME(weighted_row)(const xent_reduce_args *a, NAME(sweeper) * w, ptrdiff_t row, NAME(weighted) * v) {
    const ptrdiff_t classes = a->layout->classes;
    NAME(weighted_sums) sums = {{0}, {0}, {0}, {0}};
    double lanes[XENT_LANES], max = -INFINITY;
    int odd = 0;
    for (int l = 0; l < XENT_LANES; l++) lanes[l] = -INFINITY;
    for (ptrdiff_t start = 0; start < classes; start += XENT_SMALL_BLOCK) {
        NAME(weighted_at)(a, w, row, start, v);
        odd |= NAME(weighted_max)(v, lanes);
    }
    for (int l = 0; l < XENT_LANES; l++) max = lanes[l] > max ? lanes[l] : max;
    for (ptrdiff_t start = 0; start < classes && !odd && max > -INFINITY; start += XENT_SMALL_BLOCK) {
        if (classes > XENT_SMALL_BLOCK) NAME(weighted_at)(a, w, row, start, v);
        NAME(add_weighted)(v, max, &sums);
    }
    const wide top = wide_fold(sums.top, sums.top_lo, classes), rest = wide_fold(sums.rest, sums.rest_lo, classes);
    NAME(put_weighted)(a, w, row, odd, max, top, rest, v);
}

/* XENT_SIDE rows of few classes side by side, as in narrow.h: element c XENT_SIDE + r belongs to class c of row r.
 * (130 classes take the time of rows one by one, 200 1.15 times that.) */
enum { NAME(FEW_WEIGHTED) = 128 };
typedef struct {
    double z[NAME(FEW_WEIGHTED) * XENT_SIDE], b[NAME(FEW_WEIGHTED) * XENT_SIDE];
    double max[XENT_SIDE], odd[XENT_SIDE]; /* not 0: some number is */
    double rest[XENT_LANES][XENT_SIDE], rest_lo[XENT_LANES][XENT_SIDE];
    double top[XENT_LANES][XENT_SIDE], top_lo[XENT_LANES][XENT_SIDE];
} NAME(weighted_side);

XENT_NOINLINE void NAME(flush_side)(double *z, ptrdiff_t n) { /* as with subnormals off */
    for (ptrdiff_t i = 0; i < n; i++) z[i] = fabs(z[i]) < 0x1p-1022 ? 0.0 : z[i];
}

/* Numbers of n rows of a view as columns; those of no row are those of the first. */
static void NAME(side_in)(const xent_layout *layout, const xent_view *view, ptrdiff_t first, int n, REAL *few,
                          double *to) {
    char *rows[XENT_SIDE];
    rows_of(layout, view, first, n, rows);
    for (int r = n; r < XENT_SIDE; r++) rows[r] = rows[0];
    if (view->direct && view->type == NAME(own_type)) {
        REAL most[XENT_SIDE], least[XENT_SIDE];
        KERNEL(rows_to_columns)((const REAL *const *)rows, layout->classes, few, most, least);
        NAME(widen)(few, layout->classes * XENT_SIDE, to);
    } else
        NAME(numbers_to_columns)(layout, view, rows, to);
}

/* What weighted_max finds. */
XENT_NOINLINE void NAME(side_max)(NAME(weighted_side) *restrict s, ptrdiff_t classes) {
    double max[XENT_SIDE], odd[XENT_SIDE];
    const double *z = s->z, *b = s->b;
    for (int r = 0; r < XENT_SIDE; r++) max[r] = -INFINITY, odd[r] = 0.0;
    for (ptrdiff_t c = 0; c < classes; c++, z += XENT_SIDE, b += XENT_SIDE)
        for (int r = 0; r < XENT_SIDE; r++) {
            const double counted = b[r] != 0.0 ? z[r] : -INFINITY;
            const double finite = fabs(b[r]) < INFINITY && counted < INFINITY ? 0.0 : 1.0;
            odd[r] = b[r] != 0.0 ? odd[r] + finite : odd[r];
            max[r] = counted > max[r] ? counted : max[r];
        }
    memcpy(s->max, max, sizeof max), memcpy(s->odd, odd, sizeof odd);
}

/* What add_weighted does, each lane of all rows in its turn; then the lanes folded in halves, to the first. */
XENT_NOINLINE void NAME(side_sums)(NAME(weighted_side) *restrict s, ptrdiff_t classes) {
    const int lanes = classes < XENT_LANES ? (int)classes : XENT_LANES;
    const double depth = LOOK_DEPTH / 2;
    for (ptrdiff_t c = 0; c < classes; c++) {
        const double *z = s->z + c * XENT_SIDE, *b = s->b + c * XENT_SIDE;
        const ptrdiff_t lane = c % XENT_LANES;
        for (int r = 0; r < XENT_SIDE; r++) {
            const double below = z[r] - s->max[r], near = below > -depth ? below : -depth;
            const wide term = wide_mul((wide){b[r], 0.0}, exp_f64(near, 0.0));
            const int at_max = z[r] == s->max[r], counts = (b[r] != 0.0) & !at_max & (below > -depth);
            const wide before = {c < XENT_LANES ? 0.0 : s->rest[lane][r], c < XENT_LANES ? 0.0 : s->rest_lo[lane][r]};
            const wide above = {c < XENT_LANES ? 0.0 : s->top[lane][r], c < XENT_LANES ? 0.0 : s->top_lo[lane][r]};
            const wide rest = two_sum(before.hi, counts ? term.hi : 0.0), top = two_sum(above.hi, at_max ? b[r] : 0.0);
            s->rest[lane][r] = rest.hi, s->rest_lo[lane][r] = before.lo + (rest.lo + (counts ? term.lo : 0.0));
            s->top[lane][r] = top.hi, s->top_lo[lane][r] = above.lo + top.lo;
        }
    }
    for (int half = XENT_LANES / 2, n = lanes; half; half /= 2) {
        for (int l = 0; l + half < n; l++)
            for (int r = 0; r < XENT_SIDE; r++) {
                const wide rest = wide_add((wide){s->rest[l][r], s->rest_lo[l][r]},
                                           (wide){s->rest[l + half][r], s->rest_lo[l + half][r]});
                const wide top = wide_add((wide){s->top[l][r], s->top_lo[l][r]},
                                          (wide){s->top[l + half][r], s->top_lo[l + half][r]});
                s->rest[l][r] = rest.hi, s->rest_lo[l][r] = rest.lo, s->top[l][r] = top.hi, s->top_lo[l][r] = top.lo;
            }
        n = n < half ? n : half;
    }
}

static void NAME(weighted_rows)(const xent_reduce_args *a, NAME(sweeper) * w, ptrdiff_t first, int n,
                                NAME(weighted_side) * s, NAME(weighted) * v) {
    const ptrdiff_t classes = a->layout->classes;
    NAME(side_in)(a->layout, a->x, first, n, w->columns, s->z);
    NAME(side_in)(a->layout, a->weights, first, n, w->columns, s->b);
    NAME(flush_side)(s->z, classes * XENT_SIDE);
    NAME(side_max)(s, classes);
    NAME(side_sums)(s, classes);
    for (int r = 0; r < n; r++) NAME(put_weighted)
    (a, w, first + r, s->odd[r] != 0.0, s->max[r], (wide){s->top[0][r], s->top_lo[0][r]},
     (wide){s->rest[0][r], s->rest_lo[0][r]}, v);
}

void KERNEL(weighted_logsumexp)(const xent_reduce_args *a, ptrdiff_t first, ptrdiff_t last) {
    NAME(sweeper) w;
    NAME(weighted) v;
    NAME(weighted_side) side;
    block_scale few[XENT_BLOCKS_ON_STACK];
    const ptrdiff_t classes = a->layout->classes;
    if (!KERNEL(sweeper_start)(&w, a->layout, a->x, NULL, few, a->failed)) return;
    while (first < last) {
        const int n = last - first < XENT_SIDE ? (int)(last - first) : XENT_SIDE;
        if (n > 1 && classes > 0 && classes <= NAME(FEW_WEIGHTED)) {
            NAME(weighted_rows)(a, &w, first, n, &side, &v);
            first += n;
        } else
            NAME(weighted_row)(a, &w, first++, &v);
    }
    KERNEL(sweeper_stop)(&w, few);
}
#endif
