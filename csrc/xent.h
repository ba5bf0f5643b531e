/* xent: log-sum-exp, softmax and cross-entropy with their gradients, for rows of float32 or float64 logits; the functions
 * of float32 for softmax, log-softmax, log-sum-exp without weights and cross-entropy take float16 and bfloat16 too.
 *
 * The public C API. No Python here. Arrays are described as NumPy describes them: a shape, strides in bytes (of any
 * sign, alignment or byte order), and the axes that one row of classes spans. No array of many rows is copied as a
 * whole; an output may be its input (in place) but must not overlap it otherwise. All functions may be called from many
 * threads.
 * Results, and what each special value gives, are those of the Python functions of the same names.
 */
#ifndef XENT_H
#define XENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define XENT_API __declspec(dllexport)
#else
#define XENT_API __attribute__((visibility("default")))
#endif

enum { XENT_MAX_DIMS = 64 };

typedef enum {
    XENT_BOOL,
    XENT_INT8,
    XENT_UINT8,
    XENT_INT16,
    XENT_UINT16,
    XENT_INT32,
    XENT_UINT32,
    XENT_INT64,
    XENT_UINT64,
    XENT_FLOAT32,
    XENT_FLOAT64,
    XENT_FLOAT16, /* of logits and gradients only, which are computed in float32 */
    XENT_BFLOAT16
} xent_type;

/* The axes of the logits; bit i of class_axes is set where axis i belongs to the classes. */
typedef struct {
    int ndim;
    const ptrdiff_t *shape;
    uint64_t class_axes;
} xent_shape;

/* One array of that shape. data NULL: not given. */
typedef struct {
    void *data;
    const ptrdiff_t *strides; /* bytes */
    xent_type type;
    int swapped; /* stored in the other byte order */
} xent_array;

/* One number per row (or per class), in native order. data NULL: not given. stride 0: one number for all. */
typedef struct {
    const void *data;
    ptrdiff_t stride; /* bytes */
    xent_type type;
} xent_vector;

typedef enum { XENT_OK, XENT_BAD_LABEL, XENT_BAD_PROBABILITY, XENT_NO_MEMORY } xent_status;

/* What is wrong with the targets: the first bad row, the value there, and how many rows are bad. */
typedef struct {
    ptrdiff_t row, count;
    int64_t label;
    uint64_t unsigned_label; /* instead of label where it exceeds INT64_MAX, else 0 */
    double value;
} xent_fault;

typedef enum { XENT_MEAN, XENT_SUM, XENT_NONE } xent_reduction;

/* A cross-entropy problem: what goes in. */
typedef struct {
    xent_shape shape;
    xent_array logits;
    xent_vector labels;       /* class indices, or */
    xent_array probabilities; /* target rows */
    xent_vector class_weight, sample_weight;
    xent_vector grad_loss;                      /* factors of the gradient */
    double label_smoothing, z_loss, normalizer; /* normalizer 0: the sum of the row weights */
    int has_ignore;
    int64_t ignore;
    xent_reduction reduction;
    xent_vector bias; /* of the cross-entropy: per class, of the logits' type, contiguous; added to the logits */
    double softcap;   /* and then z -> softcap tanh(z / softcap); 0: not */
    int checked;      /* the targets are known to be good, and normalizer is given: they are not looked at before */
} xent_cross_entropy_problem;

/* And what comes out. Arrays not wanted have data NULL; loss_rows and lse_rows are contiguous, of the logits' type. */
typedef struct {
    xent_array grad;
    void *loss_rows, *lse_rows;
    double loss; /* reduced, rounded to the logits' type; 0 with XENT_NONE */
    xent_fault fault;
    double sum[2]; /* of the rows' losses, before any division or rounding, in two parts */
} xent_cross_entropy_result;

XENT_API xent_status xent_cross_entropy_f32(const xent_cross_entropy_problem *, xent_cross_entropy_result *);
XENT_API xent_status xent_cross_entropy_f64(const xent_cross_entropy_problem *, xent_cross_entropy_result *);

/* The targets alone, before any logits are made: good or not, and the sum of the row weights. Of the problem: shape,
 * targets, weights. */
XENT_API xent_status xent_check_targets(const xent_cross_entropy_problem *, double *weight, xent_fault *);

