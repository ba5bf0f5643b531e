# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
# distutils: language=c
"""The only crossing into C: arrays become pointers, shapes and strides; the GIL is released; nothing is computed."""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    enum:
        NPY_HALF
        NPY_USERDEF
    object PyArray_Scalar(void *data, cnp.dtype descr, object base)

cdef cnp.dtype FLOAT32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT32)
cdef cnp.dtype FLOAT64 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT64)

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
    void xent_network_norms_f32(const double *, const double *, float *, Py_ssize_t, Py_ssize_t)
    void xent_network_norms_f64(const double *, const double *, double *, Py_ssize_t, Py_ssize_t)
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
    const char *xent_tier_name(int)
    const char *xent_tier()
    int xent_set_tier(const char *)
    const char *xent_compiler()
    const char *xent_version()


cdef xent_type type_of(cnp.ndarray a) except *:
    cdef int num = cnp.PyArray_TYPE(a)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(a)
    if num == cnp.NPY_FLOAT64:
        return XENT_FLOAT64
    if num == cnp.NPY_FLOAT32:
        return XENT_FLOAT32
    if num == cnp.NPY_BOOL:
        return XENT_BOOL
    if num == NPY_HALF:
        return XENT_FLOAT16
    if num >= NPY_USERDEF and a.dtype.name == "bfloat16":
        return XENT_BFLOAT16
    if cnp.PyTypeNum_ISSIGNED(num) and cnp.PyTypeNum_ISINTEGER(num):
        return XENT_INT64 if size == 8 else XENT_INT32 if size == 4 else XENT_INT16 if size == 2 else XENT_INT8
    if cnp.PyTypeNum_ISINTEGER(num):
        return XENT_UINT64 if size == 8 else XENT_UINT32 if size == 4 else XENT_UINT16 if size == 2 else XENT_UINT8
    raise TypeError(f"no kernel reads arrays of dtype {a.dtype}")


cdef xent_array array_of(cnp.ndarray a) except *:
    cdef xent_array view
    view.data = NULL
    view.strides = NULL
    view.type = XENT_FLOAT64
    view.swapped = 0
    if a is not None:
        view.data = cnp.PyArray_DATA(a)
        view.strides = <const Py_ssize_t *> cnp.PyArray_STRIDES(a)
        view.type = type_of(a)
        view.swapped = cnp.PyArray_ISBYTESWAPPED(a)
    return view


cdef xent_shape shape_of(cnp.ndarray a, uint64_t class_axes):
    cdef xent_shape shape
    shape.ndim = cnp.PyArray_NDIM(a)
    shape.shape = <const Py_ssize_t *> cnp.PyArray_DIMS(a)
    shape.class_axes = class_axes
    return shape


cdef xent_vector vector_of(cnp.ndarray a) except *:
    """One number per row, in any 1-d or a contiguous array of native order; or one number for all of them (0-d)."""
    cdef xent_vector v
    cdef int ndim
    v.data = NULL
    v.stride = 0
    v.type = XENT_FLOAT64
    if a is not None:
        ndim = cnp.PyArray_NDIM(a)
        v.data = cnp.PyArray_DATA(a)
        v.stride = 0 if ndim == 0 else cnp.PyArray_STRIDE(a, 0) if ndim == 1 else cnp.PyArray_ITEMSIZE(a)
        v.type = type_of(a)
    return v


cpdef int relation(cnp.ndarray out, cnp.ndarray other) except -1:
    """APART, SAME, NEAR, FOLDED as in xent.h; 4: `out` is read-only."""
    cdef xent_shape out_shape = shape_of(out, 0), other_shape = shape_of(other, 0)
    cdef xent_array a = array_of(out), b = array_of(other)
    if not cnp.PyArray_ISWRITEABLE(out):
        return 4
    return <int> xent_relate(&out_shape, &a, &other_shape, &b)


def is_clear(cnp.ndarray out, cnp.ndarray logits, cnp.ndarray targets):
    """Whether `out` is writable, apart from or the same as `logits`, and apart from `targets`."""
    cdef int first = relation(out, logits)
    if targets is None:
        return False
    return (first == <int> XENT_APART or first == <int> XENT_SAME) and relation(out, targets) == <int> XENT_APART


