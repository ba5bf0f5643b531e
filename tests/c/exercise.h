/* Every public function of xent.h once over a fixed set of inputs; the hash of all their results.
 *
 * The hash may depend on nothing but the inputs: not on the tier, the compiler, the threads, the layout of the arrays,
 * the type of the labels, or whether a result overwrites the logits.
 */
#ifndef XENT_TEST_EXERCISE_H
#define XENT_TEST_EXERCISE_H

#include "arrays.h"
#include "exercise_dense.h"

typedef struct {
    const layout_kind *in, *out; /* of the arrays read and written; what is written is never byte-swapped */
    xent_type labels;
    int in_place;
    int split;
    int thorough; /* long rows and large batches too */
    unsigned char pattern;
} variant;

static const variant PLAIN = {.in = &LAYOUTS[0], .out = &LAYOUTS[0], .labels = XENT_INT64, .pattern = 0xa5};

typedef xent_status (*cross_entropy_function)(const xent_cross_entropy_problem *, xent_cross_entropy_result *);
typedef xent_status (*hessian_function)(const xent_cross_entropy_problem *, const xent_array *,
                                        xent_cross_entropy_result *);
typedef xent_status (*sigmoid_function)(const xent_cross_entropy_problem *, const xent_vector *, const xent_array *,
                                        xent_array *, xent_cross_entropy_result *);
typedef xent_status (*map_function)(const xent_shape *, const xent_array *, const xent_array *);

static const cross_entropy_function CROSS_ENTROPY[] = {xent_cross_entropy_f32, xent_cross_entropy_f64};
static const hessian_function HESSIAN[] = {xent_hessian_f32, xent_hessian_f64};
static const sigmoid_function SIGMOID[] = {xent_sigmoid_f32, xent_sigmoid_f64};
static const map_function MAPS[2][2] = {{xent_softmax_f32, xent_log_softmax_f32},
                                        {xent_softmax_f64, xent_log_softmax_f64}};

/* One shape and dtype: the logits anew for each call, since a call may overwrite them. */
typedef struct {
    const variant *how;
    xent_type type;
    int f64;
    ptrdiff_t rows, classes, sizes[4];
    xent_shape shape;
    uint64_t seed, *hash;
} call_set;

static int row_kind_at(const call_set *s, ptrdiff_t row) {
    return (int)((s->seed + (uint64_t)row) % ROW_KINDS);
}

static box new_logits(const call_set *s, const layout_kind *layout) {
    box b = new_box(s->type, s->rows, s->classes, layout, s->how->split, s->how->pattern);
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        random_state r = {s->seed * 1000003u + (uint64_t)row};
        for (ptrdiff_t c = 0; c < s->classes; c++)
            put(&b, row, c, logit(&r, s->type, row_kind_at(s, row), c, s->classes));
    }
    return b;
}

/* Rows of probabilities or weights: one-hot, sparse, dense with zeros, halves; weights may be negative. */
static box new_numbers(const call_set *s, xent_type type, int weights) {
    box b = new_box(type, s->rows, s->classes, s->how->in, s->how->split, s->how->pattern);
    const int whole = type != XENT_FLOAT32 && type != XENT_FLOAT64;
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        random_state r = {s->seed * 7919u + (uint64_t)row};
        const ptrdiff_t one = (ptrdiff_t)(next_random(&r) % (uint64_t)(s->classes ? s->classes : 1));
        for (ptrdiff_t c = 0; c < s->classes; c++) {
            const uint64_t dice = next_random(&r);
            double q = fraction(&r, s->type);
            if (row % 4 == 0) q = c == one;
            if (row % 4 == 1) q = dice % 8 ? 0.0 : 0.5;
            if (row % 4 == 2) q = dice % 4 ? q : 0.0;
            if (weights) q = dice % 5 == 0 ? -q : dice % 5 == 1 ? 0.0 : q * 4.0;
            put(&b, row, c, whole ? (double)(dice & 1) : q);
        }
    }
    return b;
}

static box new_result(const call_set *s, int in_place) {
    return in_place ? new_logits(s, s->how->in)
                    : new_box(s->type, s->rows, s->classes, s->how->out, s->how->split, s->how->pattern);
}

static void take_double(uint64_t *hash, double x) {
    mix(hash, canonical(&x, sizeof x));
}

