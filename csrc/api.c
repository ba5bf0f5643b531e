/* The public functions: views of the arrays, the targets checked before anything is written, rows shared out over the
 * threads in groups whose sums are added in a fixed order.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "few_rows.h"
#include "shares.h"
#include "views.h"

/* ---- kernels over all rows -------------------------------------------------------------------------------------- */

/* Whether rows are packed (pack.c) before a kernel sees them: where they have no plain pointers, and are not so long that
 * the kernels should rather go through them block by block, unless they lie side by side; with 16 bits they can do that only
 * where all they do is read. */
static int to_be_packed(const xent_layout *layout, const xent_view *x, const xent_view *out, int only_reads) {
    const int fits = !too_long_to_pack(layout, x) || by_columns(layout, x, out);
    if (is_half(x->type)) return !only_reads || fits;
    return (!x->direct || (out && !out->direct)) && layout->classes > 1 && fits;
}

typedef struct {
    xent_loss_kernel kernel;
    const xent_loss_args *args;
} loss_loop;

static void loss_group(void *context, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const loss_loop *loop = context;
    loop->kernel(loop->args, first, last, group);
}

static void add_exactly(double sum[2], double hi, double lo) {
    const double s = sum[0] + hi, b = s - sum[0], lost = (sum[0] - (s - b)) + (hi - b);
    sum[0] = s;
    if (lost - lost == 0.0) sum[1] += lost + lo;
}

/* Run over all rows; the sum of the losses, in two parts, in the order of the groups, whatever the threads. */
static xent_status run_loss(xent_loss_kernel kernel, xent_loss_args *args, double *sum) {
    double few[2 * GROUPS_ON_STACK], parts[2] = {0.0, 0.0};
    const ptrdiff_t groups = groups_of(args->layout);
    atomic_int failed = 0;
    args->failed = &failed;
    args->totals = groups <= GROUPS_ON_STACK ? few : malloc((size_t)groups * 2 * sizeof *few);
    if (!args->totals) return XENT_NO_MEMORY;
    loss_loop loop = {kernel, args};
    run_groups(args->layout, args->group_rows != 0, rows_together(args->layout, args->logits, args->grad), loss_group,
               &loop);
    for (ptrdiff_t g = 0; g < groups && !failed; g++) add_exactly(parts, args->totals[2 * g], args->totals[2 * g + 1]);
    if (args->totals != few) free(args->totals);
    sum[0] = parts[0], sum[1] = parts[1];
    return failed ? XENT_NO_MEMORY : XENT_OK;
}

/* The same for rows that may have to be packed. */
static xent_status run_packed(const xent_kernels *kernels, xent_loss_kernel kernel, xent_loss_args *args,
                              double sum[2]) {
    if (args->tile || !to_be_packed(args->layout, args->logits, args->grad, 0)) return run_loss(kernel, args, sum);
    args->packed = kernel, args->packed_runs = args->group_rows != 0;
    args->group_rows = rows_per_group(args->layout);
    return run_loss(kernels->packed_loss, args, sum);
}

/* The same for logits with a bias or a cap: each thread makes its rows in a scratch of its own. */
static xent_status run_made(const xent_kernels *kernels, xent_loss_kernel kernel, xent_loss_args *args, double sum[2]) {
    const xent_layout *layout = args->layout;
    if ((args->problem->softcap == 0.0 && !args->problem->bias.data) || layout->rows == 0)
        return run_packed(kernels, kernel, args, sum);
    args->group_rows = 0;
    const int threads = threads_for(layout);
    const ptrdiff_t rows = rows_per_group(layout) < layout->rows ? rows_per_group(layout) : layout->rows;
    const size_t bytes = (size_t)(rows * layout->classes) * (args->logits->type == XENT_FLOAT64 ? 8 : 4);
    xent_scratch scratch = {.n = threads, .size = (bytes + 64) / 64 * 64};
    scratch.data = malloc((size_t)threads * scratch.size);
    scratch.taken = calloc((size_t)threads, sizeof *scratch.taken);
    xent_status status = XENT_NO_MEMORY;
    if (scratch.data && scratch.taken) {
        args->inner = kernel, args->scratch = &scratch;
        status = run_packed(kernels, kernels->made_rows, args, sum);
    }
    free(scratch.data);
    free(scratch.taken);
    return status;
}