cdef object fault_of(xent_status status, const xent_fault *fault):
    """None, or (row, value, count) of what is wrong with the targets."""
    if status == XENT_OK:
        return None
    if status == XENT_BAD_LABEL:
        return fault.row, fault.unsigned_label if fault.unsigned_label else fault.label, fault.count
    if status == XENT_BAD_PROBABILITY:
        return fault.row, fault.value, fault.count
    raise MemoryError("no memory for the sums of the rows; the output is not complete")


cdef object scalar_of(double value, xent_type type):
    """A NumPy scalar of that type, from a number that it holds exactly."""
    cdef float single = <float> value
    if type == XENT_FLOAT64:
        return PyArray_Scalar(&value, FLOAT64, None)
    return PyArray_Scalar(&single, FLOAT32, None)


cdef int describe(xent_cross_entropy_problem *p, cnp.ndarray logits, uint64_t class_axes, cnp.ndarray labels,
                  cnp.ndarray probabilities, cnp.ndarray class_weight, cnp.ndarray sample_weight,
                  double label_smoothing, double z_loss, double normalizer, object ignore_index, int reduction,
                  cnp.ndarray grad_loss) except -1:
    p.shape = shape_of(logits, class_axes)
    p.logits = array_of(logits)
    p.labels = vector_of(labels)
    p.probabilities = array_of(probabilities)
    p.class_weight = vector_of(class_weight)
    p.sample_weight = vector_of(sample_weight)
    p.grad_loss = vector_of(grad_loss)
    p.label_smoothing = label_smoothing
    p.z_loss = z_loss
    p.normalizer = normalizer
    p.has_ignore = ignore_index is not None
    p.ignore = ignore_index if ignore_index is not None else 0
    p.reduction = <xent_reduction> reduction
    p.bias = vector_of(None)
    p.softcap = 0.0
    p.checked = 0
    return 0


def cross_entropy(cnp.ndarray logits, uint64_t class_axes, cnp.ndarray labels, cnp.ndarray probabilities,
                  cnp.ndarray class_weight, cnp.ndarray sample_weight, double label_smoothing, double z_loss,
                  double normalizer, object ignore_index, int reduction, cnp.ndarray grad_loss, cnp.ndarray grad,
                  cnp.ndarray loss_rows, cnp.ndarray lse_rows, double softcap=0.0):
    """Returns the loss, a scalar (0 for "none"), or (row, value, count) where the targets are at fault."""
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_status status
    describe(&p, logits, class_axes, labels, probabilities, class_weight, sample_weight, label_smoothing, z_loss,
             normalizer, ignore_index, reduction, grad_loss)
    p.softcap = softcap
    r.grad = array_of(grad)
    r.loss_rows = cnp.PyArray_DATA(loss_rows) if loss_rows is not None else NULL
    r.lse_rows = cnp.PyArray_DATA(lse_rows) if lse_rows is not None else NULL
    r.loss = 0.0
    if p.logits.type == XENT_FLOAT64:
        with nogil:
            status = xent_cross_entropy_f64(&p, &r)
    else:
        with nogil:
            status = xent_cross_entropy_f32(&p, &r)
    return scalar_of(r.loss, p.logits.type) if status == XENT_OK else fault_of(status, &r.fault)


# What small calls are made of, most of them: arrays that the kernels take as they are, and no options. Whether that is so
# is asked here, in a tenth of the time that it takes in Python; where it is not, or where a target is at fault, the answer
# is None, and the general way goes through all checks and names what is wrong.

cdef enum:
    LONG_WORK = 16384  # numbers, from which the GIL is released: that and taking it again cost some 50 ns


cdef bint is_real(object a):
    """Whether `a` is an array of float32 or float64 in native order, and not of a subclass."""
    if not cnp.PyArray_CheckExact(a):
        return False
    cdef int type = cnp.PyArray_TYPE(<cnp.ndarray> a)
    return (type == cnp.NPY_FLOAT32 or type == cnp.NPY_FLOAT64) and not cnp.PyArray_ISBYTESWAPPED(<cnp.ndarray> a)


cdef bint are_labels(object a, cnp.ndarray logits):
    """Whether `a` has a class index for each row of logits (..., C), where the kernels can step through them."""
    if not cnp.PyArray_CheckExact(a):
        return False
    cdef cnp.ndarray y = a
    cdef int num = cnp.PyArray_TYPE(y), ndim = cnp.PyArray_NDIM(y), i
    if num == cnp.NPY_BOOL or not cnp.PyTypeNum_ISINTEGER(num) or cnp.PyArray_ISBYTESWAPPED(y):
        return False
    if ndim != cnp.PyArray_NDIM(logits) - 1 or (ndim > 1 and not cnp.PyArray_IS_C_CONTIGUOUS(y)):
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(y, i) != cnp.PyArray_DIM(logits, i):
            return False
    return True