static void exercise_reductions(call_set *s) {
    for (int m = 0; m < 2; m++) {
        box out = new_result(s, s->how->in_place), x = new_logits(s, s->how->in);
        const uint64_t before = raw_hash(&x);
        CHECK(MAPS[s->f64][m](&s->shape, s->how->in_place ? view_of(&out) : view_of(&x), view_of(&out)) == XENT_OK);
        CHECK(raw_hash(&x) == before);
        take_box(s->hash, &out);
        free(x.block);
    }
    for (int weighted = 0; weighted < 4; weighted++) { /* none, of the dtype, float64, with sign */
        box x = new_logits(s, s->how->in);
        box b = new_numbers(s, weighted == 2 ? XENT_FLOAT64 : s->type, 1);
        const size_t size = TYPE_SIZE[s->type];
        void *out = malloc((size_t)s->rows * size + !s->rows), *sign = malloc((size_t)s->rows * size + !s->rows);
        CHECK(out && sign);
        xent_array none = {0};
        const xent_array *weights = weighted ? view_of(&b) : &none;
        if (s->f64)
            CHECK(xent_logsumexp_f64(&s->shape, view_of(&x), weights, out, weighted == 3 ? sign : NULL) == XENT_OK);
        else
            CHECK(xent_logsumexp_f32(&s->shape, view_of(&x), weights, out, weighted == 3 ? sign : NULL) == XENT_OK);
        take_rows(s->hash, out, s->rows, size);
        take_rows(s->hash, sign, weighted == 3 ? s->rows : 0, size);
        free(x.block), free(b.block);
    }
}

/* The options of a loss, one bit each. */
enum {
    CLASS_WEIGHT = 1,
    SAMPLE_WEIGHT = 2,
    SMOOTHING = 4,
    Z_LOSS = 8,
    IGNORE = 16,
    GRAD_LOSS = 32,
    NO_GRAD = 64,
    BY_ROWS = 128,
    NORMALIZER = 256,
    SUM = 512,
    NO_LOSS = 1024,
    PROBABILITIES = 2048,
    VECTOR = 4096,
    SOFTCAP = 8192,
    BIAS = 16384
};

static xent_type label_type(const call_set *s) {
    const xent_type type = s->how->labels;
    const ptrdiff_t room = TYPE_SIZE[type] == 1 ? 127 : TYPE_SIZE[type] == 2 ? 32767 : s->classes;
    return s->classes <= room ? type : XENT_INT32;
}

static xent_cross_entropy_problem new_problem(const call_set *s, int options, box *logits, box *targets) {
    xent_cross_entropy_problem p = {.shape = s->shape, .logits = *view_of(logits)};
    random_state r = {s->seed * 31u + (uint64_t)options};
    const int is_signed = label_type(s) == XENT_INT8 || label_type(s) == XENT_INT16 || label_type(s) == XENT_INT32 ||
                          label_type(s) == XENT_INT64;
    if (options & PROBABILITIES)
        p.probabilities = *view_of(targets);
    else {
        p.labels = new_vector(label_type(s), s->rows);
        p.has_ignore = options & IGNORE ? 1 : 0;
        p.ignore = is_signed ? -1 : s->classes / 2;
        for (ptrdiff_t row = 0; row < s->rows; row++) {
            const uint64_t dice = next_random(&r);
            ptrdiff_t y = (ptrdiff_t)(dice % (uint64_t)s->classes);
            if (row % 3 == 1) y = s->classes / 3; /* where some kinds of rows have their maximum */
            const int ignored = p.has_ignore && (row % 5 == 2 || y == s->classes / 2); /* whatever the label's sign */
            put_number(&p.labels, row, ignored ? (double)p.ignore : (double)y);
        }
    }
    if (options & CLASS_WEIGHT) {
        p.class_weight = new_vector(options & SUM ? XENT_FLOAT64 : s->type, s->classes);
        for (ptrdiff_t c = 0; c < s->classes; c++)
            put_number(&p.class_weight, c, next_random(&r) % 8 ? fraction(&r, s->type) * 2.0 : 0.0);
    }
    if (options & SAMPLE_WEIGHT) {
        p.sample_weight = new_vector(options & SUM ? XENT_FLOAT64 : s->type, s->rows);
        for (ptrdiff_t row = 0; row < s->rows; row++)
            put_number(&p.sample_weight, row, next_random(&r) % 8 ? fraction(&r, s->type) * 4.0 : 0.0);
    }
    if (options & GRAD_LOSS) {
        p.grad_loss = new_vector(s->type, options & BY_ROWS ? s->rows : 1);
        if (!(options & BY_ROWS))
            p.grad_loss.stride = 0, encode(-2.5, s->type, (void *)p.grad_loss.data);
        else
            for (ptrdiff_t row = 0; row < s->rows; row++) put_number(&p.grad_loss, row, uniform(&r, s->type, 3));
    }
    if (options & SMOOTHING) p.label_smoothing = 0.1;
    if (options & Z_LOSS) p.z_loss = 1e-3;
    if (options & NORMALIZER) p.normalizer = 3.5;
    if (options & SOFTCAP) p.softcap = 11.0;
    if (options & BIAS) {
        p.bias = new_vector(s->type, s->classes);
        for (ptrdiff_t c = 0; c < s->classes; c++) put_number(&p.bias, c, uniform(&r, s->type, 2));
    }
    p.reduction = options & BY_ROWS ? XENT_NONE : options & SUM ? XENT_SUM : XENT_MEAN;
    return p;
}