/* ---- targets ----------------------------------------------------------------------------------------------------- */

/* What the targets of one group of rows come to. */
typedef struct {
    double weight[2]; /* the sum of the row weights s sum_c w_c q_c */
    ptrdiff_t first_bad, bad;
} group_check;

typedef struct {
    const xent_cross_entropy_problem *problem;
    const xent_layout *layout;
    const xent_view *probabilities, *element_weight;
    double upper; /* of a probability */
    int unweighted_classes;
    int only_range; /* what they sum to is not asked for */
    group_check *groups;
} check_context;

/* Labels that count once each, of which nothing is to be known but whether all are in range. */
typedef struct {
    const xent_cross_entropy_problem *problem;
    ptrdiff_t classes;
    atomic_int outside;
} range_check;

static void check_range(void *context, ptrdiff_t first, ptrdiff_t last) {
    enum { AT_ONCE = 512 };
    range_check *c = context;
    int64_t y[AT_ONCE];
    const uint64_t last_class = (uint64_t)c->classes - 1;
    uint64_t outside = 0;
    for (ptrdiff_t start = first; start < last; start += AT_ONCE) {
        const ptrdiff_t n = last - start < AT_ONCE ? last - start : AT_ONCE;
        const int64_t *labels = labels_at(&c->problem->labels, start, n, y);
        for (ptrdiff_t i = 0; i < n; i++) outside |= (uint64_t)labels[i] | (last_class - (uint64_t)labels[i]);
    }
    if (outside >> 63) c->outside = 1; /* the sign of one that is not in range: SSE2 compares no 64 bits */
}

/* Whether the targets are such labels, all of them in range. */
static int all_in_range(const check_context *c) {
    const xent_cross_entropy_problem *p = c->problem;
    if (c->probabilities || p->class_weight.data || p->sample_weight.data || p->has_ignore) return 0;
    range_check check = {.problem = p, .classes = c->layout->classes};
    xent_parallel_for(c->layout->rows, threads_for(c->layout), check_range, &check);
    return !check.outside;
}

static void check_labels(void *context, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const check_context *c = context;
    const xent_cross_entropy_problem *p = c->problem;
    group_check *check = &c->groups[group];
    *check = (group_check){.first_bad = -1};
    for (ptrdiff_t row = first; row < last; row++) {
        int large;
        const int64_t y = label_at(&p->labels, row, &large);
        if (p->has_ignore && y == p->ignore && !large) continue;
        if (large || y < 0 || y >= c->layout->classes) {
            if (!check->bad++) check->first_bad = row;
            continue;
        }
        add_exactly(check->weight, entry(&p->sample_weight, row, 1.0) * entry(&p->class_weight, (ptrdiff_t)y, 1.0),
                    0.0);
    }
}

static void check_probabilities(void *context, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const check_context *c = context;
    const xent_cross_entropy_problem *p = c->problem;
    const xent_table *table = xent_live_table();
    const xent_vector none = {0};
    const int each = p->sample_weight.data && !c->element_weight && !c->only_range; /* row counts by itself */
    group_check *check = &c->groups[group];
    *check = (group_check){.first_bad = -1};
    for (ptrdiff_t row = first, n; row < last; row += n) {
        const double times = each ? entry(&p->sample_weight, row, 1.0) : 1.0;
        double sum[2] = {0.0, 0.0}, *of_targets = c->unweighted_classes || c->only_range ? NULL : sum;
        n = each ? 1 : last - row;
        if (table->check_numbers(c->layout, c->probabilities, row, n, &p->class_weight, times, c->upper, of_targets))
            for (ptrdiff_t r = row; r < row + n; r++)
                if (table->check_numbers(c->layout, c->probabilities, r, 1, &none, 1.0, c->upper, NULL) &&
                    !check->bad++)
                    check->first_bad = r;
        if (c->element_weight)
            table->check_numbers(c->layout, c->element_weight, row, n, &none, 1.0, INFINITY, sum);
        else if (c->unweighted_classes)
            sum[0] = times * (double)c->layout->classes * (double)n;
        add_exactly(check->weight, sum[0], sum[1]);
    }
}