cdef bint fits(object a, cnp.ndarray like, int ndim):
    """Whether `a` is a real array of the dtype of `like`, and of the shape of its first `ndim` axes."""
    cdef int i
    if not is_real(a) or cnp.PyArray_TYPE(<cnp.ndarray> a) != cnp.PyArray_TYPE(like):
        return False
    if cnp.PyArray_NDIM(<cnp.ndarray> a) != ndim:
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(<cnp.ndarray> a, i) != cnp.PyArray_DIM(like, i):
            return False
    return True


def plain_cross_entropy(object logits, object targets, object grad, bint with_grad):
    """The mean loss over the last axis, or (loss, gradient in `grad`, or in a new array for None); or None."""
    if not is_real(logits) or cnp.PyArray_NDIM(<cnp.ndarray> logits) < 1 or not are_labels(targets, logits):
        return None
    cdef cnp.ndarray z = logits, g = None
    cdef int ndim = cnp.PyArray_NDIM(z), relation_to_z
    if cnp.PyArray_DIM(z, ndim - 1) == 0:
        return None
    if with_grad and grad is None:
        g = cnp.PyArray_EMPTY(ndim, cnp.PyArray_DIMS(z), cnp.PyArray_TYPE(z), 0)
    elif with_grad:
        if not fits(grad, z, ndim):
            return None
        g = grad
        relation_to_z = relation(g, z)
        if relation_to_z != <int> XENT_APART and relation_to_z != <int> XENT_SAME:
            return None
        if relation(g, <cnp.ndarray> targets) != <int> XENT_APART:
            return None
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_status status
    describe(&p, z, <uint64_t> 1 << (ndim - 1), <cnp.ndarray> targets, None, None, None, 0.0, 0.0, 0.0, None, 0, None)
    r.grad = array_of(g)
    r.loss_rows = r.lse_rows = NULL
    r.loss = 0.0
    if p.logits.type == XENT_FLOAT64:
        with nogil:
            status = xent_cross_entropy_f64(&p, &r)
    elif cnp.PyArray_SIZE(z) < LONG_WORK:
        status = xent_cross_entropy_f32(&p, &r)
    else:
        with nogil:
            status = xent_cross_entropy_f32(&p, &r)
    if status != XENT_OK:
        return None
    loss = scalar_of(r.loss, p.logits.type)
    return (loss, g) if with_grad else loss