static void free_problem(const xent_cross_entropy_problem *p) {
    free((void *)p->labels.data), free((void *)p->class_weight.data);
    free((void *)p->sample_weight.data), free((void *)p->grad_loss.data), free((void *)p->bias.data);
}

static void exercise_loss(call_set *s, int options) {
    const int in_place = s->how->in_place && !(options & NO_GRAD);
    const size_t size = TYPE_SIZE[s->type];
    box out = new_result(s, in_place), x = new_logits(s, s->how->in), q = new_numbers(s, s->type, 0);
    const uint64_t before = raw_hash(&x) ^ raw_hash(&q);
    xent_cross_entropy_problem p = new_problem(s, options, in_place ? &out : &x, &q);
    xent_cross_entropy_result result = {0};
    if (!(options & NO_GRAD)) result.grad = *view_of(&out);
    if (options & (BY_ROWS | Z_LOSS)) {
        result.loss_rows = malloc((size_t)s->rows * size + !s->rows);
        result.lse_rows = malloc((size_t)s->rows * size + !s->rows);
        CHECK(result.loss_rows && result.lse_rows);
    }
    CHECK(CROSS_ENTROPY[s->f64](&p, &result) == XENT_OK);
    CHECK((raw_hash(&x) ^ raw_hash(&q)) == before);
    take_double(s->hash, result.loss);
    take_rows(s->hash, result.loss_rows, result.loss_rows ? s->rows : 0, size);
    take_rows(s->hash, result.lse_rows, result.lse_rows ? s->rows : 0, size);
    if (options & NO_GRAD)
        free(out.block);
    else
        take_box(s->hash, &out);
    free_problem(&p);
    free(x.block), free(q.block);
}

static void exercise_hessian(call_set *s, int options) {
    box out = new_result(s, s->how->in_place), x = new_logits(s, s->how->in), q = new_numbers(s, s->type, 0);
    box v = new_numbers(s, s->type, 1);
    xent_cross_entropy_problem p = new_problem(s, options, s->how->in_place ? &out : &x, &q);
    xent_cross_entropy_result result = {.grad = *view_of(&out)};
    xent_array none = {0};
    CHECK(HESSIAN[s->f64](&p, options & VECTOR ? view_of(&v) : &none, &result) == XENT_OK);
    take_box(s->hash, &out);
    free_problem(&p);
    free(x.block), free(q.block), free(v.block);
}