/* A row of very many classes in tiles. `rows` points to XENT_ROW_BYTES per row, zeroed before the first tile; the shape,
 * logits and probabilities of the problem are those of the tile, everything else is of the whole row; targets are not
 * checked, and normalizer is the divisor of "mean". First every tile in order with XENT_TILE_SUM; then, for gradients
 * and for target rows or smoothed ones, every tile again with XENT_TILE_GRAD; at last once XENT_TILE_FINISH, without
 * logits and of the shape rows x 1, for the losses and result->sum. */
enum { XENT_ROW_BYTES = 256, XENT_SUM_BYTES = 128 };
typedef struct {
    ptrdiff_t first, classes; /* the class that the tile begins with; the classes of the row */
    void *rows;
} xent_tile;
typedef enum { XENT_TILE_SUM, XENT_TILE_GRAD, XENT_TILE_FINISH } xent_tile_pass;
XENT_API xent_status xent_tile_f32(const xent_cross_entropy_problem *, const xent_tile *, xent_tile_pass,
                                   xent_cross_entropy_result *);
XENT_API xent_status xent_tile_f64(const xent_cross_entropy_problem *, const xent_tile *, xent_tile_pass,
                                   xent_cross_entropy_result *);

/* logsumexp in parts: for each block of xent_block_classes() classes of each row XENT_SUM_BYTES, blocks first (they are
 * plain data: they can be moved and kept); and blocks in their order added up. */
XENT_API ptrdiff_t xent_block_classes(void);
XENT_API xent_status xent_block_sums_f32(const xent_shape *, const xent_array *x, void *sums);
XENT_API xent_status xent_block_sums_f64(const xent_shape *, const xent_array *x, void *sums);
XENT_API void xent_sums_lse_f32(const void *sums, ptrdiff_t blocks, ptrdiff_t rows, float *out);
XENT_API void xent_sums_lse_f64(const void *sums, ptrdiff_t blocks, ptrdiff_t rows, double *out);

/* sums[c] + lost[c] += sum over the rows of z (rows x n, `stride` elements from row to row), in the order of the rows. */
XENT_API void xent_column_sums_f32(const float *z, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums,
                                   double *lost);
XENT_API void xent_column_sums_f64(const double *z, ptrdiff_t rows, ptrdiff_t n, ptrdiff_t stride, double *sums,
                                   double *lost);

/* d2 loss / d logits2 (vector.data NULL), or the Hessian times vector. Into result->grad. */
XENT_API xent_status xent_hessian_f32(const xent_cross_entropy_problem *, const xent_array *vector,
                                      xent_cross_entropy_result *);
XENT_API xent_status xent_hessian_f64(const xent_cross_entropy_problem *, const xent_array *vector,
                                      xent_cross_entropy_result *);

/* Every element its own two-class problem. Of the problem: logits, probabilities, sample_weight, reduction;
 * pos_weight per class; element_weight of the logits' shape. loss_elements: array of the logits' shape. */
XENT_API xent_status xent_sigmoid_f32(const xent_cross_entropy_problem *, const xent_vector *pos_weight,
                                      const xent_array *element_weight, xent_array *loss_elements,
                                      xent_cross_entropy_result *);
XENT_API xent_status xent_sigmoid_f64(const xent_cross_entropy_problem *, const xent_vector *pos_weight,
                                      const xent_array *element_weight, xent_array *loss_elements,
                                      xent_cross_entropy_result *);

/* out: one number per row, contiguous. weights.data not NULL: log |sum w e^x|, sign (may be NULL) gets its sign. */
XENT_API xent_status xent_logsumexp_f32(const xent_shape *, const xent_array *x, const xent_array *weights, float *out,
                                        float *sign);
XENT_API xent_status xent_logsumexp_f64(const xent_shape *, const xent_array *x, const xent_array *weights, double *out,
                                        double *sign);
XENT_API xent_status xent_softmax_f32(const xent_shape *, const xent_array *x, const xent_array *out);
XENT_API xent_status xent_softmax_f64(const xent_shape *, const xent_array *x, const xent_array *out);
XENT_API xent_status xent_log_softmax_f32(const xent_shape *, const xent_array *x, const xent_array *out);
XENT_API xent_status xent_log_softmax_f64(const xent_shape *, const xent_array *x, const xent_array *out);

/* Dense layers, y = f(x W^T + b): everything but the products. Arrays are (rows, columns), contiguous, aligned, in
 * native order; those given as NULL are not wanted. */