def plain_logsumexp(object a, object axis, object out):
    """logsumexp over all axes (None) or the last (-1) of `a`, in `out` if given; or None."""
    if not is_real(a) or not (axis is None or (type(axis) is int and axis == -1)):
        return None
    cdef cnp.ndarray x = a, rows = None
    cdef int ndim = cnp.PyArray_NDIM(x), kept = 0 if axis is None else ndim - 1
    if ndim < 1 or ndim > 63 or cnp.PyArray_SIZE(x) == 0:
        return None
    if out is None:
        rows = cnp.PyArray_EMPTY(kept, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    elif fits(out, x, kept) and cnp.PyArray_ISCARRAY(<cnp.ndarray> out) and relation(out, x) == <int> XENT_APART:
        rows = out
    else:
        return None
    cdef xent_shape shape = shape_of(x, (<uint64_t> 1 << ndim) - (<uint64_t> 1 << kept))
    cdef xent_array view = array_of(x), nothing = array_of(None)
    cdef void *to = cnp.PyArray_DATA(rows)
    cdef xent_status status
    if view.type == XENT_FLOAT64:
        with nogil:
            status = xent_logsumexp_f64(&shape, &view, &nothing, <double *> to, NULL)
    elif cnp.PyArray_SIZE(x) < LONG_WORK:
        status = xent_logsumexp_f32(&shape, &view, &nothing, <float *> to, NULL)
    else:
        with nogil:
            status = xent_logsumexp_f32(&shape, &view, &nothing, <float *> to, NULL)
    if status != XENT_OK:
        return None
    return rows if out is not None or kept else rows[()]


def loss_block(cnp.ndarray logits, cnp.ndarray labels, cnp.ndarray probabilities, cnp.ndarray class_weight,
               cnp.ndarray sample_weight, double label_smoothing, double z_loss, double divisor, cnp.ndarray bias,
               double softcap, cnp.ndarray grad_loss, cnp.ndarray grad, cnp.ndarray loss_rows, cnp.ndarray lse_rows):
    """The losses of some rows (rows, C) whose targets have been checked, and their gradient over `divisor`; returns
    the sum of the losses in two parts."""
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_status status
    describe(&p, logits, 2, labels, probabilities, class_weight, sample_weight, label_smoothing, z_loss, divisor, None,
             0, grad_loss)
    p.bias = vector_of(bias)
    p.softcap = softcap
    p.checked = 1
    r.grad = array_of(grad)
    r.loss_rows = cnp.PyArray_DATA(loss_rows) if loss_rows is not None else NULL
    r.lse_rows = cnp.PyArray_DATA(lse_rows) if lse_rows is not None else NULL
    if p.logits.type == XENT_FLOAT64:
        with nogil:
            status = xent_cross_entropy_f64(&p, &r)
    else:
        with nogil:
            status = xent_cross_entropy_f32(&p, &r)
    fault_of(status, &r.fault)
    return r.sum[0], r.sum[1]


def loss_tile(int step, Py_ssize_t first, Py_ssize_t classes, cnp.ndarray rows, cnp.ndarray logits, cnp.ndarray labels,
              cnp.ndarray probabilities, cnp.ndarray class_weight, cnp.ndarray sample_weight, double label_smoothing,
              double z_loss, double divisor, cnp.ndarray bias, double softcap, cnp.ndarray grad_loss, cnp.ndarray grad,
              cnp.ndarray loss_rows, cnp.ndarray lse_rows):
    """The same for a tile of classes `first` .. of `classes`; step 0 sums, 1 gradient, 2 losses (logits: rows x 1)."""
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_tile tile
    cdef xent_status status
    describe(&p, logits, 2, labels, probabilities, class_weight, sample_weight, label_smoothing, z_loss, divisor, None,
             0, grad_loss)
    p.bias = vector_of(bias)
    p.softcap = softcap
    tile.first, tile.classes, tile.rows = first, classes, cnp.PyArray_DATA(rows)
    r.grad = array_of(grad)
    r.loss_rows = cnp.PyArray_DATA(loss_rows) if loss_rows is not None else NULL
    r.lse_rows = cnp.PyArray_DATA(lse_rows) if lse_rows is not None else NULL
    if p.logits.type == XENT_FLOAT64:
        with nogil:
            status = xent_tile_f64(&p, &tile, <xent_tile_pass> step, &r)
    else:
        with nogil:
            status = xent_tile_f32(&p, &tile, <xent_tile_pass> step, &r)
    fault_of(status, &r.fault)
    return r.sum[0], r.sum[1]


def target_weight(cnp.ndarray logits, uint64_t class_axes, cnp.ndarray labels, cnp.ndarray probabilities,
                  cnp.ndarray class_weight, cnp.ndarray sample_weight, double label_smoothing, double z_loss,
                  double normalizer, object ignore_index, int reduction):
    """The sum of the row weights, or (row, value, count) where the targets are at fault; of `logits` the shape only."""
    cdef xent_cross_entropy_problem p
    cdef xent_fault fault
    cdef xent_status status
    cdef double weight = 0.0
    describe(&p, logits, class_axes, labels, probabilities, class_weight, sample_weight, label_smoothing, z_loss,
             normalizer, ignore_index, reduction, None)
    with nogil:
        status = xent_check_targets(&p, &weight, &fault)
    return weight if status == XENT_OK else fault_of(status, &fault)


def block_sums(cnp.ndarray x, uint64_t class_axes, cnp.ndarray sums):
    """The sums of the blocks of each row of x: `sums` holds (blocks, rows, SUM_BYTES)."""
    cdef xent_shape shape = shape_of(x, class_axes)
    cdef xent_array a = array_of(x)
    cdef void *to = cnp.PyArray_DATA(sums)
    if a.type == XENT_FLOAT64:
        with nogil:
            status = xent_block_sums_f64(&shape, &a, to)
    else:
        with nogil:
            status = xent_block_sums_f32(&shape, &a, to)
    fault_of(status, NULL)


def sums_lse(cnp.ndarray sums, cnp.ndarray out):
    """logsumexp of rows from the sums of their blocks (blocks, rows, SUM_BYTES), in this order."""
    cdef void *a = cnp.PyArray_DATA(sums)
    cdef void *b = cnp.PyArray_DATA(out)
    cdef Py_ssize_t blocks = sums.shape[0], rows = sums.shape[1]
    if out.dtype == FLOAT32:
        with nogil:
            xent_sums_lse_f32(a, blocks, rows, <float *> b)
    else:
        with nogil:
            xent_sums_lse_f64(a, blocks, rows, <double *> b)


def column_sums(cnp.ndarray z, cnp.ndarray sums, cnp.ndarray lost):
    """sums + lost += z.sum(0), in double; z (rows, n), classes side by side."""
    cdef Py_ssize_t rows = z.shape[0], n = z.shape[1], stride = z.strides[0] // z.itemsize
    cdef void *a = cnp.PyArray_DATA(z)
    cdef double *b = <double *> cnp.PyArray_DATA(sums)
    cdef double *c = <double *> cnp.PyArray_DATA(lost)
    if z.dtype == FLOAT32:
        with nogil:
            xent_column_sums_f32(<const float *> a, rows, n, stride, b, c)
    else:
        with nogil:
            xent_column_sums_f64(<const double *> a, rows, n, stride, b, c)


BLOCK_CLASSES = xent_block_classes()
ROW_BYTES = XENT_ROW_BYTES
SUM_BYTES = XENT_SUM_BYTES


def hessian(cnp.ndarray logits, uint64_t class_axes, cnp.ndarray labels, cnp.ndarray probabilities,
            cnp.ndarray class_weight, cnp.ndarray sample_weight, double label_smoothing, double z_loss,
            double normalizer, object ignore_index, int reduction, cnp.ndarray vector, cnp.ndarray out):
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_array v = array_of(vector)
    cdef xent_status status
    describe(&p, logits, class_axes, labels, probabilities, class_weight, sample_weight, label_smoothing, z_loss,
             normalizer, ignore_index, reduction, None)
    r.grad = array_of(out)
    r.loss_rows = r.lse_rows = NULL
    if p.logits.type == XENT_FLOAT64:
        with nogil:
            status = xent_hessian_f64(&p, &v, &r)
    else:
        with nogil:
            status = xent_hessian_f32(&p, &v, &r)
    return fault_of(status, &r.fault)


def sigmoid(cnp.ndarray logits, uint64_t class_axes, cnp.ndarray targets, cnp.ndarray pos_weight,
            cnp.ndarray row_weight, cnp.ndarray element_weight, int reduction, cnp.ndarray grad,
            cnp.ndarray losses):
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_vector positive = vector_of(pos_weight)
    cdef xent_array weight = array_of(element_weight), elements = array_of(losses)
    cdef xent_status status
    describe(&p, logits, class_axes, None, targets, None, row_weight, 0.0, 0.0, 0.0, None, reduction, None)
    r.grad = array_of(grad)
    r.loss_rows = r.lse_rows = NULL
    r.loss = 0.0
    if p.logits.type == XENT_FLOAT64:
        with nogil:
            status = xent_sigmoid_f64(&p, &positive, &weight, &elements, &r)
    else:
        with nogil:
            status = xent_sigmoid_f32(&p, &positive, &weight, &elements, &r)
    return scalar_of(r.loss, p.logits.type) if status == XENT_OK else fault_of(status, &r.fault)


def logsumexp(cnp.ndarray x, uint64_t class_axes, cnp.ndarray weights, cnp.ndarray out, cnp.ndarray sign):
    cdef xent_shape shape = shape_of(x, class_axes)
    cdef xent_array a = array_of(x), b = array_of(weights)
    cdef void *to = cnp.PyArray_DATA(out)
    cdef void *sign_to = cnp.PyArray_DATA(sign) if sign is not None else NULL
    if a.type == XENT_FLOAT64:
        with nogil:
            status = xent_logsumexp_f64(&shape, &a, &b, <double *> to, <double *> sign_to)
    else:
        with nogil:
            status = xent_logsumexp_f32(&shape, &a, &b, <float *> to, <float *> sign_to)
    fault_of(status, NULL)


def softmax(cnp.ndarray x, uint64_t class_axes, cnp.ndarray out):
    cdef xent_shape shape = shape_of(x, class_axes)
    cdef xent_array a = array_of(x), b = array_of(out)
    if a.type == XENT_FLOAT64:
        with nogil:
            status = xent_softmax_f64(&shape, &a, &b)
    else:
        with nogil:
            status = xent_softmax_f32(&shape, &a, &b)
    fault_of(status, NULL)


def log_softmax(cnp.ndarray x, uint64_t class_axes, cnp.ndarray out):
    cdef xent_shape shape = shape_of(x, class_axes)
    cdef xent_array a = array_of(x), b = array_of(out)
    if a.type == XENT_FLOAT64:
        with nogil:
            status = xent_log_softmax_f64(&shape, &a, &b)
    else:
        with nogil:
            status = xent_log_softmax_f32(&shape, &a, &b)
    fault_of(status, NULL)


# Dense layers. These are called several times in each training step, on arrays that their callers have checked: only
# what would read or write out of bounds is asked about again, and the GIL is kept where the work is short.

cdef void *dense_data(cnp.ndarray a, int type, Py_ssize_t size, bint written) except? NULL:
    """The data of a contiguous, aligned, native array of that type and size; NULL for None."""
    if a is None:
        return NULL
    if (cnp.PyArray_TYPE(a) != type or cnp.PyArray_SIZE(a) != size or not cnp.PyArray_ISCARRAY_RO(a)
            or (written and not cnp.PyArray_ISWRITEABLE(a))):
        raise ValueError(f"a dense kernel takes contiguous native arrays of one dtype and fitting sizes, writable where "
                         f"it writes; got shape {(<object> a).shape} of {a.dtype} for {size} elements")
    return cnp.PyArray_DATA(a)


cdef int dense_type(cnp.ndarray a, int activation) except -1:
    cdef int type = cnp.PyArray_TYPE(a)
    if type not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64) or cnp.PyArray_NDIM(a) != 2:
        raise TypeError(f"a dense kernel takes float32 or float64 of shape (rows, columns), got {a.dtype} of shape "
                        f"{(<object> a).shape}")
    if not 0 <= activation < <int> XENT_ACTIVATIONS:
        raise ValueError(f"no activation {activation}")
    return type