static void exercise_sigmoid(call_set *s, xent_type targets, int options) {
    const int in_place = s->how->in_place && !(options & NO_GRAD);
    box out = new_result(s, in_place), x = new_logits(s, s->how->in), t = new_numbers(s, targets, 0);
    box w = new_numbers(s, s->type, 0), losses = new_result(s, 0);
    xent_cross_entropy_problem p = {.shape = s->shape, .logits = *view_of(in_place ? &out : &x)};
    p.probabilities = *view_of(&t);
    p.reduction = options & BY_ROWS ? XENT_NONE : options & SUM ? XENT_SUM : XENT_MEAN;
    random_state r = {s->seed};
    xent_vector pos_weight = {0};
    if (options & CLASS_WEIGHT) {
        pos_weight = new_vector(s->type, s->classes);
        for (ptrdiff_t c = 0; c < s->classes; c++) put_number(&pos_weight, c, fraction(&r, s->type) * 8.0);
    }
    if (options & SAMPLE_WEIGHT) {
        p.sample_weight = new_vector(XENT_FLOAT64, s->rows);
        for (ptrdiff_t row = 0; row < s->rows; row++) put_number(&p.sample_weight, row, (double)(row % 3) * 0.75);
    }
    xent_array none = {0}, losses_view = options & BY_ROWS ? *view_of(&losses) : none;
    xent_cross_entropy_result result = {0};
    if (!(options & NO_GRAD)) result.grad = *view_of(&out);
    CHECK(SIGMOID[s->f64](&p, &pos_weight, options & IGNORE ? view_of(&w) : &none, &losses_view, &result) == XENT_OK);
    take_double(s->hash, result.loss);
    if (options & BY_ROWS)
        take_box(s->hash, &losses);
    else
        free(losses.block);
    if (options & NO_GRAD)
        free(out.block);
    else
        take_box(s->hash, &out);
    free((void *)pos_weight.data);
    free_problem(&p);
    free(x.block), free(t.block), free(w.block);
}

typedef xent_status (*tile_function)(const xent_cross_entropy_problem *, const xent_tile *, xent_tile_pass,
                                     xent_cross_entropy_result *);
static const tile_function TILES[] = {xent_tile_f32, xent_tile_f64};

/* Rows of one piece of memory in three tiles; their losses, lse and gradients, sums of columns, sums of blocks. */
static void exercise_tiles(call_set *s, int options) {
    const size_t size = TYPE_SIZE[s->type];
    const ptrdiff_t n = s->classes, sizes[2] = {s->rows, n}, strides[2] = {n * (ptrdiff_t)size, (ptrdiff_t)size};
    call_set flat = *s;
    flat.shape = (xent_shape){2, sizes, 2};
    unsigned char *x = malloc((size_t)(s->rows * n) * size), *grad = malloc((size_t)(s->rows * n) * size);
    double *q = malloc((size_t)(s->rows * n) * sizeof *q), *sums = calloc(2 * (size_t)n, sizeof *sums);
    char *states = calloc((size_t)s->rows, XENT_ROW_BYTES);
    void *loss = malloc((size_t)s->rows * size), *lse = malloc((size_t)s->rows * size);
    void *parts = malloc((size_t)s->rows * size);
    CHECK(x && grad && q && sums && states && loss && lse && parts);
    for (ptrdiff_t row = 0; row < s->rows; row++) {
        random_state r = {s->seed * 77u + (uint64_t)row};
        for (ptrdiff_t c = 0; c < n; c++) {
            encode(logit(&r, s->type, row_kind_at(s, row), c, n), s->type, x + (row * n + c) * (ptrdiff_t)size);
            q[row * n + c] = next_random(&r) % 4 ? fraction(&r, XENT_FLOAT64) : 0.0;
        }
    }
    const ptrdiff_t cuts[4] = {0, n / 3, n / 2, n};
    const int soft = options & PROBABILITIES;
    box unused = new_logits(s, s->how->in);
    xent_cross_entropy_problem p = new_problem(&flat, options & ~PROBABILITIES, &unused, NULL);
    free(unused.block);
    const xent_vector bias = p.bias, labels = p.labels;
    if (soft) p.labels = (xent_vector){0}, p.has_ignore = 0;
    if (p.normalizer == 0.0) p.normalizer = 1.0;
    xent_cross_entropy_result result = {.loss_rows = loss, .lse_rows = lse};
    for (int pass = XENT_TILE_SUM; pass <= XENT_TILE_GRAD; pass++)
        for (int t = 0; t < 3; t++) {
            const ptrdiff_t tile_sizes[2] = {s->rows, cuts[t + 1] - cuts[t]}, q_strides[2] = {n * 8, 8};
            const xent_tile tile = {cuts[t], n, states};
            if (!tile_sizes[1]) continue;
            p.shape = (xent_shape){2, tile_sizes, 2};
            p.logits = (xent_array){x + cuts[t] * (ptrdiff_t)size, strides, s->type, 0};
            if (soft) p.probabilities = (xent_array){q + cuts[t], q_strides, XENT_FLOAT64, 0};
            if (bias.data) p.bias.data = (const char *)bias.data + cuts[t] * (ptrdiff_t)size;
            xent_cross_entropy_result to = {0};
            if (pass == XENT_TILE_GRAD) to.grad = (xent_array){grad + cuts[t] * (ptrdiff_t)size, strides, s->type, 0};
            CHECK(TILES[s->f64](&p, &tile, (xent_tile_pass)pass, &to) == XENT_OK);
        }
    const ptrdiff_t last_sizes[2] = {s->rows, 1};
    const xent_tile whole = {0, n, states};
    p.shape = (xent_shape){2, last_sizes, 2}, p.logits.data = NULL, p.probabilities.data = NULL;
    p.logits.strides = strides, p.bias.data = NULL, p.softcap = 0.0;
    CHECK(TILES[s->f64](&p, &whole, XENT_TILE_FINISH, &result) == XENT_OK);
    take_rows(s->hash, loss, s->rows, size), take_rows(s->hash, lse, s->rows, size);
    if (s->f64)
        xent_column_sums_f64((double *)grad, s->rows, n, n, sums, sums + n);
    else
        xent_column_sums_f32((float *)grad, s->rows, n, n, sums, sums + n);
    take_rows(s->hash, grad, s->rows * n, size), take_rows(s->hash, sums, 2 * n, sizeof *sums);
    const ptrdiff_t blocks = (n + xent_block_classes() - 1) / xent_block_classes();
    void *kept = calloc((size_t)(blocks * s->rows), XENT_SUM_BYTES);
    const xent_array z = {x, strides, s->type, 0};
    CHECK(kept);
    if (s->f64) {
        CHECK(xent_block_sums_f64(&flat.shape, &z, kept) == XENT_OK);
        xent_sums_lse_f64(kept, blocks, s->rows, parts);
    } else {
        CHECK(xent_block_sums_f32(&flat.shape, &z, kept) == XENT_OK);
        xent_sums_lse_f32(kept, blocks, s->rows, parts);
    }
    take_rows(s->hash, parts, s->rows, size);
    free(kept), free(x), free(q), free(states);
    p.bias = bias, p.labels = labels, free_problem(&p);
}