/* Check every target before anything is written; the sum of the row weights. */
static xent_status check_targets(check_context *c, double *weight, xent_fault *fault) {
    group_check few[GROUPS_ON_STACK];
    const ptrdiff_t groups = groups_of(c->layout);
    double sum[2] = {0.0, 0.0};
    *fault = (xent_fault){.row = -1}, *weight = (double)c->layout->rows;
    if (all_in_range(c)) return XENT_OK;
    c->groups = groups <= GROUPS_ON_STACK ? few : malloc((size_t)groups * sizeof *few);
    if (!c->groups) return XENT_NO_MEMORY;
    run_groups(c->layout, 0, 1, c->probabilities ? check_probabilities : check_labels, c);
    for (ptrdiff_t g = 0; g < groups; g++) {
        add_exactly(sum, c->groups[g].weight[0], c->groups[g].weight[1]);
        if (c->groups[g].bad && fault->row < 0) fault->row = c->groups[g].first_bad;
        fault->count += c->groups[g].bad;
    }
    if (c->groups != few) free(c->groups);
    *weight = sum[0] + sum[1];
    if (!fault->count) return XENT_OK;
    if (!c->probabilities) {
        int large;
        fault->label = label_at(&c->problem->labels, fault->row, &large);
        if (large) fault->unsigned_label = (uint64_t)fault->label;
        return XENT_BAD_LABEL;
    }
    for (ptrdiff_t i = 0; i < c->layout->classes; i++) {
        gather_numbers(c->layout, c->probabilities, row_of(c->layout, c->probabilities, fault->row), i, 1,
                       &fault->value);
        if (!(fault->value >= 0.0 && fault->value <= c->upper)) break;
    }
    return XENT_BAD_PROBABILITY;
}

/* 1 / divisor in two parts; 0 where nothing is left to average. */
static void set_scale(xent_loss_args *args, double divisor) {
    args->grad_scale[0] = args->grad_scale[1] = 0.0;
    if (args->problem->reduction != XENT_MEAN) divisor = 1.0;
    if (divisor > 0.0) {
        args->grad_scale[0] = 1.0 / divisor;
        args->grad_scale[1] = fma(-args->grad_scale[0], divisor, 1.0) / divisor;
    }
}

/* The loss of all rows, rounded to the logits' type; below its smallest normal number 0. */
static double reduced(double sum, const xent_cross_entropy_problem *p, double divisor) {
    const int single = p->logits.type != XENT_FLOAT64;
    double loss = p->reduction == XENT_NONE  ? 0.0
                  : p->reduction == XENT_SUM ? sum
                  : divisor > 0.0            ? sum / divisor
                                             : 0.0;
    if (loss < (single ? 0x1p-126 : 0x1p-1022)) loss = 0.0;
    if (loss != loss) return (double)NAN; /* one NaN, whatever its sign was on the way */
    return single ? (double)(float)loss : loss;
}

/* ---- the API ----------------------------------------------------------------------------------------------------- */

