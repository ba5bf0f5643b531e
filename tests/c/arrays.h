/* Test arrays: fixed adversarial values made by integer arithmetic alone, laid out in memory in many ways.
 *
 * A box is one array of shape (rows / b, C / a, b, a) with class axes 1 and 3, seen logically as (rows, C). Its heap
 * block has exactly the bytes that its elements span, so that an address sanitizer sees a step outside; bytes between
 * the elements hold a pattern, so that box_untouched sees a step in between.
 */
#ifndef XENT_TEST_ARRAYS_H
#define XENT_TEST_ARRAYS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xent.h"

#define CHECK(condition)                                                            \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

typedef struct {
    uint64_t state;
} random_state; /* splitmix64 */

static uint64_t next_random(random_state *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static double exact_scale(int exponent) { /* 2^exponent, a normal number */
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A number of 24 (float32) or 53 (float64) bits in +-2^exponent: an integer times a power of two, exact. */
static double uniform(random_state *r, xent_type type, int exponent) {
    const int bits = type == XENT_FLOAT32 ? 24 : 53;
    const int64_t integer = (int64_t)(next_random(r) >> (63 - bits)) - ((int64_t)1 << bits);
    return (double)integer * exact_scale(exponent - bits);
}

/* In [0, 1). */
static double fraction(random_state *r, xent_type type) {
    return (double)(next_random(r) >> (type == XENT_FLOAT32 ? 40 : 11)) * exact_scale(type == XENT_FLOAT32 ? -24 : -53);
}

static const double INF = (double)INFINITY, NOT_A_NUMBER = (double)NAN;
static const double MANTISSA[2] = {0x1p-23, 0x1p-52};

/* Kinds of rows; each defeats one formula or reaches one branch of the kernels. */
enum {
    ORDINARY,
    WIDE,
    VERY_WIDE,
    ONE_HUGE,
    P_NEAR_ONE,
    TIES,
    NEAR_TIES,
    FAR_AWAY,
    FAR_SPREAD,
    EXTREME,
    ALL_EQUAL,
    MINUS_INFINITIES,
    AT_THE_EDGES,
    TINY,
    LATE_MAXIMUM,
    FINITE_KINDS,
    ALL_MINUS_INFINITY = FINITE_KINDS,
    PLUS_INFINITY,
    ONE_NAN,
    NAN_AND_INFINITY,
    ROW_KINDS
};

/* Logits of float32 where e^x under- or overflows, where blocks stop being "plain", and their neighbours. */
static const double EDGES[] = {60.0,  60.000004,  -57.0, -57.000004,  87.336544,  88.72284,    -87.33655, -103.97208,
                               600.0, -640.0,     0.0,   -0.0,        0.34657359, -0.34657359, 16.0,      -20.0,
                               -25.0, 709.782712, 708.0, -708.396418, -745.13321, 65536.0,     -500.0,    -1350.0};

static double logit(random_state *r, xent_type type, int kind, ptrdiff_t c, ptrdiff_t classes) {
    const int f64 = type == XENT_FLOAT64;
    const double biggest = f64 ? 0x1.fffffffffffffp1023 : 0x1.fffffep127, smallest = f64 ? 0x1p-1022 : 0x1p-126;
    const double u = uniform(r, type, 0);
    const uint64_t dice = next_random(r);
    switch (kind) {
        case ORDINARY: return u * 8.0;
        case WIDE: return u * (f64 ? 512.0 : 64.0);
        case VERY_WIDE: return u * (f64 ? 4096.0 : 512.0);
        case ONE_HUGE: return c == classes / 2 ? 1024.0 : u;
        case P_NEAR_ONE: return c == classes / 3 ? 0.0 : (f64 ? -512.0 : -64.0) + u * 32.0;
        case TIES: return (double)(int)(dice % 3);
        case NEAR_TIES: return 12.0 * (1.0 + (double)(dice % 4) * MANTISSA[f64]);
        case FAR_AWAY: return 131072.0 * 8.0 + u * 16.0;
        case FAR_SPREAD: return u * 0x1p40;
        case EXTREME: return dice % 5 == 0 ? biggest : dice % 5 == 1 ? -biggest : u * biggest;
        case ALL_EQUAL: return -3.25;
        case MINUS_INFINITIES: return dice % 3 ? -INF : u * 4.0;
        case AT_THE_EDGES: return EDGES[dice % (sizeof EDGES / sizeof *EDGES)];
        case TINY: return dice % 4 == 0 ? -0.0 : dice % 4 == 1 ? smallest / 4.0 : u * smallest;
        case LATE_MAXIMUM: return (double)(c - classes) * 0.125;
        case ALL_MINUS_INFINITY: return -INF;
        case PLUS_INFINITY: return c == classes - 1 ? INF : u;
        case ONE_NAN: return c == classes / 2 ? NOT_A_NUMBER : u;
        default: return c == 0 ? INF : c == classes - 1 ? NOT_A_NUMBER : u;
    }
}

/* ---- boxes -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int order[4];  /* axes from the slowest in memory to the fastest */
    int backwards; /* bit i: axis i runs to lower addresses */
    int gap;       /* elements left out between neighbours of the fastest axis */
    int shift;     /* bytes that the data are off their alignment */
    int swapped;
    int split; /* the class axis and the batch axis are two each, where their sizes allow */
} layout_kind;

static const layout_kind LAYOUTS[] = {
    {.name = "plain", .order = {0, 1, 2, 3}},
    {.name = "swapped", .order = {0, 1, 2, 3}, .swapped = 1},
    {.name = "backwards", .order = {0, 1, 2, 3}, .backwards = 15},
    {.name = "misaligned", .order = {0, 1, 2, 3}, .shift = 1},
    {.name = "columns", .order = {1, 3, 0, 2}},
    {.name = "gaps", .order = {0, 1, 2, 3}, .gap = 2, .backwards = 1},
    {.name = "split", .order = {3, 0, 2, 1}, .split = 1, .backwards = 2},
    {.name = "split, odd", .order = {1, 2, 3, 0}, .split = 1, .backwards = 5, .gap = 1, .shift = 3},
    {.name = "everything", .order = {1, 2, 3, 0}, .split = 1, .backwards = 5, .gap = 1, .shift = 3, .swapped = 1},
};
enum { N_LAYOUTS = sizeof LAYOUTS / sizeof *LAYOUTS };

typedef struct {
    xent_array view;
    ptrdiff_t shape[4], strides[4], rows, classes;
    size_t size, bytes;
    unsigned char *block, pattern;
} box;

static const size_t TYPE_SIZE[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8};

/* The shape that all arrays of one call share. */
static void call_shape(ptrdiff_t rows, ptrdiff_t classes, int split, ptrdiff_t shape[4]) {
    shape[2] = split && rows % 2 == 0 ? 2 : 1;
    shape[3] = split && classes % 3 == 0 ? classes / 3 : classes;
    shape[0] = rows / shape[2];
    shape[1] = shape[3] ? classes / shape[3] : 1;
}

static box new_box(xent_type type, ptrdiff_t rows, ptrdiff_t classes, const layout_kind *layout, int split,
                   unsigned char pattern) {
    box b = {.rows = rows, .classes = classes, .size = TYPE_SIZE[type], .pattern = pattern};
    call_shape(rows, classes, split, b.shape);
    ptrdiff_t step = (ptrdiff_t)b.size * (1 + layout->gap), origin = layout->shift, span = layout->shift;
    int empty = 0;
    for (int i = 3; i >= 0; i--) {
        const int axis = layout->order[i], back = layout->backwards >> axis & 1;
        const ptrdiff_t reach = b.shape[axis] ? step * (b.shape[axis] - 1) : 0;
        empty |= b.shape[axis] == 0;
        b.strides[axis] = back ? -step : step;
        if (back) origin += reach;
        span += reach;
        step *= b.shape[axis] ? b.shape[axis] : 1;
    }
    b.bytes = empty ? 0 : (size_t)span + b.size;
    b.block = malloc(b.bytes ? b.bytes : 1);
    CHECK(b.block);
    memset(b.block, pattern, b.bytes);
    b.view = (xent_array){b.block + (empty ? 0 : origin), NULL, type, layout->swapped && b.size > 1};
    return b; /* view.strides: see view_of */
}

static const xent_array *view_of(box *b) {
    b->view.strides = b->strides;
    return &b->view;
}

static unsigned char *element(const box *b, ptrdiff_t row, ptrdiff_t c) {
    const ptrdiff_t n2 = b->shape[2], n3 = b->shape[3];
    return (unsigned char *)b->view.data + row / n2 * b->strides[0] + c / n3 * b->strides[1] +
           row % n2 * b->strides[2] + c % n3 * b->strides[3];
}

static void copy_bytes(unsigned char *to, const unsigned char *from, size_t size, int swapped) {
    for (size_t i = 0; i < size; i++) to[i] = from[swapped ? size - 1 - i : i];
}

/* A number in the given type; integers are given as whole numbers. */
static void encode(double value, xent_type type, unsigned char *to) {
    const int64_t integer = type == XENT_FLOAT32 || type == XENT_FLOAT64 ? 0 : (int64_t)value;
    const uint64_t bits = (uint64_t)integer;
    const float single = type == XENT_FLOAT32 ? (float)value : 0.0f;
    const uint8_t one = (uint8_t)bits;
    const uint16_t two = (uint16_t)bits;
    const uint32_t four = (uint32_t)bits;
    const size_t size = TYPE_SIZE[type];
    const void *from = type == XENT_FLOAT32   ? (const void *)&single
                       : type == XENT_FLOAT64 ? (const void *)&value
                       : size == 1            ? (const void *)&one
                       : size == 2            ? (const void *)&two
                       : size == 4            ? (const void *)&four
                                              : (const void *)&bits;
    memcpy(to, from, size);
}

static void put(box *b, ptrdiff_t row, ptrdiff_t c, double value) {
    unsigned char native[8];
    encode(value, b->view.type, native);
    copy_bytes(element(b, row, c), native, b->size, b->view.swapped);
}

static int is_nan(uint64_t bits, size_t size) {
    return size == 4 ? (bits & 0x7fffffffu) > 0x7f800000u : (bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
}

/* Bits of a result; one value stands for every NaN: IEEE 754 leaves their sign and payload to the processor. */
static uint64_t canonical(const void *native, size_t size) {
    uint32_t four;
    uint64_t bits;
    if (size == 4)
        memcpy(&four, native, 4), bits = four;
    else
        memcpy(&bits, native, 8);
    return is_nan(bits, size) ? 0x7ff8dead : bits;
}

static void mix(uint64_t *hash, uint64_t value) {
    *hash = (*hash ^ value) * 0x9fb21c651e98df25u;
    *hash ^= *hash >> 32;
}

/* Hash of the elements in logical order; the bytes between them must still hold the pattern. Frees the box. */
static void take_box(uint64_t *hash, box *b) {
    unsigned char native[8];
    for (ptrdiff_t row = 0; row < b->rows; row++)
        for (ptrdiff_t c = 0; c < b->classes; c++) {
            unsigned char *e = element(b, row, c);
            copy_bytes(native, e, b->size, b->view.swapped);
            mix(hash, canonical(native, b->size));
            memset(e, b->pattern, b->size);
        }
    for (size_t i = 0; i < b->bytes; i++) CHECK(b->block[i] == b->pattern);
    free(b->block);
}

static uint64_t raw_hash(const box *b) {
    uint64_t hash = 1;
    for (size_t i = 0; i < b->bytes; i++) mix(&hash, b->block[i]);
    return hash;
}

/* One number per row (or class), contiguous. */
static xent_vector new_vector(xent_type type, ptrdiff_t n) {
    const size_t size = TYPE_SIZE[type];
    void *data = malloc(n ? (size_t)n * size : 1);
    CHECK(data);
    return (xent_vector){data, (ptrdiff_t)size, type};
}

static void put_number(const xent_vector *v, ptrdiff_t i, double value) {
    encode(value, v->type, (unsigned char *)v->data + i * v->stride);
}

static void take_rows(uint64_t *hash, void *data, ptrdiff_t n, size_t size) {
    for (ptrdiff_t i = 0; i < n; i++) mix(hash, canonical((const char *)data + i * (ptrdiff_t)size, size));
    free(data);
}

#endif