static void exercise_shape(uint64_t *hash, const variant *how, xent_type type, ptrdiff_t rows, ptrdiff_t classes) {
    call_set s = {.how = how,
                  .type = type,
                  .f64 = type == XENT_FLOAT64,
                  .rows = rows,
                  .classes = classes,
                  .seed = (uint64_t)(classes * 131 + rows),
                  .hash = hash};
    call_shape(rows, classes, how->split, s.sizes);
    s.shape = (xent_shape){4, s.sizes, 0xa};
    exercise_reductions(&s);
    if (classes == 0) return;
    static const int LOSSES[] = {0,
                                 NO_GRAD,
                                 BY_ROWS,
                                 SUM | Z_LOSS,
                                 CLASS_WEIGHT | SAMPLE_WEIGHT | IGNORE,
                                 SMOOTHING,
                                 SMOOTHING | CLASS_WEIGHT | Z_LOSS | SUM | NO_GRAD,
                                 GRAD_LOSS | NORMALIZER | IGNORE,
                                 BY_ROWS | GRAD_LOSS | SAMPLE_WEIGHT,
                                 PROBABILITIES,
                                 PROBABILITIES | SMOOTHING | CLASS_WEIGHT | BY_ROWS,
                                 PROBABILITIES | SAMPLE_WEIGHT | Z_LOSS | GRAD_LOSS,
                                 PROBABILITIES | NO_GRAD | SUM | CLASS_WEIGHT,
                                 SOFTCAP,
                                 BIAS,
                                 SOFTCAP | BIAS | IGNORE | BY_ROWS | Z_LOSS,
                                 SOFTCAP | BIAS | NO_GRAD,
                                 PROBABILITIES | SOFTCAP | CLASS_WEIGHT};
    for (size_t i = 0; i < sizeof LOSSES / sizeof *LOSSES; i++) exercise_loss(&s, LOSSES[i]);
    static const int HESSIANS[] = {0, VECTOR, SMOOTHING | Z_LOSS | IGNORE | SUM,
                                   PROBABILITIES | VECTOR | Z_LOSS | CLASS_WEIGHT | SAMPLE_WEIGHT};
    for (size_t i = 0; i < sizeof HESSIANS / sizeof *HESSIANS; i++) exercise_hessian(&s, HESSIANS[i]);
    static const int IN_TILES[] = {0, IGNORE | CLASS_WEIGHT | SAMPLE_WEIGHT,
                                   SMOOTHING | Z_LOSS | BIAS | SOFTCAP | GRAD_LOSS, PROBABILITIES | CLASS_WEIGHT,
                                   PROBABILITIES | SMOOTHING | BIAS};
    for (size_t i = 0; i < sizeof IN_TILES / sizeof *IN_TILES; i++) exercise_tiles(&s, IN_TILES[i]);
    exercise_sigmoid(&s, type, 0);
    exercise_sigmoid(&s, XENT_BOOL, BY_ROWS | CLASS_WEIGHT);
    exercise_sigmoid(&s, how->labels, SAMPLE_WEIGHT | NO_GRAD);
    exercise_sigmoid(&s, type, IGNORE | SUM | CLASS_WEIGHT | BY_ROWS);
}

