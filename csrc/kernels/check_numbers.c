/* Target probabilities and weights looked at before anything is written: whether they are in range, and what they sum to.
 * Of the rows of one call, row after row, number i goes to lane i % XENT_LANES, where sums are kept in two parts, as in
 * lanes.h.
 */
#include "elementary.h"
#include "rows.h"

enum { XENT_CHECK_BLOCK = 16 * XENT_LANES };

typedef struct {
    double hi[XENT_LANES], lo[XENT_LANES];
} check_sums;

/* -0 is what leaves every number as it is, and a loop over it is not made a string instruction. */
XENT_INLINE void no_sums(check_sums *sums) {
    for (int l = 0; l < XENT_LANES; l++) sums->hi[l] = sums->lo[l] = -0.0;
}

/* Sums of numbers from 0 to this do not overflow. */
static const double SUMMABLE = 0x1p900;

/* hi + lo += q. Neither is negative, so the larger comes first, and what the addition loses is found in two steps (Dekker):
 * maxima are formed beside additions, not in their place. */
XENT_INLINE void add_positive(double *hi, double *lo, double q) {
    const double h = *hi, sum = h + q, large = h > q ? h : q, small = h > q ? q : h;
    *lo += small - (sum - large), *hi = sum;
}

/* Plain numbers: whether one is out of range; and the same while they are added, the first of them to lane `at`. A NaN, which
 * is neither large nor small, is seen in the sums. */
#define XENT_CHECK_PLAIN(TYPE)                                                                             \
    XENT_NOINLINE int XENT_PASTE(bad, TYPE)(const TYPE *q, ptrdiff_t n, TYPE upper) {                      \
        int bad = 0;                                                                                       \
        for (ptrdiff_t i = 0; i < n; i++) bad |= !(q[i] >= 0) | !(q[i] <= upper);                          \
        return bad;                                                                                        \
    }                                                                                                      \
    XENT_NOINLINE int XENT_PASTE(add, TYPE)(const TYPE *restrict q, ptrdiff_t n, ptrdiff_t at, TYPE upper, \
                                            double *restrict hi, double *restrict lo) {                    \
        const ptrdiff_t before = at && XENT_LANES - at < n ? XENT_LANES - at : at ? n : 0;                 \
        TYPE most[XENT_LANES], least[XENT_LANES];                                                          \
        ptrdiff_t i = before;                                                                              \
        int bad = XENT_PASTE(bad, TYPE)(q, before, upper);                                                 \
        for (int l = 0; l < XENT_LANES; l++) most[l] = least[l] = 0;                                       \
        for (ptrdiff_t l = 0; l < before; l++) add_positive(&hi[at + l], &lo[at + l], (double)q[l]);       \
        for (; i + XENT_LANES <= n; i += XENT_LANES)                                                       \
            for (int l = 0; l < XENT_LANES; l++) {                                                         \
                const TYPE its = q[i + l];                                                                 \
                most[l] = its > most[l] ? its : most[l], least[l] = its < least[l] ? its : least[l];       \
                add_positive(&hi[l], &lo[l], (double)its);                                                 \
            }                                                                                              \
        for (ptrdiff_t l = 0; l < n - i; l++) add_positive(&hi[l], &lo[l], (double)q[i + l]);              \
        bad |= XENT_PASTE(bad, TYPE)(q + i, n - i, upper);                                                 \
        for (int l = 0; l < XENT_LANES; l++) bad |= !(least[l] >= 0) | !(most[l] <= upper);                \
        for (int l = 0; l < XENT_LANES; l++) bad |= hi[l] != hi[l];                                        \
        return bad;                                                                                        \
    }
XENT_CHECK_PLAIN(float)
XENT_CHECK_PLAIN(double)
#undef XENT_CHECK_PLAIN

/* Rows of plain numbers; sums NULL: not wanted. 1 where a number is out of range: then the sums are not done. */
static int check_plain(const xent_layout *layout, const xent_view *numbers, ptrdiff_t first, ptrdiff_t rows,
                       double upper, check_sums *sums) {
    const int single = numbers->type == XENT_FLOAT32;
    const double most = single ? 0x1.fffffep127 : sums ? SUMMABLE : upper, least = upper < most ? upper : most;
    const ptrdiff_t stride = row_step(layout, numbers);
    const char *row = row_of(layout, numbers, first);
    ptrdiff_t n = layout->classes;
    int bad = 0;
    if (are_joined(layout, numbers, rows)) n *= rows, rows = 1;
    for (ptrdiff_t r = 0; r < rows && !bad; r++, row += stride) {
        const ptrdiff_t at = r * n % XENT_LANES;
        const float *q = (const float *)(const void *)row;
        const double *p = (const double *)(const void *)row;
        bad = single ? sums ? add_float(q, n, at, (float)least, sums->hi, sums->lo) : bad_float(q, n, (float)least)
              : sums ? add_double(p, n, at, least, sums->hi, sums->lo)
                     : bad_double(p, n, least);
    }
    return bad;
}

/* A row of any numbers, each times its weight, the first of them to lane `at`. */
static int check_row(const xent_layout *layout, const xent_view *numbers, ptrdiff_t row, const xent_vector *weights,
                     double upper, ptrdiff_t at, check_sums *sums) {
    char *numbers_row = row_of(layout, numbers, row);
    double q[XENT_CHECK_BLOCK], weight[XENT_CHECK_BLOCK];
    int bad = 0;
    for (ptrdiff_t start = 0; start < layout->classes; start += XENT_CHECK_BLOCK) {
        const ptrdiff_t left = layout->classes - start, n = left < XENT_CHECK_BLOCK ? left : XENT_CHECK_BLOCK;
        gather_numbers(layout, numbers, numbers_row, start, n, q);
        bad |= bad_double(q, n, upper);
        if (!sums) continue;
        if (weights->data) {
            entries(weights, start, n, weight);
            for (ptrdiff_t i = 0; i < n; i++) q[i] *= weight[i];
        }
        for (ptrdiff_t i = 0; i < n; i++, at++) add_kept(&sums->hi[at % XENT_LANES], &sums->lo[at % XENT_LANES], q[i]);
    }
    return bad;
}

int XENT_PASTE(check_numbers, XENT_TIER)(const xent_layout *layout, const xent_view *numbers, ptrdiff_t first,
                                         ptrdiff_t rows, const xent_vector *weights, double times, double upper,
                                         double *sum) {
    const int plain = numbers->direct && (numbers->type == XENT_FLOAT32 || numbers->type == XENT_FLOAT64);
    check_sums lanes, *sums = sum ? &lanes : NULL;
    int bad = 0;
    if (sum) no_sums(&lanes);
    if (!plain || (weights->data && sums) || layout->n_batch > 1 ||
        check_plain(layout, numbers, first, rows, upper, sums)) {
        if (sum) no_sums(&lanes);
        for (ptrdiff_t r = 0; r < rows; r++)
            bad |= check_row(layout, numbers, first + r, weights, upper, r * layout->classes, sums);
    }
    if (!sum) return bad;
    for (int l = 0; l < XENT_LANES; l++) lanes.hi[l] *= times, lanes.lo[l] *= times;
    for (int half = XENT_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) {
            const wide both = two_sum(lanes.hi[l], lanes.hi[l + half]);
            const double lost = both.lo - both.lo == 0.0 ? both.lo : 0.0; /* of an infinite sum */
            lanes.hi[l] = both.hi, lanes.lo[l] += lanes.lo[l + half] + lost;
        }
    sum[0] = lanes.hi[0], sum[1] = lanes.lo[0];
    return bad;
}
