/* Packs that the rows of exercise.h are too few or too short for: columns that come by blocks, and results of 16 bits that
 * are stored while later rows are summed. Every array is as long as what it holds; results are those of contiguous rows.
 */
#include "exercise.h"
#include <stdatomic.h>

/* float32 numbers whose last 16 bits are 0, so that a bfloat16 is the first half of one. */
static void plain_number(unsigned char *to, xent_type type, double value) {
    float f = (float)value;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    u &= 0xffff0000u;
    memcpy(&f, &u, sizeof f);
    if (type == XENT_FLOAT64) value = (double)f, memcpy(to, &value, sizeof value);
    if (type == XENT_FLOAT32) memcpy(to, &f, sizeof f);
    if (type == XENT_BFLOAT16) memcpy(to, (unsigned char *)&u + 2, 2);
}

/* Two rows of `every` need more than others. */
static unsigned char *numbers_in(xent_type type, size_t size, ptrdiff_t rows, ptrdiff_t classes, int turned,
                                 ptrdiff_t every) {
    unsigned char *data = malloc((size_t)(rows * classes) * size);
    random_state r = {7};
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t c = 0; c < classes; c++) {
            double value = uniform(&r, XENT_FLOAT32, 4);
            if (i % every == 5 && c == classes - 1) value = i % 2 ? NOT_A_NUMBER : 1e5;
            if (i % every == 6 && c) value = -200.0; /* results vanish */
            plain_number(data + (size_t)(turned ? c * rows + i : i * classes + c) * size, type, value);
        }
    return data;
}

enum { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, OF_LABELS, OF_LABELS_IGNORED, PACKED_CALLS };

static atomic_int in_call; /* a function of the library runs: check_kernels.c may refuse it memory */

static xent_status packed_cross_entropy(const xent_shape *s, const xent_array *x, const xent_array *grad, int ignores,
                                        int f64) {
    const ptrdiff_t rows = s->shape[0], classes = s->shape[1];
    xent_cross_entropy_problem p = {.shape = *s, .logits = *x, .has_ignore = ignores, .ignore = -2};
    xent_cross_entropy_result result = {.grad = *grad};
    p.labels = new_vector(XENT_INT64, rows);
    for (ptrdiff_t row = 0; row < rows; row++)
        put_number(&p.labels, row, ignores && row % 5 == 0 ? -2.0 : (double)(row * 4093 % classes));
    in_call = 1;
    const xent_status status = CROSS_ENTROPY[f64](&p, &result);
    in_call = 0;
    free_problem(&p);
    return status;
}

static xent_status packed_logsumexp(const xent_shape *s, const xent_array *x, int f64, uint64_t *hash) {
    const ptrdiff_t rows = s->shape[0];
    const size_t size = f64 ? sizeof(double) : sizeof(float);
    char *out = malloc((size_t)rows * size);
    const xent_array no_weights = {0};
    in_call = 1;
    const xent_status status = f64 ? xent_logsumexp_f64(s, x, &no_weights, (double *)(void *)out, NULL)
                                   : xent_logsumexp_f32(s, x, &no_weights, (float *)(void *)out, NULL);
    in_call = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        uint64_t bits = 0;
        memcpy(&bits, out + (size_t)i * size, size);
        mix(hash, bits);
    }
    free(out);
    return status;
}

/* Call number `what` of those that take such rows; adds the hash of the results, row by row. */
static xent_status packed_call(int what, xent_type type, ptrdiff_t rows, ptrdiff_t classes, int turned, int in_place,
                               ptrdiff_t every, uint64_t *hash) {
    const size_t size = type == XENT_FLOAT64 ? 8 : type == XENT_FLOAT32 ? 4 : 2;
    const ptrdiff_t step = (ptrdiff_t)size, shape[2] = {rows, classes};
    const ptrdiff_t strides[2] = {turned ? step : classes * step, turned ? rows * step : step};
    const int f64 = type == XENT_FLOAT64;
    unsigned char *in = numbers_in(type, size, rows, classes, turned, every), *out = in;
    if (!in_place) out = malloc((size_t)(rows * classes) * size);
    const xent_array x = {.data = in, .type = type, .strides = strides},
                     y = {.data = out, .type = type, .strides = strides};
    const xent_shape s = {.ndim = 2, .shape = shape, .class_axes = 2};
    xent_status status;
    if (what == SOFTMAX || what == LOG_SOFTMAX) {
        in_call = 1;
        status = what == LOG_SOFTMAX ? (f64 ? xent_log_softmax_f64 : xent_log_softmax_f32)(&s, &x, &y)
                                     : (f64 ? xent_softmax_f64 : xent_softmax_f32)(&s, &x, &y);
        in_call = 0;
    } else if (what == LOGSUMEXP)
        status = packed_logsumexp(&s, &x, f64, hash);
    else
        status = packed_cross_entropy(&s, &x, &y, what == OF_LABELS_IGNORED, f64);
    for (ptrdiff_t i = 0; i < rows && what != LOGSUMEXP; i++)
        for (ptrdiff_t c = 0; c < classes; c++) {
            const unsigned char *at = out + (size_t)(turned ? c * rows + i : i * classes + c) * size;
            uint64_t bits = 0;
            memcpy(&bits, at, size);
            mix(hash, bits);
        }
    if (!in_place) free(out);
    free(in);
    return status;
}

/* All of them. */
static uint64_t packed_results_of(xent_type type, ptrdiff_t rows, ptrdiff_t classes, int turned, int in_place,
                                  ptrdiff_t every) {
    uint64_t hash = 0;
    for (int what = 0; what < PACKED_CALLS; what++)
        CHECK(packed_call(what, type, rows, classes, turned, in_place, every, &hash) == XENT_OK);
    return hash;
}
static uint64_t packed_results(xent_type type, ptrdiff_t rows, ptrdiff_t classes, int turned, int in_place) {
    return packed_results_of(type, rows, classes, turned, in_place, 37);
}
