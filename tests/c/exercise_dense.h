/* The functions of dense layers over shapes around every lane, strip, group of rows and block of columns, for every
 * activation. All arrays end where their heap blocks end, so that an address sanitizer sees a step outside. The hash
 * may not depend on whether dz overwrites dy.
 */
#ifndef XENT_TEST_EXERCISE_DENSE_H
#define XENT_TEST_EXERCISE_DENSE_H

#include "arrays.h"

/* Ordinary numbers, those where something happens (EDGES), infinities, NaN, subnormal ones. */
static void *new_elements(xent_type type, ptrdiff_t n, uint64_t seed) {
    const size_t size = TYPE_SIZE[type];
    char *data = malloc((size_t)n * size + !n);
    random_state r = {seed};
    CHECK(data);
    for (ptrdiff_t i = 0; i < n; i++) {
        const uint64_t dice = next_random(&r);
        double v = uniform(&r, type, (int)(dice >> 40 & 7) - 3);
        if (dice % 16 == 1) v = EDGES[(dice >> 8) % (sizeof EDGES / sizeof *EDGES)];
        if (dice % 64 == 2) v = uniform(&r, type, type == XENT_FLOAT32 ? -126 : -1022);
        if (dice % 256 == 3) v = dice & 0x100000 ? INF : dice & 0x200000 ? -INF : NOT_A_NUMBER;
        encode(v, type, (unsigned char *)data + (size_t)i * size);
    }
    return data;
}

/* Of a network of two layers with the same squares of dz: the first has a bias and an input of ones, the second none and 0. */
static void exercise_norms(xent_type type, const double *squares, ptrdiff_t rows) {
    const size_t size = (size_t)rows * sizeof *squares;
    const double biases[2] = {1.0, 0.0};
    enum { COLUMNS = 3 };
    double *all = calloc(4, size + !rows);
    void *norms = malloc((size_t)rows * TYPE_SIZE[type] + !rows);
    char *x = malloc((size_t)rows * COLUMNS * TYPE_SIZE[type] + !rows);
    CHECK(all && norms && x);
    for (ptrdiff_t i = 0; i < rows * COLUMNS; i++) encode(1.0, type, (unsigned char *)x + (size_t)i * TYPE_SIZE[type]);
    memcpy(all, squares, size), memcpy(all + rows, squares, size);
    for (ptrdiff_t i = 0; i < rows; i++) all[2 * rows + i] = 1.0; /* to be overwritten by the squares of x */
    if (type == XENT_FLOAT32)
        xent_network_norms_f32((float *)(void *)x, COLUMNS, all, biases, norms, 2, rows);
    else
        xent_network_norms_f64((double *)(void *)x, COLUMNS, all, biases, norms, 2, rows);
    for (ptrdiff_t i = 0; i < rows; i++) {
        const double norm = type == XENT_FLOAT32 ? ((float *)norms)[i] : ((double *)norms)[i];
        const double expected = squares[i] * (COLUMNS + 1);
        if (expected < 1e76) CHECK(norm >= 0.0 && norm * norm <= expected * (1.0 + 1e-6));
        if (expected < 1e76 && expected > 1e-70) CHECK(norm * norm >= expected * (1.0 - 1e-6));
    }
    free(all), free(norms), free(x);
}

static void exercise_layer(uint64_t *hash, xent_type type, xent_activation f, ptrdiff_t rows, ptrdiff_t columns,
                           int in_place) {
    const ptrdiff_t n = rows * columns;
    const size_t size = TYPE_SIZE[type];
    const uint64_t seed = (uint64_t)(rows * 1009 + columns * 31 + f);
    const int of_z = f >= XENT_GELU, bare = seed % 3 == 0;
    void *y = new_elements(type, n, seed), *bias = new_elements(type, columns, seed + 1);
    void *z = new_elements(type, n, seed + 2), *dy = new_elements(type, n, seed + 3);
    void *dz = in_place ? dy : new_elements(type, n, seed + 4), *db = new_elements(type, columns, seed + 5);
    const void *saved = f == XENT_IDENTITY ? NULL : of_z ? z : y;
    double *squares = malloc((size_t)rows * sizeof *squares + !rows), *again = malloc((size_t)rows * 8 + !rows);
    CHECK(squares && again);
    if (type == XENT_FLOAT32) {
        xent_bias_activation_f32(y, bare ? NULL : bias, f, of_z ? z : NULL, squares, rows, columns);
        CHECK(xent_activation_backward_f32(dy, saved, f, dz, db, bare, squares, rows, columns) == XENT_OK);
        xent_row_squares_f32(dz, again, rows, columns);
    } else {
        xent_bias_activation_f64(y, bare ? NULL : bias, f, of_z ? z : NULL, squares, rows, columns);
        CHECK(xent_activation_backward_f64(dy, saved, f, dz, db, bare, squares, rows, columns) == XENT_OK);
        xent_row_squares_f64(dz, again, rows, columns);
    }
    for (ptrdiff_t i = 0; i < rows; i++) CHECK(canonical(&squares[i], 8) == canonical(&again[i], 8));
    exercise_norms(type, squares, rows);
    take_rows(hash, squares, rows, 8), take_rows(hash, y, n, size), take_rows(hash, z, n, size);
    if (!in_place) free(dy);
    take_rows(hash, dz, n, size), take_rows(hash, db, columns, size);
    free(bias), free(again);
}

static void exercise_layers(uint64_t *hash, int in_place, int thorough) {
    static const ptrdiff_t SHAPES[][2] = {{0, 3},    {3, 0},    {1, 1},   {2, 5},   {16, 10}, {17, 16},   {31, 17},
                                          {33, 32},  {5, 33},   {70, 63}, {65, 64}, {3, 511}, {34, 1025}, {2, 1024},
                                          {2, 1030}, {2100, 3}, {30, 1},  {31, 1},  {5, 10}};
    static const ptrdiff_t LARGE[][2] = {{500, 129}, {33, 5000}, {20000, 10}, {3, 70000}}; /* several threads */
    for (int f64 = 0; f64 < 2; f64++)
        for (int f = 0; f < XENT_ACTIVATIONS; f++) {
            const xent_type type = f64 ? XENT_FLOAT64 : XENT_FLOAT32;
            for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++)
                exercise_layer(hash, type, (xent_activation)f, SHAPES[i][0], SHAPES[i][1], in_place);
            for (size_t i = 0; thorough && f % 3 == 0 && i < sizeof LARGE / sizeof *LARGE; i++)
                exercise_layer(hash, type, (xent_activation)f, LARGE[i][0], LARGE[i][1], in_place);
        }
}

#endif
