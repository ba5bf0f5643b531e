/* Sums of the squares of rows of n float32: the first additions in float32, the others in double.
 *
 * A row is read in vectors of 16, the last of which ends with it: what it has of the vector before, or of what is before a
 * row of fewer than 16, counts as 0. Of each 64 numbers, lane l of 16 adds up v[l]^2, v[l + 16]^2, v[l + 32]^2, v[l + 48]^2
 * by fused multiply-adds in float32; of a row of at most 64, its last vector comes first, so that no sum has to be made
 * ready before the loop. Lane l is added to lane l + 8 and l + 4 in float32. Of a row of at most 64 numbers l is then added to
 * l + 2, of at most 32 in float32, and the rest in double, for 4 rows at once: all lanes as in a circle, so that they may be
 * held turned. Of longer rows the four sums of each 64 numbers are added up in double, then neighbours to neighbours, for
 * 16 rows at once. At most 6 roundings to float32 lie on the way of a term.
 *
 * A sum in float32 begins with 2^-100, half a unit of which is above any subnormal number: so it makes no difference
 * whether subnormal numbers and squares count. What that adds to a small sum, and what overflows, is seen in the sum:
 * above_floor.
 *
 * Lanes are vectors of GNU C, 8 to each: of loops over lanes and rows clang 14 makes code that is seven times slower.
 */
#ifndef XENT_SQUARES_F32_H
#define XENT_SQUARES_F32_H
#include "squares_turned.h"

enum { XENT_SQUARE_ROWS = 16, XENT_SQUARE_LANES = 16, XENT_SQUARE_STEP = 64 };
static const float SQUARE_FLOOR = 0x1p-100f;
_Static_assert(XENT_DENSE_COLUMNS / XENT_SQUARE_STEP * XENT_SQUARE_LANES <= 1 << 8,
               "above_floor allows for 2^8 floors");

typedef float eight_f32 __attribute__((vector_size(32)));
typedef uint32_t eight_u32 __attribute__((vector_size(32)));
typedef double four_f64 __attribute__((vector_size(32)));
typedef uint64_t four_u64 __attribute__((vector_size(32)));

static const uint32_t KEEP[3 * XENT_SQUARE_LANES] = {
    [XENT_SQUARE_LANES] = ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};

/* What a vector that ends with a row of n numbers has of it that no vector before has; and what one that begins with a row of
 * fewer than 16 has of it. */
XENT_INLINE const uint32_t *keep_last(ptrdiff_t n) {
    return KEEP + 1 + (n - 1) % XENT_SQUARE_LANES;
}
XENT_INLINE const uint32_t *keep_first(ptrdiff_t n) {
    return KEEP + 2 * XENT_SQUARE_LANES - n;
}

/* Below 2^60 for a sum from 2^-64 to 2^192, of which 2^8 floors, as many as there are at most, are no more than the part 2^-28;
 * not for 0, infinity, NaN. */
XENT_INLINE uint64_t above_floor(double sum) {
    return bits_of(sum) - bits_of(0x1p-64);
}

/* s += the squares of the 8 numbers at x; of those that count, where keep is all ones. Vectors are passed by address:
 * how they are passed by value depends on the tier. */
XENT_INLINE void add_eight(const float *x, eight_f32 *s) {
    eight_f32 loaded;
    float v[8], sum[8];
    memcpy(&loaded, x, sizeof loaded);
    memcpy(v, &loaded, sizeof v), memcpy(sum, s, sizeof sum);
    for (int l = 0; l < 8; l++) sum[l] = fmaf(v[l], v[l], sum[l]);
    memcpy(s, sum, sizeof sum);
}
XENT_INLINE void add_kept_of_eight(const float *x, const eight_u32 *keep, eight_f32 *s) {
    float kept[8];
    eight_u32 v;
    memcpy(&v, x, sizeof v);
    v &= *keep;
    memcpy(kept, &v, sizeof v);
    add_eight(kept, s);
}

XENT_INLINE void widen_four(const four_f32 *v, four_f64 *to) {
    float narrow[4];
    double wide[4];
    memcpy(narrow, v, sizeof narrow);
    for (int l = 0; l < 4; l++) wide[l] = (double)narrow[l];
    memcpy(to, wide, sizeof wide);
}

/* sums[i] = (q[i][0] + q[i][2]) + (q[i][1] + q[i][3]), the last or all in double */
XENT_INLINE void add_quads(const four_f32 *q, const int doubles, double *sums, four_u64 *most) {
    four_f32 c[4];
#ifdef XENT_SHUFFLES
    turn_f32(q, c);
#else
    for (int i = 0; i < 4; i++)
        for (int l = 0; l < 4; l++) c[l][i] = q[i][l];
#endif
    four_f64 sum, w[4];
    if (doubles) {
        for (int i = 0; i < 4; i++) widen_four(&c[i], &w[i]);
        sum = (w[0] + w[2]) + (w[1] + w[3]);
    } else {
        c[0] += c[2], c[1] += c[3];
        widen_four(&c[0], &w[0]), widen_four(&c[1], &w[1]);
        sum = w[0] + w[1];
    }
    memcpy(sums, &sum, sizeof sum);
    four_u64 bits;
    memcpy(&bits, &sum, sizeof bits);
    *most |= bits - ((four_u64){0} + bits_of(0x1p-64));
}

