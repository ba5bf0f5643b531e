/* Squares of float32 rows of more than 64 numbers: part of squares_f32.h, which says in what order they are added. */

/* Of `rows` rows, 16 at a time. */
typedef struct {
    const float *x;
    ptrdiff_t rows, n, stride;
    const uint32_t *keep;
    double *sums;
} square_rows;

/* lane l of s += v[l]^2, of up to four vectors. Written out: gcc 12 leaves a loop over them a loop. */
XENT_INLINE void add_vectors(const float *x, const int vectors, eight_f32 s[2]) {
    enum { V = XENT_SQUARE_LANES, HALF = V / 2 };
    if (vectors > 0) add_eight(x, &s[0]), add_eight(x + HALF, &s[1]);
    if (vectors > 1) add_eight(x + V, &s[0]), add_eight(x + V + HALF, &s[1]);
    if (vectors > 2) add_eight(x + 2 * V, &s[0]), add_eight(x + 2 * V + HALF, &s[1]);
    if (vectors > 3) add_eight(x + 3 * V, &s[0]), add_eight(x + 3 * V + HALF, &s[1]);
}

/* *d += the four sums that the lanes are added up to */
XENT_INLINE void add_lanes(const eight_f32 s[2], four_f64 *d) {
    four_f32 quarter;
    four_f64 wide;
    quarter_lanes(s, &quarter);
    widen_four(&quarter, &wide);
    *d += wide;
}

XENT_INLINE void add_neighbours(double *restrict to, const double *from, const int n) {
    for (int i = 0; i < n; i++) to[i] = from[2 * i] + from[2 * i + 1];
}

/* `vectors`, a constant, is how many are left of a row after its whole steps. */
XENT_INLINE uint64_t long_rows(const square_rows *a, const int vectors) {
    enum { V = XENT_SQUARE_LANES, HALF = V / 2, N = XENT_SQUARE_ROWS, Q = 4 };
    const eight_f32 begin = (eight_f32){0} + SQUARE_FLOOR;
    eight_u32 mask[2];
    memcpy(mask, a->keep, sizeof mask);
    const float *x = a->x;
    double *sums = a->sums;
    uint64_t most = 0;
    for (ptrdiff_t rows = a->rows; rows > 0; rows -= N, sums += N) {
        double w[Q * N], h[Q / 2 * N], some[N];
        const ptrdiff_t m = rows < N ? rows : N;
        if (rows < N) memset(w, 0, sizeof w);
        for (ptrdiff_t r = 0; r < m; r++, x += a->stride) {
            four_f64 d = {0};
            const float *row = x, *last = x + (a->n - V);
            for (ptrdiff_t steps = (a->n - 1) / XENT_SQUARE_STEP; steps > 0; steps--, row += XENT_SQUARE_STEP) {
                eight_f32 s[2] = {begin, begin};
                add_vectors(row, XENT_SQUARE_STEP / V, s);
                add_lanes(s, &d);
            }
            eight_f32 s[2] = {begin, begin};
            add_vectors(row, vectors - 1, s);
            add_kept_of_eight(last, &mask[0], &s[0]), add_kept_of_eight(last + HALF, &mask[1], &s[1]);
            add_lanes(s, &d);
            memcpy(w + r * Q, &d, sizeof d);
        }
        add_neighbours(h, w, Q / 2 * N);
        add_neighbours(some, h, N);
        memcpy(sums, some, (size_t)m * sizeof *some);
        for (ptrdiff_t i = 0; i < m; i++) most |= above_floor(some[i]);
    }
    return most;
}

XENT_NOINLINE uint64_t long_rows_1(const square_rows *a) {
    return long_rows(a, 1);
}
XENT_NOINLINE uint64_t long_rows_2(const square_rows *a) {
    return long_rows(a, 2);
}
XENT_NOINLINE uint64_t long_rows_3(const square_rows *a) {
    return long_rows(a, 3);
}
XENT_NOINLINE uint64_t long_rows_4(const square_rows *a) {
    return long_rows(a, 4);
}
