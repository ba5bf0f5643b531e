# What csrc/xent.h declares; included in _kernels.pyx.

cdef extern from "xent.h" nogil:
    ctypedef enum xent_type:
        XENT_BOOL
        XENT_INT8
        XENT_UINT8
        XENT_INT16
        XENT_UINT16
        XENT_INT32
        XENT_UINT32
        XENT_INT64
        XENT_UINT64
        XENT_FLOAT32
        XENT_FLOAT64
        XENT_FLOAT16
        XENT_BFLOAT16
    ctypedef struct xent_shape:
        int ndim
        const Py_ssize_t *shape
        uint64_t class_axes
    ctypedef struct xent_array:
        void *data
        const Py_ssize_t *strides
        xent_type type
        int swapped
    ctypedef struct xent_vector:
        const void *data
        Py_ssize_t stride
        xent_type type
    ctypedef enum xent_status:
        XENT_OK
        XENT_BAD_LABEL
        XENT_BAD_PROBABILITY
        XENT_NO_MEMORY
    ctypedef struct xent_fault:
        Py_ssize_t row
        Py_ssize_t count
        int64_t label
        uint64_t unsigned_label
        double value
    ctypedef enum xent_reduction:
        XENT_MEAN
        XENT_SUM
        XENT_NONE
    ctypedef struct xent_cross_entropy_problem:
        xent_shape shape
        xent_array logits
        xent_vector labels
        xent_array probabilities
        xent_vector class_weight
        xent_vector sample_weight
        xent_vector grad_loss
        double label_smoothing
        double z_loss
        double normalizer
        int has_ignore
        int64_t ignore
        xent_reduction reduction
        xent_vector bias
        double softcap
        int checked
    ctypedef struct xent_cross_entropy_result:
        xent_array grad
        void *loss_rows
        void *lse_rows
        double loss
        xent_fault fault
        double sum[2]
    ctypedef struct xent_tile:
        Py_ssize_t first
        Py_ssize_t classes
        void *rows
    ctypedef enum xent_tile_pass:
        XENT_TILE_SUM
    enum:
        XENT_ROW_BYTES
        XENT_SUM_BYTES
    xent_status xent_check_targets(const xent_cross_entropy_problem *, double *, xent_fault *)
    xent_status xent_tile_f32(const xent_cross_entropy_problem *, const xent_tile *, xent_tile_pass,
                              xent_cross_entropy_result *)
    xent_status xent_tile_f64(const xent_cross_entropy_problem *, const xent_tile *, xent_tile_pass,
                              xent_cross_entropy_result *)
    Py_ssize_t xent_block_classes()
    xent_status xent_block_sums_f32(const xent_shape *, const xent_array *, void *)
    xent_status xent_block_sums_f64(const xent_shape *, const xent_array *, void *)
    void xent_sums_lse_f32(const void *, Py_ssize_t, Py_ssize_t, float *)
    void xent_sums_lse_f64(const void *, Py_ssize_t, Py_ssize_t, double *)
    void xent_column_sums_f32(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *, double *)
    void xent_column_sums_f64(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *, double *)
    xent_status xent_cross_entropy_f32(const xent_cross_entropy_problem *, xent_cross_entropy_result *)
    xent_status xent_cross_entropy_f64(const xent_cross_entropy_problem *, xent_cross_entropy_result *)
    xent_status xent_hessian_f32(const xent_cross_entropy_problem *, const xent_array *, xent_cross_entropy_result *)
    xent_status xent_hessian_f64(const xent_cross_entropy_problem *, const xent_array *, xent_cross_entropy_result *)
    xent_status xent_sigmoid_f32(const xent_cross_entropy_problem *, const xent_vector *, const xent_array *,
                                 xent_array *, xent_cross_entropy_result *)
    xent_status xent_sigmoid_f64(const xent_cross_entropy_problem *, const xent_vector *, const xent_array *,
                                 xent_array *, xent_cross_entropy_result *)
    xent_status xent_logsumexp_f32(const xent_shape *, const xent_array *, const xent_array *, float *, float *)
    xent_status xent_logsumexp_f64(const xent_shape *, const xent_array *, const xent_array *, double *, double *)
    xent_status xent_softmax_f32(const xent_shape *, const xent_array *, const xent_array *)
    xent_status xent_softmax_f64(const xent_shape *, const xent_array *, const xent_array *)
    xent_status xent_log_softmax_f32(const xent_shape *, const xent_array *, const xent_array *)
    xent_status xent_log_softmax_f64(const xent_shape *, const xent_array *, const xent_array *)
    ctypedef enum xent_activation:
        XENT_ACTIVATIONS
    xent_status xent_bias_activation_f32(float *, const float *, xent_activation, float *, double *, Py_ssize_t,
                                         Py_ssize_t)
    xent_status xent_bias_activation_f64(double *, const double *, xent_activation, double *, double *, Py_ssize_t,
                                         Py_ssize_t)
    xent_status xent_activation_backward_f32(const float *, const float *, xent_activation, float *, float *, int,
                                             double *, Py_ssize_t, Py_ssize_t)
    xent_status xent_activation_backward_f64(const double *, const double *, xent_activation, double *, double *, int,
                                             double *, Py_ssize_t, Py_ssize_t)
    void xent_row_squares_f32(const float *, double *, Py_ssize_t, Py_ssize_t)
    void xent_row_squares_f64(const double *, double *, Py_ssize_t, Py_ssize_t)
    void xent_network_norms_f32(const float *, Py_ssize_t, double *, const double *, float *, Py_ssize_t, Py_ssize_t)
    void xent_network_norms_f64(const double *, Py_ssize_t, double *, const double *, double *, Py_ssize_t, Py_ssize_t)
    void xent_exp_f32(const float *, float *, Py_ssize_t)
    void xent_exp_f64(const double *, double *, Py_ssize_t)
    ctypedef enum xent_relation:
        XENT_APART
        XENT_SAME
        XENT_NEAR
        XENT_FOLDED
    xent_relation xent_relate(const xent_shape *, const xent_array *, const xent_shape *, const xent_array *)
    int xent_get_num_threads()
    void xent_set_num_threads(int)
    void xent_between_products(int)
    const char *xent_tier_name(int)
    const char *xent_tier()
    int xent_set_tier(const char *)
    const char *xent_compiler()
    const char *xent_version()