static xent_status cross_entropy(const xent_kernels *kernels, const xent_cross_entropy_problem *p,
                                 const xent_array *vector, int hessian, xent_cross_entropy_result *out) {
    geometry g;
    g.n = 0;
    xent_loss_args args = {.problem = p, .layout = &g.layout};
    args.logits = add_array(&g, &p->logits);
    args.grad = add_array(&g, &out->grad);
    args.probabilities = add_array(&g, &p->probabilities);
    args.vector = add_array(&g, vector);
    lay_out(&g, &p->shape);
    args.loss_rows = out->loss_rows, args.lse_rows = out->lse_rows;

    check_context check = {.problem = p,
                           .layout = &g.layout,
                           .probabilities = args.probabilities,
                           .upper = 0x1.fffffffffffffp1023 /* finite */,
                           .only_range = p->reduction != XENT_MEAN || p->normalizer > 0.0};
    double divisor = 0.0;
    xent_status status = p->checked ? XENT_OK : check_targets(&check, &divisor, &out->fault);
    if (status != XENT_OK) return status;
    if (p->normalizer > 0.0) divisor = p->normalizer;
    set_scale(&args, divisor);
    const int soft = args.probabilities || p->label_smoothing != 0.0;
    out->sum[0] = out->sum[1] = 0.0;
    args.group_rows = hessian ? 0 : rows_per_group(args.layout);
    status = hessian ? run_loss(kernels->hessian, &args, out->sum)
                     : run_made(kernels, soft ? kernels->soft_cross_entropy : kernels->cross_entropy, &args, out->sum);
    out->loss = reduced(out->sum[0] + out->sum[1], p, divisor);
    return status;
}

static xent_status tile(const xent_kernels *kernels, const xent_cross_entropy_problem *p, const xent_tile *tile,
                        xent_tile_pass pass, xent_cross_entropy_result *out) {
    geometry g;
    g.n = 0;
    xent_loss_args args = {.problem = p, .layout = &g.layout, .tile = tile};
    args.logits = add_array(&g, &p->logits);
    args.grad = add_array(&g, &out->grad);
    args.probabilities = add_array(&g, &p->probabilities);
    lay_out(&g, &p->shape);
    args.loss_rows = out->loss_rows, args.lse_rows = out->lse_rows;
    set_scale(&args, p->normalizer);
    out->sum[0] = out->sum[1] = 0.0;
    if (pass == XENT_TILE_FINISH) return run_loss(kernels->tile_finish, &args, out->sum);
    double nothing[2];
    return run_made(kernels, pass == XENT_TILE_SUM ? kernels->tile_sum : kernels->tile_grad, &args, nothing);
}

static xent_status sigmoid(const xent_kernels *kernels, const xent_cross_entropy_problem *p,
                           const xent_vector *pos_weight, const xent_array *element_weight, xent_array *loss_elements,
                           xent_cross_entropy_result *out) {
    geometry g;
    g.n = 0;
    xent_loss_args args = {.problem = p, .layout = &g.layout, .pos_weight = *pos_weight};
    args.logits = add_array(&g, &p->logits);
    args.grad = add_array(&g, &out->grad);
    args.probabilities = add_array(&g, &p->probabilities);
    args.element_weight = add_array(&g, element_weight);
    args.loss_elements = add_array(&g, loss_elements);
    lay_out(&g, &p->shape);

    check_context check = {.problem = p,
                           .layout = &g.layout,
                           .probabilities = args.probabilities,
                           .element_weight = args.element_weight,
                           .upper = 1.0,
                           .unweighted_classes = 1};
    double divisor, sum[2] = {0.0, 0.0};
    xent_status status = check_targets(&check, &divisor, &out->fault);
    if (status != XENT_OK) return status;
    set_scale(&args, divisor);
    status = run_loss(kernels->sigmoid, &args, sum);
    out->loss = reduced(sum[0] + sum[1], p, divisor);
    return status;
}

/* packing: packed_reduce, or NULL for a kernel that does not work on packed rows. */
static xent_status reduce_laid_out(xent_reduce_kernel kernel, xent_reduce_kernel packing, xent_reduce_args *args) {
    if (packing && to_be_packed(args->layout, args->x, args->out, !args->out)) {
        args->packed = kernel;
        kernel = packing;
    }
    return run_reduce(kernel, args);
}

