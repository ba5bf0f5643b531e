/* Rows side by side: XENT_SIDE rows as columns of a buffer, element [c][r] that of class c of row r, and back. Squares
 * of 16 bytes are turned by shuffles, which gcc and clang write as an extension of C; other compilers copy element by
 * element. Included once per dtype, in row.h. */

#ifndef XENT_TRANSPOSE_H
#define XENT_TRANSPOSE_H
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define XENT_SHUFFLES
#endif
#endif
#ifdef XENT_SHUFFLES
typedef float four_f32 __attribute__((vector_size(16)));
typedef double two_f64 __attribute__((vector_size(16)));

/* A square: `from` and `to` step elements from row to row. */
XENT_INLINE void square_f32(const float *const *from, ptrdiff_t at, float *to, ptrdiff_t step) {
    four_f32 a, b, c, d;
    memcpy(&a, from[0] + at, 16), memcpy(&b, from[1] + at, 16);
    memcpy(&c, from[2] + at, 16), memcpy(&d, from[3] + at, 16);
    const four_f32 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const four_f32 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5), b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    c = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), d = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
    memcpy(to, &a, 16), memcpy(to + step, &b, 16);
    memcpy(to + 2 * step, &c, 16), memcpy(to + 3 * step, &d, 16);
}
XENT_INLINE void square_f64(const double *const *from, ptrdiff_t at, double *to, ptrdiff_t step) {
    two_f64 a, b;
    memcpy(&a, from[0] + at, 16), memcpy(&b, from[1] + at, 16);
    const two_f64 first = __builtin_shufflevector(a, b, 0, 2), second = __builtin_shufflevector(a, b, 1, 3);
    memcpy(to, &first, 16), memcpy(to + step, &second, 16);
}

XENT_INLINE void square_back_f32(const float *from, ptrdiff_t step, float *const *to, ptrdiff_t at) {
    const float *rows[] = {from, from + step, from + 2 * step, from + 3 * step};
    float turned[16];
    square_f32(rows, 0, turned, 4);
    for (int r = 0; r < 4; r++) memcpy(to[r] + at, turned + 4 * r, 16);
}
XENT_INLINE void square_back_f64(const double *from, ptrdiff_t step, double *const *to, ptrdiff_t at) {
    const double *rows[] = {from, from + step};
    double turned[4];
    square_f64(rows, 0, turned, 2);
    for (int r = 0; r < 2; r++) memcpy(to[r] + at, turned + 2 * r, 16);
}
#endif
#endif

enum { NAME(SQUARE) = 16 / (int)sizeof(REAL) };

/* Classes 0 .. n - 1 of XENT_SIDE rows to columns[c][r]. Few rows at a time, each from end to end: that is how memory is
 * fetched ahead. */
XENT_NOINLINE void NAME(rows_to_columns)(const REAL *const *rows, ptrdiff_t n, REAL *columns) {
#ifdef XENT_SHUFFLES
    for (int r = 0; r < XENT_SIDE && n >= NAME(SQUARE); r += NAME(SQUARE)) {
        const REAL *some[NAME(SQUARE)];
        memcpy(some, rows + r, sizeof some);
        for (ptrdiff_t i = 0, last = n - NAME(SQUARE); i < n; i += NAME(SQUARE)) {
            const ptrdiff_t c = i < last ? i : last; /* the last square overlaps the one before */
            NAME(square)(some, c, columns + c * XENT_SIDE + r, XENT_SIDE);
        }
    }
    if (n >= NAME(SQUARE)) return;
#endif
    for (int r = 0; r < XENT_SIDE; r++)
        for (ptrdiff_t c = 0; c < n; c++) columns[c * XENT_SIDE + r] = rows[r][c];
}

/* And back, to the first `count` of them. */
XENT_NOINLINE void NAME(columns_to_rows)(const REAL *columns, ptrdiff_t n, REAL *const *rows, int count) {
    int whole = 0;
#ifdef XENT_SHUFFLES
    for (; whole + NAME(SQUARE) <= count && n >= NAME(SQUARE); whole += NAME(SQUARE)) {
        REAL *some[NAME(SQUARE)];
        memcpy(some, rows + whole, sizeof some);
        for (ptrdiff_t i = 0, last = n - NAME(SQUARE); i < n; i += NAME(SQUARE)) {
            const ptrdiff_t c = i < last ? i : last;
            NAME(square_back)(columns + c * XENT_SIDE + whole, XENT_SIDE, some, c);
        }
    }
#endif
    for (int r = whole; r < count; r++)
        for (ptrdiff_t c = 0; c < n; c++) rows[r][c] = columns[c * XENT_SIDE + r];
}