typedef enum {
    XENT_IDENTITY,
    XENT_RELU,
    XENT_LEAKY_RELU, /* 0.01 z below 0 */
    XENT_TANH,
    XENT_SIGMOID,
    XENT_SOFTPLUS,
    XENT_GELU, /* z Phi(z) */
    XENT_GELU_TANH,
    XENT_SILU,
    XENT_ACTIVATIONS /* how many */
} xent_activation;

/* y = f(y + bias); saved_z = y + bias; squares[i] = ||y_i||^2. XENT_NO_MEMORY is possible only with squares. */
XENT_API xent_status xent_bias_activation_f32(float *y, const float *bias, xent_activation, float *saved_z,
                                              double *squares, ptrdiff_t rows, ptrdiff_t columns);
XENT_API xent_status xent_bias_activation_f64(double *y, const double *bias, xent_activation, double *saved_z,
                                              double *squares, ptrdiff_t rows, ptrdiff_t columns);

/* grad_z = grad_y f'; saved is z for gelu, gelu_tanh and silu, else y (NULL for the identity). grad_z may be grad_y, or
 * NULL for the identity. grad_bias = the sum of the rows of grad_z, added to what it holds if accumulate;
 * squares[i] = ||grad_z_i||^2. */
XENT_API xent_status xent_activation_backward_f32(const float *grad_y, const float *saved, xent_activation,
                                                  float *grad_z, float *grad_bias, int accumulate, double *squares,
                                                  ptrdiff_t rows, ptrdiff_t columns);
XENT_API xent_status xent_activation_backward_f64(const double *grad_y, const double *saved, xent_activation,
                                                  double *grad_z, double *grad_bias, int accumulate, double *squares,
                                                  ptrdiff_t rows, ptrdiff_t columns);

/* squares[i] = ||x_i||^2 */
XENT_API void xent_row_squares_f32(const float *x, double *squares, ptrdiff_t rows, ptrdiff_t columns);
XENT_API void xent_row_squares_f64(const double *x, double *squares, ptrdiff_t rows, ptrdiff_t columns);

/* norms[i] = sqrt(sum over the layers of squares[0][layer][i] (squares[1][layer][i] + biases[layer])): with the squares
 * of dz_i and of the layer's input, and 1 for a layer with a bias, the norm of sample i's gradient of a network. squares is
 * (2, layers, rows); those of the first layer's input, x (rows, columns), are taken first and put into squares[1][0]. */
XENT_API void xent_network_norms_f32(const float *x, ptrdiff_t columns, double *squares, const double *biases,
                                     float *norms, ptrdiff_t layers, ptrdiff_t rows);
XENT_API void xent_network_norms_f64(const double *x, ptrdiff_t columns, double *squares, const double *biases,
                                     double *norms, ptrdiff_t layers, ptrdiff_t rows);

/* e^x, element by element: what the sums are made of, to be tested on its own. */
XENT_API void xent_exp_f32(const float *x, float *out, ptrdiff_t n);
XENT_API void xent_exp_f64(const double *x, double *out, ptrdiff_t n);

/* How an output lies to an input of the same shape (or of another): whether writing the one may disturb
 * the reading of the other. XENT_NEAR: their extents overlap, and element by element was not looked at. */
typedef enum {
    XENT_APART,
    XENT_SAME,
    XENT_NEAR,
    XENT_FOLDED /* the output's own elements share memory: a stride of 0 */
} xent_relation;
XENT_API xent_relation xent_relate(const xent_shape *out_shape, const xent_array *out, const xent_shape *in_shape,
                                   const xent_array *in);

/* Threads of this process, the caller included; at least 1. */
XENT_API int xent_get_num_threads(void);
XENT_API void xent_set_num_threads(int n);
/* Until as many calls with 0 as with 1: calls come between products of a BLAS, whose threads wait busily for the next; ours
 * then run on other CPUs than their callers. A matter of time alone. */
XENT_API void xent_between_products(int begin);

/* Tiers built in and usable on this CPU, lowest first; NULL past the last. The live one; 0 if set, -1 if unknown. */
XENT_API const char *xent_tier_name(int i);
XENT_API const char *xent_tier(void);
XENT_API int xent_set_tier(const char *name);
XENT_API const char *xent_compiler(void);
XENT_API const char *xent_version(void);

#ifdef __cplusplus
}
#endif
#endif