static xent_status reduce(xent_reduce_kernel kernel, xent_reduce_kernel packing, const xent_shape *shape,
                          const xent_array *x, const xent_array *out, const xent_array *weights, void *row_out,
                          void *row_sign) {
    geometry g;
    g.n = 0;
    xent_reduce_args args = {.layout = &g.layout, .row_out = row_out, .row_sign = row_sign};
    args.x = add_array(&g, x);
    args.out = add_array(&g, out);
    args.weights = add_array(&g, weights);
    lay_out(&g, shape);
    return reduce_laid_out(kernel, packing, &args);
}

static xent_status logsumexp(const xent_kernels *kernels, const xent_shape *shape, const xent_array *x, void *out) {
    geometry g;
    g.n = 0;
    xent_reduce_args args = {.layout = &g.layout, .row_out = out};
    args.x = add_array(&g, x);
    lay_out(&g, shape);
    if (args.x && is_few_rows(&g.layout, args.x)) return few_rows_lse(kernels, &g.layout, args.x, out);
    return reduce_laid_out(kernels->logsumexp, kernels->packed_reduce, &args);
}

xent_status xent_check_targets(const xent_cross_entropy_problem *p, double *weight, xent_fault *fault) {
    geometry g;
    g.n = 0;
    check_context check = {.problem = p, .layout = &g.layout, .upper = 0x1.fffffffffffffp1023 /* finite */};
    check.probabilities = add_array(&g, &p->probabilities);
    lay_out(&g, &p->shape);
    return check_targets(&check, weight, fault);
}

ptrdiff_t xent_block_classes(void) {
    return XENT_BLOCK;
}

typedef struct {
    void (*kernel)(const xent_column_args *, ptrdiff_t, ptrdiff_t);
    xent_column_args args;
    ptrdiff_t n;
} column_loop;

static void column_piece(void *context, ptrdiff_t first, ptrdiff_t last) {
    const column_loop *loop = context;
    const ptrdiff_t end = last * XENT_SMALL_BLOCK;
    loop->kernel(&loop->args, first * XENT_SMALL_BLOCK, end < loop->n ? end : loop->n);
}

static void column_sums(void (*kernel)(const xent_column_args *, ptrdiff_t, ptrdiff_t), const void *z, ptrdiff_t rows,
                        ptrdiff_t n, ptrdiff_t stride, double *sums, double *lost) {
    column_loop loop = {kernel, {z, rows, stride, sums, lost}, n};
    const xent_layout layout = {.rows = rows, .classes = n};
    if (n) xent_parallel_for((n + XENT_SMALL_BLOCK - 1) / XENT_SMALL_BLOCK, threads_for(&layout), column_piece, &loop);
}

/* The first byte and the one past the last of an array. */
static void extent(const xent_shape *shape, const xent_array *a, uintptr_t *low, uintptr_t *high) {
    *low = (uintptr_t)a->data, *high = *low + SIZE_OF[a->type];
    for (int d = 0; d < shape->ndim; d++) {
        const ptrdiff_t reach = (shape->shape[d] - 1) * a->strides[d];
        *(reach < 0 ? low : high) += (uintptr_t)reach;
    }
}

xent_relation xent_relate(const xent_shape *out_shape, const xent_array *out, const xent_shape *in_shape,
                          const xent_array *in) {
    uintptr_t out_low, out_high, in_low, in_high;
    int same = out->data == in->data && out->type == in->type && out_shape->ndim == in_shape->ndim;
    for (int d = 0; d < out_shape->ndim && same; d++)
        same = out_shape->shape[d] == in_shape->shape[d] &&
               (out->strides[d] == in->strides[d] || out_shape->shape[d] == 1);
    for (int d = 0; d < out_shape->ndim; d++)
        if (out_shape->shape[d] == 0) return XENT_APART; /* whatever its strides: NumPy's are 0 then */
    for (int d = 0; d < out_shape->ndim; d++)
        if (out->strides[d] == 0 && out_shape->shape[d] > 1) return XENT_FOLDED;
    if (same) return XENT_SAME;
    for (int d = 0; d < in_shape->ndim; d++)
        if (in_shape->shape[d] == 0) return XENT_APART;
    extent(out_shape, out, &out_low, &out_high);
    extent(in_shape, in, &in_low, &in_high);
    return out_high <= in_low || in_high <= out_low ? XENT_APART : XENT_NEAR;
}