/* e^x around every value where something happens, and at random bit patterns. */
static void exercise_exp(uint64_t *hash) {
    enum { N = 4099 };
    float *x = malloc(N * sizeof *x), *e = malloc(N * sizeof *e);
    double *xd = malloc(N * sizeof *xd), *ed = malloc(N * sizeof *ed);
    CHECK(x && e && xd && ed);
    random_state r = {20240229};
    for (int i = 0; i < N; i++) {
        const uint64_t bits = next_random(&r), edge = bits % (sizeof EDGES / sizeof *EDGES);
        const uint32_t half = (uint32_t)bits;
        memcpy(&x[i], &half, sizeof half);
        memcpy(&xd[i], &bits, sizeof bits);
        if (i % 4 == 1) x[i] = (float)EDGES[edge], xd[i] = EDGES[edge];
        if (i % 4 == 2) x[i] = (float)uniform(&r, XENT_FLOAT32, 7), xd[i] = uniform(&r, XENT_FLOAT64, 10);
        if (i % 4 == 3) x[i] = (float)uniform(&r, XENT_FLOAT32, -1), xd[i] = uniform(&r, XENT_FLOAT64, -1);
    }
    xent_exp_f32(x, e, N);
    xent_exp_f64(xd, ed, N);
    take_rows(hash, e, N, sizeof *e);
    take_rows(hash, ed, N, sizeof *ed);
    free(x), free(xd);
}

/* Around every lane and block count. */
static const ptrdiff_t LENGTHS[] = {0,  1,  2,  3,   7,   8,   10,  15,  16,  17,   31,   32,   33,   48,   63,
                                    64, 65, 66, 100, 127, 128, 129, 255, 257, 2047, 2048, 2049, 2112, 4097, 6147};

__attribute__((unused)) static uint64_t exercise(const variant *how) {
    uint64_t hash = 0xcbf29ce484222325u;
    exercise_exp(&hash);
    exercise_layers(&hash, how->in_place, how->thorough);
    for (int f64 = 0; f64 < 2; f64++) {
        const xent_type type = f64 ? XENT_FLOAT64 : XENT_FLOAT32;
        for (size_t i = 0; i < sizeof LENGTHS / sizeof *LENGTHS; i++) {
            const ptrdiff_t n = LENGTHS[i];
            if (n > 257 && !how->thorough && n != 2049) continue;
            exercise_shape(&hash, how, type, n > 4000 ? 6 : n > 257 && !how->thorough ? 3 : ROW_KINDS + 1, n);
        }
        exercise_shape(&hash, how, type, 0, 5);
        exercise_shape(&hash, how, type, 700, 6); /* many groups of rows */
        if (how->thorough) {
            exercise_shape(&hash, how, type, 1100, 33);          /* several threads */
            exercise_shape(&hash, how, type, 1, 64 * 2048 + 65); /* more blocks than fit on the stack */
        }
    }
    return hash;
}

#endif
