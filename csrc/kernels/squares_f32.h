/* Sums of the squares of rows of n float32: the first additions in float32, the others in double.
 *
 * A row is read in vectors of 16, the last of which ends with it: what it has of the vector before counts as 0. Of each
 * 64 numbers, lane l of 16 adds up (v[l]^2 + v[l + 16]^2) + (v[l + 32]^2 + v[l + 48]^2) in float32. Of rows of more than
 * 64 numbers these are added in double. Then lane l is added to lane l + 8, and neighbours to neighbours, for 16 rows at
 * once: of shorter rows the first two times in float32. At most 5 roundings to float32 lie on the way of a term.
 *
 * A sum in float32 begins with 2^-100, half a unit of which is above any subnormal number: so it makes no difference
 * whether subnormal numbers and squares count. What that adds to a small sum, and what overflows, is seen in the sum:
 * above_floor.
 */
#ifndef XENT_SQUARES_F32_H
#define XENT_SQUARES_F32_H
#include "lanes.h"

enum { XENT_SQUARE_ROWS = 16, XENT_SQUARE_LANES = 16, XENT_SQUARE_STEP = 64 };
static const float SQUARE_FLOOR = 0x1p-100f;

/* Below 2^60 for a sum from 2^-64 to 2^192, of which at most 2^8 floors are less than 2^-28; not for 0, infinity, NaN. */
XENT_INLINE uint64_t above_floor(double sum) {
    return bits_of(sum) - bits_of(0x1p-64);
}

/* v where keep is all ones, 0 where it is 0 */
XENT_INLINE float kept(const float *v, const uint32_t *keep, int l) {
    uint32_t u;
    float x;
    memcpy(&u, v + l, sizeof u);
    u &= keep[l];
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Lane l of the `vectors` at x; the last of them is at `last`. */
XENT_INLINE float square_lane(const float *x, const float *last, const uint32_t *keep, const int vectors, const int l) {
    enum { V = XENT_SQUARE_LANES };
    const float v = kept(last, keep, l);
    if (vectors == 1) return SQUARE_FLOOR + v * v;
    float a = SQUARE_FLOOR + x[l] * x[l];
    if (vectors == 2) return a + v * v;
    a += x[l + V] * x[l + V];
    if (vectors == 3) return a + (SQUARE_FLOOR + v * v);
    return a + ((SQUARE_FLOOR + x[l + 2 * V] * x[l + 2 * V]) + v * v);
}

/* The same of 64 numbers, all of which count. */
XENT_INLINE float square_lane_of_step(const float *x, const int l) {
    enum { V = XENT_SQUARE_LANES };
    const float *y = x + 2 * V;
    return ((SQUARE_FLOOR + x[l] * x[l]) + x[l + V] * x[l + V]) + ((SQUARE_FLOOR + y[l] * y[l]) + y[l + V] * y[l + V]);
}

XENT_INLINE void add_neighbours(double *restrict to, const double *from, const int n) {
    for (int i = 0; i < n; i++) to[i] = from[2 * i] + from[2 * i + 1];
}

/* Of `rows` rows, 16 at a time; the last few in `sums` up to a multiple of 16. */
typedef void (*square_rows)(const float *restrict x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride,
                            const uint32_t *restrict keep, double *restrict sums);

/* Rows of at most 64. */
#define SHORT_ROWS(vectors)                                                                                         \
    XENT_NOINLINE void short_rows_##vectors(const float *restrict x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, \
                                            const uint32_t *restrict keep, double *restrict sums) {                 \
        enum { N = XENT_SQUARE_ROWS, HALF = XENT_SQUARE_LANES / 2 };                                                \
        const float *last = x + (n - XENT_SQUARE_LANES);                                                            \
        for (; rows > 0; rows -= N, sums += N, x += N * stride, last += N * stride) {                               \
            float w[HALF * N], h[HALF / 2 * N];                                                                     \
            double q[HALF / 4 * N];                                                                                 \
            if (rows < N) memset(w, 0, sizeof w);                                                                   \
            const ptrdiff_t m = rows < N ? rows : N;                                                                \
            for (ptrdiff_t r = 0; r < m; r++)                                                                       \
                for (int l = 0; l < HALF; l++)                                                                      \
                    w[r * HALF + l] = square_lane(x + r * stride, last + r * stride, keep, vectors, l) +            \
                                      square_lane(x + r * stride, last + r * stride, keep, vectors, l + HALF);      \
            for (int i = 0; i < HALF / 2 * N; i++) h[i] = w[2 * i] + w[2 * i + 1];                                  \
            for (int i = 0; i < HALF / 4 * N; i++) q[i] = (double)h[2 * i] + (double)h[2 * i + 1];                  \
            add_neighbours(sums, q, N);                                                                             \
        }                                                                                                           \
    }
