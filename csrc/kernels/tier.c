/* This tier's column of the table: its kernels, over whatever a lower tier put there. */
#include "lanes.h"

#define KERNELS_OF(DTYPE_)                                                                                            \
    void XENT_PASTE(logsumexp_##DTYPE_, XENT_TIER)(const xent_reduce_args *, ptrdiff_t, ptrdiff_t);                   \
    void XENT_PASTE(weighted_logsumexp_##DTYPE_, XENT_TIER)(const xent_reduce_args *, ptrdiff_t, ptrdiff_t);          \
    void XENT_PASTE(softmax_##DTYPE_, XENT_TIER)(const xent_reduce_args *, ptrdiff_t, ptrdiff_t);                     \
    void XENT_PASTE(log_softmax_##DTYPE_, XENT_TIER)(const xent_reduce_args *, ptrdiff_t, ptrdiff_t);                 \
    void XENT_PASTE(cross_entropy_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);      \
    void XENT_PASTE(soft_cross_entropy_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t); \
    void XENT_PASTE(hessian_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);            \
    void XENT_PASTE(sigmoid_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);            \
    void XENT_PASTE(packed_loss_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);        \
    void XENT_PASTE(packed_reduce_##DTYPE_, XENT_TIER)(const xent_reduce_args *, ptrdiff_t, ptrdiff_t);               \
    void XENT_PASTE(made_rows_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);          \
    void XENT_PASTE(tile_sum_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);           \
    void XENT_PASTE(tile_grad_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);          \
    void XENT_PASTE(tile_finish_##DTYPE_, XENT_TIER)(const xent_loss_args *, ptrdiff_t, ptrdiff_t, ptrdiff_t);        \
    void XENT_PASTE(block_sums_##DTYPE_, XENT_TIER)(const xent_reduce_args *, ptrdiff_t, ptrdiff_t);                  \
    void XENT_PASTE(sums_lse_##DTYPE_, XENT_TIER)(const void *, ptrdiff_t, ptrdiff_t, void *, void *);                \
    void XENT_PASTE(column_sums_##DTYPE_, XENT_TIER)(const xent_column_args *, ptrdiff_t, ptrdiff_t);                 \
    void XENT_PASTE(bias_activation_##DTYPE_, XENT_TIER)(const xent_dense_args *, const xent_dense_tile *);           \
    void XENT_PASTE(activation_backward_##DTYPE_, XENT_TIER)(const xent_dense_args *, const xent_dense_tile *);       \
    void XENT_PASTE(bias_gradient_##DTYPE_, XENT_TIER)(const xent_dense_args *, const xent_dense_tile *, ptrdiff_t);  \
    void XENT_PASTE(row_squares_##DTYPE_, XENT_TIER)(const void *, double *, ptrdiff_t, ptrdiff_t);                   \
    void XENT_PASTE(network_norms_##DTYPE_, XENT_TIER)(const double *, const double *, void *, ptrdiff_t, ptrdiff_t);

KERNELS_OF(f32)
KERNELS_OF(f64)
void XENT_PASTE(exp_f32, XENT_TIER)(const float *, float *, ptrdiff_t);
void XENT_PASTE(exp_f64, XENT_TIER)(const double *, double *, ptrdiff_t);
int XENT_PASTE(check_numbers, XENT_TIER)(const xent_layout *, const xent_view *, ptrdiff_t, ptrdiff_t,
                                         const xent_vector *, double, double, double *);

#define COLUMN(DTYPE_)                                                                                                \
    (xent_kernels) {                                                                                                  \
        .logsumexp = XENT_PASTE(logsumexp_##DTYPE_, XENT_TIER),                                                       \
        .weighted_logsumexp = XENT_PASTE(weighted_logsumexp_##DTYPE_, XENT_TIER),                                     \
        .softmax = XENT_PASTE(softmax_##DTYPE_, XENT_TIER),                                                           \
        .log_softmax = XENT_PASTE(log_softmax_##DTYPE_, XENT_TIER),                                                   \
        .cross_entropy = XENT_PASTE(cross_entropy_##DTYPE_, XENT_TIER),                                               \
        .soft_cross_entropy = XENT_PASTE(soft_cross_entropy_##DTYPE_, XENT_TIER),                                     \
        .hessian = XENT_PASTE(hessian_##DTYPE_, XENT_TIER), .sigmoid = XENT_PASTE(sigmoid_##DTYPE_, XENT_TIER),       \
        .packed_loss = XENT_PASTE(packed_loss_##DTYPE_, XENT_TIER),                                                   \
        .packed_reduce = XENT_PASTE(packed_reduce_##DTYPE_, XENT_TIER),                                               \
        .made_rows = XENT_PASTE(made_rows_##DTYPE_, XENT_TIER), .tile_sum = XENT_PASTE(tile_sum_##DTYPE_, XENT_TIER), \
        .tile_grad = XENT_PASTE(tile_grad_##DTYPE_, XENT_TIER),                                                       \
        .tile_finish = XENT_PASTE(tile_finish_##DTYPE_, XENT_TIER),                                                   \
        .block_sums = XENT_PASTE(block_sums_##DTYPE_, XENT_TIER),                                                     \
        .sums_lse = XENT_PASTE(sums_lse_##DTYPE_, XENT_TIER),                                                         \
        .column_sums = XENT_PASTE(column_sums_##DTYPE_, XENT_TIER),                                                   \
        .bias_activation = XENT_PASTE(bias_activation_##DTYPE_, XENT_TIER),                                           \
        .activation_backward = XENT_PASTE(activation_backward_##DTYPE_, XENT_TIER),                                   \
        .bias_gradient = XENT_PASTE(bias_gradient_##DTYPE_, XENT_TIER),                                               \
        .row_squares = XENT_PASTE(row_squares_##DTYPE_, XENT_TIER),                                                   \
        .network_norms = XENT_PASTE(network_norms_##DTYPE_, XENT_TIER),                                               \
    }

#define STRING_(x) #x
#define STRING(x)  STRING_(x)

void XENT_PASTE(xent_fill, XENT_TIER)(xent_table *table);
void XENT_PASTE(xent_fill, XENT_TIER)(xent_table *table) {
    table->tier = STRING(XENT_TIER);
    table->f32 = COLUMN(f32);
    table->f64 = COLUMN(f64);
    table->exp_f32 = XENT_PASTE(exp_f32, XENT_TIER);
    table->exp_f64 = XENT_PASTE(exp_f64, XENT_TIER);
    table->check_numbers = XENT_PASTE(check_numbers, XENT_TIER);
}