cdef struct dense_sweep:
    # Of a forward sweep: y, bias, saved (z) and squares; of a backward one: y (dy), saved, dz, bias (its gradient), squares.
    int type
    xent_activation activation
    Py_ssize_t rows, columns
    void *y
    void *bias
    void *saved
    void *dz
    double *squares
    bint accumulate


cdef int forward_of(dense_sweep *w, cnp.ndarray y, cnp.ndarray bias, int activation, cnp.ndarray saved,
                    cnp.ndarray squares) except -1:
    w.type = dense_type(y, activation)
    w.rows, w.columns = cnp.PyArray_DIM(y, 0), cnp.PyArray_DIM(y, 1)
    w.activation = <xent_activation> activation
    w.y = dense_data(y, w.type, w.rows * w.columns, True)
    w.bias = dense_data(bias, w.type, w.columns, False)
    w.saved = dense_data(saved, w.type, w.rows * w.columns, True)
    w.squares = <double *> dense_data(squares, cnp.NPY_FLOAT64, w.rows, True)
    return 0


cdef int backward_of(dense_sweep *w, cnp.ndarray grad_y, cnp.ndarray saved, int activation, cnp.ndarray grad_z,
                     cnp.ndarray grad_bias, bint accumulate, cnp.ndarray squares) except -1:
    w.type = dense_type(grad_y, activation)
    w.rows, w.columns = cnp.PyArray_DIM(grad_y, 0), cnp.PyArray_DIM(grad_y, 1)
    w.activation = <xent_activation> activation
    w.y = dense_data(grad_y, w.type, w.rows * w.columns, False)
    w.saved = dense_data(saved, w.type, w.rows * w.columns, False)
    w.dz = dense_data(grad_z, w.type, w.rows * w.columns, True)
    w.bias = dense_data(grad_bias, w.type, w.columns, True)
    w.squares = <double *> dense_data(squares, cnp.NPY_FLOAT64, w.rows, True)
    w.accumulate = accumulate
    if activation and (saved is None or grad_z is None):
        raise ValueError("only the identity does without saved and grad_z")
    return 0