SHORT_ROWS(1)
SHORT_ROWS(2)
SHORT_ROWS(3)
SHORT_ROWS(4)

/* Longer rows; the vectors are those of what is left after whole steps. */
#define LONG_ROWS(vectors)                                                                                            \
    XENT_NOINLINE void long_rows_##vectors(const float *restrict x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride,    \
                                           const uint32_t *restrict keep, double *restrict sums) {                    \
        enum { N = XENT_SQUARE_ROWS, HALF = XENT_SQUARE_LANES / 2 };                                                  \
        for (; rows > 0; rows -= N, sums += N) {                                                                      \
            double w[HALF * N], h[HALF / 2 * N], q[HALF / 4 * N];                                                     \
            if (rows < N) memset(w, 0, sizeof w);                                                                     \
            for (ptrdiff_t r = 0; r < (rows < N ? rows : N); r++, x += stride) {                                      \
                double d[XENT_SQUARE_LANES] = {0};                                                                    \
                const float *row = x, *last = row + (n - XENT_SQUARE_LANES);                                          \
                for (ptrdiff_t steps = (n - 1) / XENT_SQUARE_STEP; steps > 0; steps--, row += XENT_SQUARE_STEP)       \
                    for (int l = 0; l < XENT_SQUARE_LANES; l++) d[l] += (double)square_lane_of_step(row, l);          \
                for (int l = 0; l < XENT_SQUARE_LANES; l++) d[l] += (double)square_lane(row, last, keep, vectors, l); \
                for (int l = 0; l < HALF; l++) w[r * HALF + l] = d[l] + d[l + HALF];                                  \
            }                                                                                                         \
            add_neighbours(h, w, HALF / 2 * N);                                                                       \
            add_neighbours(q, h, HALF / 4 * N);                                                                       \
            add_neighbours(sums, q, N);                                                                               \
        }                                                                                                             \
    }
LONG_ROWS(1)
LONG_ROWS(2)
LONG_ROWS(3)
LONG_ROWS(4)

/* sums[i] of `rows` rows of 0 < n <= XENT_DENSE_COLUMNS numbers, and of none up to a multiple of 16. */
XENT_INLINE void quick_sums(const float *x, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums) {
    enum { N = XENT_SQUARE_ROWS, V = XENT_SQUARE_LANES };
    static const square_rows OF[2][4] = {{short_rows_1, short_rows_2, short_rows_3, short_rows_4},
                                         {long_rows_1, long_rows_2, long_rows_3, long_rows_4}};
    const square_rows add_up = OF[n > XENT_SQUARE_STEP][(n - 1) / V % 4];
    uint32_t keep[V];
    const int not_kept = V - 1 - (int)((n - 1) % V);
    for (int l = 0; l < V; l++) keep[l] = l < not_kept ? 0 : 0xffffffffu;
    ptrdiff_t r = 0;
    for (; n < V && r < rows && (r == 0 || n < stride);
         r += N) { /* where a vector would begin before the rows, a copy */
        const ptrdiff_t m = rows - r < N ? rows - r : N;
        float copy[V + N * V];
        memset(copy, 0, V * sizeof *copy);
        for (ptrdiff_t i = 0; i < m && n < stride; i++)
            memcpy(copy + V + i * n, x + (r + i) * stride, (size_t)n * sizeof *copy);
        if (n == stride) memcpy(copy + V, x, (size_t)(m * n) * sizeof *copy);
        add_up(copy + V, m, n, n, keep, sums + r);
    }
    if (r < rows) add_up(x + r * stride, rows - r, n, stride, keep, sums + r);
}
#endif