#define API_OF(DTYPE, REAL)                                                                                       \
    xent_status xent_cross_entropy_##DTYPE(const xent_cross_entropy_problem *p, xent_cross_entropy_result *out) { \
        return cross_entropy(&xent_live_table()->DTYPE, p, NULL, 0, out);                                         \
    }                                                                                                             \
    xent_status xent_hessian_##DTYPE(const xent_cross_entropy_problem *p, const xent_array *vector,               \
                                     xent_cross_entropy_result *out) {                                            \
        return cross_entropy(&xent_live_table()->DTYPE, p, vector, 1, out);                                       \
    }                                                                                                             \
    xent_status xent_sigmoid_##DTYPE(const xent_cross_entropy_problem *p, const xent_vector *pos_weight,          \
                                     const xent_array *element_weight, xent_array *loss_elements,                 \
                                     xent_cross_entropy_result *out) {                                            \
        return sigmoid(&xent_live_table()->DTYPE, p, pos_weight, element_weight, loss_elements, out);             \
    }                                                                                                             \
    xent_status xent_logsumexp_##DTYPE(const xent_shape *shape, const xent_array *x, const xent_array *weights,   \
                                       REAL *out, REAL *sign) {                                                   \
        const xent_kernels *k = &xent_live_table()->DTYPE;                                                        \
        return weights->data ? reduce(k->weighted_logsumexp, NULL, shape, x, NULL, weights, out, sign)            \
                             : logsumexp(k, shape, x, out);                                                       \
    }                                                                                                             \
    xent_status xent_softmax_##DTYPE(const xent_shape *shape, const xent_array *x, const xent_array *out) {       \
        const xent_kernels *k = &xent_live_table()->DTYPE;                                                        \
        return reduce(k->softmax, k->packed_reduce, shape, x, out, NULL, NULL, NULL);                             \
    }                                                                                                             \
    xent_status xent_log_softmax_##DTYPE(const xent_shape *shape, const xent_array *x, const xent_array *out) {   \
        const xent_kernels *k = &xent_live_table()->DTYPE;                                                        \
        return reduce(k->log_softmax, k->packed_reduce, shape, x, out, NULL, NULL, NULL);                         \
    }                                                                                                             \
    xent_status xent_tile_##DTYPE(const xent_cross_entropy_problem *p, const xent_tile *t, xent_tile_pass pass,   \
                                  xent_cross_entropy_result *out) {                                               \
        return tile(&xent_live_table()->DTYPE, p, t, pass, out);                                                  \
    }                                                                                                             \
    xent_status xent_block_sums_##DTYPE(const xent_shape *shape, const xent_array *x, void *sums) {               \
        return reduce(xent_live_table()->DTYPE.block_sums, NULL, shape, x, NULL, NULL, sums, NULL);               \
    }                                                                                                             \
    void xent_sums_lse_##DTYPE(const void *sums, ptrdiff_t blocks, ptrdiff_t rows, REAL *out) {                   \
        xent_live_table()->DTYPE.sums_lse(sums, blocks, rows, out, NULL);                                         \
    }                                                                                                             \
    void xent_column_sums_##DTYPE(const REAL *z, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums,     \
                                  double *lost) {                                                                 \
        column_sums(xent_live_table()->DTYPE.column_sums, z, rows, n, stride, sums, lost);                        \
    }                                                                                                             \
    void xent_exp_##DTYPE(const REAL *x, REAL *out, ptrdiff_t n) {                                                \
        xent_live_table()->exp_##DTYPE(x, out, n);                                                                \
    }

API_OF(f32, float)
API_OF(f64, double)
