/* Squares of float32 rows of more than 64 numbers: part of squares_f32.h, which says in what order they are added. */

/* Of `rows` rows, 16 at a time. */
typedef struct {
    const float *x;
    ptrdiff_t rows, n, stride;
    const uint32_t *keep;
    double *sums;
} square_rows;

/* v where keep is all ones, 0 where it is 0 */
XENT_INLINE float kept(const float *v, const uint32_t *keep, int l) {
    return from_word(word_of(v[l]) & keep[l]);
}

/* Lane l of the `vectors` at x; the last of them is at `last`. */
XENT_INLINE float square_lane(const float *x, const float *last, const uint32_t *keep, const int vectors, const int l) {
    float sum = SQUARE_FLOOR;
    for (int i = 0; i < vectors - 1; i++) sum = fmaf(x[l + i * XENT_SQUARE_LANES], x[l + i * XENT_SQUARE_LANES], sum);
    const float v = kept(last, keep, l);
    return fmaf(v, v, sum);
}

/* The same of 64 numbers, all of which count. */
XENT_INLINE float square_lane_of_step(const float *x, const int l) {
    float sum = SQUARE_FLOOR;
    for (int i = 0; i < XENT_SQUARE_STEP; i += XENT_SQUARE_LANES) sum = fmaf(x[l + i], x[l + i], sum);
    return sum;
}

XENT_INLINE void add_neighbours(double *restrict to, const double *from, const int n) {
    for (int i = 0; i < n; i++) to[i] = from[2 * i] + from[2 * i + 1];
}

/* Longer rows; the vectors are those of what is left after whole steps. */
#define LONG_ROWS(vectors)                                                                                            \
    XENT_NOINLINE uint64_t long_rows_##vectors(const square_rows *a) {                                                \
        enum { N = XENT_SQUARE_ROWS, HALF = XENT_SQUARE_LANES / 2 };                                                  \
        const float *restrict x = a->x;                                                                               \
        const uint32_t *restrict keep = a->keep;                                                                      \
        double *restrict sums = a->sums;                                                                              \
        uint64_t most = 0;                                                                                            \
        for (ptrdiff_t rows = a->rows; rows > 0; rows -= N, sums += N) {                                              \
            double w[HALF * N], h[HALF / 2 * N], q[HALF / 4 * N], some[N];                                            \
            const ptrdiff_t m = rows < N ? rows : N;                                                                  \
            if (rows < N) memset(w, 0, sizeof w);                                                                     \
            for (ptrdiff_t r = 0; r < m; r++, x += a->stride) {                                                       \
                double d[XENT_SQUARE_LANES] = {0};                                                                    \
                const float *row = x, *last = row + (a->n - XENT_SQUARE_LANES);                                       \
                for (ptrdiff_t steps = (a->n - 1) / XENT_SQUARE_STEP; steps > 0; steps--, row += XENT_SQUARE_STEP)    \
                    for (int l = 0; l < XENT_SQUARE_LANES; l++) d[l] += (double)square_lane_of_step(row, l);          \
                for (int l = 0; l < XENT_SQUARE_LANES; l++) d[l] += (double)square_lane(row, last, keep, vectors, l); \
                for (int l = 0; l < HALF; l++) w[r * HALF + l] = d[l] + d[l + HALF];                                  \
            }                                                                                                         \
            add_neighbours(h, w, HALF / 2 * N);                                                                       \
            add_neighbours(q, h, HALF / 4 * N);                                                                       \
            add_neighbours(some, q, N);                                                                               \
            memcpy(sums, some, (size_t)m * sizeof *some);                                                             \
            for (ptrdiff_t i = 0; i < m; i++) most |= above_floor(some[i]);                                           \
        }                                                                                                             \
        return most;                                                                                                  \
    }
LONG_ROWS(1)
LONG_ROWS(2)
LONG_ROWS(3)
LONG_ROWS(4)