/* *to = lane l + lane l + 8, and those + l + 4 */
XENT_INLINE void quarter_lanes(const eight_f32 lanes[2], four_f32 *to) {
    const eight_f32 half = lanes[0] + lanes[1];
    four_f32 high;
    memcpy(to, &half, sizeof *to), memcpy(&high, (const char *)&half + sizeof high, sizeof high);
    *to += high;
}

/* Rows of at most 64, a multiple of four of them; returns all above_floor(sums[i]), or-ed. One loop for any number of
 * vectors: a body for each was no faster, and is not in the cache when a small network's step comes to it. The rows of the
 * loop are written out: of arrays of them gcc 12 makes code that is twice as slow. */
#define FOUR(ROW) ROW(0) ROW(1) ROW(2) ROW(3)
#define ROW_BEGINS(i)                                                                   \
    eight_f32 s##i[2] = {(eight_f32){0} + SQUARE_FLOOR, (eight_f32){0} + SQUARE_FLOOR}; \
    add_kept_of_eight(tail + (i)*stride, &mask[0], &s##i[0]),                           \
        add_kept_of_eight(tail + (i)*stride + HALF, &mask[1], &s##i[1]);
#define ROW_ADDS(i) add_eight(p + (i)*stride, &s##i[0]), add_eight(p + (i)*stride + HALF, &s##i[1]);
#define ROW_ENDS(i) quarter_lanes(s##i, &q[i]);
XENT_NOINLINE uint64_t short_rows(const float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const uint32_t *keep,
                                  double *sums) {
    enum { V = XENT_SQUARE_LANES, HALF = V / 2, N = 4 };
    const ptrdiff_t before_last = (n - 1) / V * V;
    const float *tail = x + (n - V);
    eight_u32 mask[2];
    memcpy(mask, keep, sizeof mask);
    four_u64 most = {0};
    for (; rows > 0; rows -= N, x += N * stride, tail += N * stride, sums += N) {
        four_f32 q[N];
        FOUR(ROW_BEGINS)
        for (const float *p = x, *end = x + before_last; p < end; p += V) {
            FOUR(ROW_ADDS)
        }
        FOUR(ROW_ENDS)
        add_quads(q, n > 2 * V, sums, &most);
    }
    return most[0] | most[1] | most[2] | most[3];
}

/* The same of at most 16 rows, copied: with room before the first, and to a multiple of four by rows of ones, so that one that
 * is not there has no sum to be looked at again. */
XENT_NOINLINE uint64_t copied_rows(const float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, const uint32_t *keep,
                                   double *sums) {
    enum { V = XENT_SQUARE_LANES, N = 4 };
    double some[V];
    float room[V + (V * V > N * XENT_SQUARE_STEP ? V * V : N * XENT_SQUARE_STEP)], *copies = room + V;
    const ptrdiff_t whole = (rows + N - 1) / N * N;
    for (ptrdiff_t i = 0; i < V + whole * n; i++) room[i] = 1.0f;
    for (ptrdiff_t r = 0; r < rows; r++) memcpy(copies + r * n, x + r * stride, (size_t)n * sizeof *copies);
    const uint64_t most = short_rows(copies, whole, n, n, keep, some);
    memcpy(sums, some, (size_t)rows * sizeof *some);
    return most;
}

/* The same of any number of rows. What is before a row of fewer than 16 numbers is read only if it is the row before: what
 * lies between two, another thread may be writing. Of the first rows what follows is read instead: the numbers are in other
 * lanes then, but the same ones are added. */
XENT_INLINE uint64_t any_short_rows(const float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    enum { V = XENT_SQUARE_LANES, N = 4 };
    const ptrdiff_t over = n < V ? (V - 1) / n : 0; /* so many rows have fewer than 16 numbers up to their end */
    const ptrdiff_t first = (over + N - 1) / N * N;
    uint64_t most = 0;
    if ((n < V && stride > n) || rows < over + (first ? first : N)) {
        for (; rows > 0; rows -= V, x += V * stride, sums += V)
            most |= copied_rows(x, rows < V ? rows : V, n, stride, keep_last(n), sums);
        return most;
    }
    if (first) most = short_rows(x, first, V, stride, keep_first(n), sums);
    const ptrdiff_t next = (rows - first) / N * N;
    most |= short_rows(x + first * stride, next, n, stride, keep_last(n), sums + first);
    if (first + next < rows) /* some of the last four once more */
        most |= short_rows(x + (rows - N) * stride, N, n, stride, keep_last(n), sums + (rows - N));
    return most;
}

#include "squares_long.h"

/* sums[i] of `rows` rows of 0 < n <= XENT_DENSE_COLUMNS numbers */
XENT_INLINE uint64_t quick_sums(const float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    static uint64_t (*const LONG[])(const square_rows *) = {long_rows_1, long_rows_2, long_rows_3, long_rows_4};
    if (n <= XENT_SQUARE_STEP) return any_short_rows(x, rows, n, stride, sums);
    const square_rows a = {.x = x, .rows = rows, .n = n, .stride = stride, .keep = keep_last(n), .sums = sums};
    return LONG[(n - 1) / XENT_SQUARE_LANES % 4](&a);
}
#endif