cdef xent_status forward_now(const dense_sweep *w) noexcept nogil:
    if w.type == cnp.NPY_FLOAT32:
        return xent_bias_activation_f32(<float *> w.y, <const float *> w.bias, w.activation, <float *> w.saved,
                                        w.squares, w.rows, w.columns)
    return xent_bias_activation_f64(<double *> w.y, <const double *> w.bias, w.activation, <double *> w.saved,
                                    w.squares, w.rows, w.columns)


cdef xent_status backward_now(const dense_sweep *w) noexcept nogil:
    if w.type == cnp.NPY_FLOAT32:
        return xent_activation_backward_f32(<const float *> w.y, <const float *> w.saved, w.activation,
                                            <float *> w.dz, <float *> w.bias, w.accumulate, w.squares, w.rows,
                                            w.columns)
    return xent_activation_backward_f64(<const double *> w.y, <const double *> w.saved, w.activation,
                                        <double *> w.dz, <double *> w.bias, w.accumulate, w.squares, w.rows,
                                        w.columns)


cdef void row_squares_now(int type, const void *x, double *out, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    if type == cnp.NPY_FLOAT32:
        xent_row_squares_f32(<const float *> x, out, rows, columns)
    else:
        xent_row_squares_f64(<const double *> x, out, rows, columns)


cdef bint is_short(int type, Py_ssize_t size) noexcept:
    return type == cnp.NPY_FLOAT32 and size < LONG_WORK


cdef int forward_sweep(const dense_sweep *w) except -1:
    cdef xent_status status
    if is_short(w.type, w.rows * w.columns):
        status = forward_now(w)
    else:
        with nogil:
            status = forward_now(w)
    if status != XENT_OK:
        fault_of(status, NULL)
    return 0


cdef int backward_sweep(const dense_sweep *w) except -1:
    cdef xent_status status
    if is_short(w.type, w.rows * w.columns):
        status = backward_now(w)
    else:
        with nogil:
            status = backward_now(w)
    if status != XENT_OK:
        fault_of(status, NULL)
    return 0


def bias_activation(cnp.ndarray y not None, cnp.ndarray bias, int activation, cnp.ndarray saved,
                    cnp.ndarray squares=None):
    """In place: z = y + bias, put into `saved` if given; y = f(z); squares (float64) = ||y_i||^2."""
    cdef dense_sweep w
    forward_of(&w, y, bias, activation, saved, squares)
    forward_sweep(&w)


def activation_backward(cnp.ndarray grad_y not None, cnp.ndarray saved, int activation, cnp.ndarray grad_z,
                        cnp.ndarray grad_bias, bint accumulate, cnp.ndarray squares):
    """grad_z = grad_y f'(saved); grad_bias (+)= its sum over the rows; squares (float64) = ||grad_z_i||^2.

    For the identity, `saved` may be None, and grad_z too: then it is not written.
    """
    cdef dense_sweep w
    backward_of(&w, grad_y, saved, activation, grad_z, grad_bias, accumulate, squares)
    backward_sweep(&w)


def row_squares(cnp.ndarray x not None, cnp.ndarray out not None):
    """out (float64) = ||x_i||^2 of each row of x."""
    cdef int type = dense_type(x, 0)
    cdef Py_ssize_t rows = cnp.PyArray_DIM(x, 0), columns = cnp.PyArray_DIM(x, 1)
    cdef void *data = dense_data(x, type, rows * columns, False)
    cdef double *to = <double *> dense_data(out, cnp.NPY_FLOAT64, rows, True)
    if is_short(type, rows * columns):
        row_squares_now(type, data, to, rows, columns)
    else:
        with nogil:
            row_squares_now(type, data, to, rows, columns)


# The sweeps of a training step, bound to their arrays, which are checked once and kept alive. Of the arrays, only those
# that others own (the biases, their gradients, the norms) could have become others since: they are checked every time.

cdef class ForwardSweep:
    """`bias_activation`, each time it is run."""
    cdef dense_sweep w
    cdef cnp.ndarray bias
    cdef tuple alive

    def __cinit__(self, cnp.ndarray y not None, cnp.ndarray bias, int activation, cnp.ndarray saved,
                  cnp.ndarray squares):
        forward_of(&self.w, y, bias, activation, saved, squares)
        self.bias, self.alive = bias, (y, saved, squares)

    def run(self):
        self.w.bias = dense_data(self.bias, self.w.type, self.w.columns, False)
        forward_sweep(&self.w)


cdef class BackwardSweep:
    """`activation_backward` in place, each time it is run; and last of all, if given, the norms."""
    cdef dense_sweep w
    cdef cnp.ndarray grad_bias
    cdef NetworkNorms norms
    cdef tuple alive

    def __cinit__(self, cnp.ndarray dz not None, cnp.ndarray saved, int activation, cnp.ndarray grad_bias,
                  cnp.ndarray squares, NetworkNorms norms=None):
        backward_of(&self.w, dz, saved, activation, dz if activation else None, grad_bias, False, squares)
        self.grad_bias, self.norms, self.alive = grad_bias, norms, (dz, saved, squares)

    def run(self, cnp.ndarray x not None):
        """x: the network's input, for the norms; a ValueError, and nothing done, if they cannot read it."""
        cdef const void *data = self.norms.input_of(x) if self.norms is not None else NULL
        self.w.bias = dense_data(self.grad_bias, self.w.type, self.w.columns, True)
        backward_sweep(&self.w)
        if self.norms is not None:
            self.norms.take(data)


cdef class NetworkNorms:
    """norms (rows,) of the samples' gradients, from squares (2, layers, rows), of dz and of inputs, and biases (layers,);
    the squares of the first input, of `columns` columns, are taken first."""
    cdef double *squares
    cdef const double *biases
    cdef Py_ssize_t layers, rows, columns
    cdef int type
    cdef void *to
    cdef cnp.ndarray norms
    cdef tuple alive

    def __cinit__(self, cnp.ndarray squares not None, cnp.ndarray biases not None, cnp.ndarray norms not None,
                  Py_ssize_t columns):
        self.layers, self.rows, self.columns = cnp.PyArray_SIZE(biases), cnp.PyArray_SIZE(norms), columns
        self.type = cnp.NPY_FLOAT32 if cnp.PyArray_TYPE(norms) == cnp.NPY_FLOAT32 else cnp.NPY_FLOAT64
        self.squares = <double *> dense_data(squares, cnp.NPY_FLOAT64, 2 * self.layers * self.rows, True)
        self.biases = <const double *> dense_data(biases, cnp.NPY_FLOAT64, self.layers, False)
        self.norms, self.alive = norms, (squares, biases)

    cdef const void *input_of(self, cnp.ndarray x) except? NULL:
        self.to = dense_data(self.norms, self.type, self.rows, True)
        return dense_data(x, self.type, self.rows * self.columns, False)

    cdef void take(self, const void *x) noexcept:
        if is_short(self.type, self.rows * self.columns):
            self.now(x)
        else:
            with nogil:
                self.now(x)

    cdef void now(self, const void *x) noexcept nogil:
        row_squares_now(self.type, x, self.squares + self.layers * self.rows, self.rows, self.columns)
        if self.type == cnp.NPY_FLOAT32:
            xent_network_norms_f32(self.squares, self.biases, <float *> self.to, self.layers, self.rows)
        else:
            xent_network_norms_f64(self.squares, self.biases, <double *> self.to, self.layers, self.rows)

    def run(self, cnp.ndarray x not None):
        self.take(self.input_of(x))


def exp(cnp.ndarray x, cnp.ndarray out):
    """e**x of a contiguous float32 or float64 array, as the kernels compute it; for tests."""
    cdef Py_ssize_t n = x.size
    if x.dtype != out.dtype or out.size != n or not (x.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError("x and out must be contiguous arrays of one dtype and size")
    cdef xent_type type = type_of(x)
    cdef void *a = cnp.PyArray_DATA(x)
    cdef void *b = cnp.PyArray_DATA(out)
    if type == XENT_FLOAT32:
        with nogil:
            xent_exp_f32(<const float *> a, <float *> b, n)
    elif type == XENT_FLOAT64:
        with nogil:
            xent_exp_f64(<const double *> a, <double *> b, n)
    else:
        raise TypeError(f"exp takes float32 or float64, not {x.dtype}")


def get_num_threads():
    return xent_get_num_threads()


def set_num_threads(int n):
    xent_set_num_threads(n)


def tier():
    """The tier whose kernels the live table holds."""
    return xent_tier().decode()


def tiers():
    """The tiers built in that this CPU can run, lowest first."""
    names = []
    cdef int i = 0
    while xent_tier_name(i) != NULL:
        names.append(xent_tier_name(i).decode())
        i += 1
    return names


def set_tier(str name):
    """Fill the table up to the tier of that name."""
    if xent_set_tier(name.encode()) != 0:
        raise ValueError(f"no tier {name!r} here: this build and CPU have {', '.join(tiers())}")


def compiler():
    return xent_compiler().decode()


def version():
    return xent_version().decode()
