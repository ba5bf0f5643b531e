# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
# distutils: language=c
"""The only crossing into C: arrays become pointers, shapes and strides; the GIL is released; nothing is computed."""

cimport numpy as cnp
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint64_t

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    enum:
        NPY_HALF
        NPY_USERDEF
    object PyArray_Scalar(void *data, cnp.dtype descr, object base)

cdef cnp.dtype FLOAT32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT32)
cdef cnp.dtype FLOAT64 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT64)

include "_extern.pxi"


cdef int bfloat16_num = -1  # of NumPy's types, once an array of it was seen: asked for its name, a dtype takes 2 us


cdef bint is_bfloat16(cnp.ndarray a):
    """Whether `a` is of bfloat16, of the package ml_dtypes."""
    global bfloat16_num
    cdef int num = cnp.PyArray_TYPE(a)
    if num < NPY_USERDEF:
        return False
    if num == bfloat16_num:
        return True
    if a.dtype.name != "bfloat16":
        return False
    bfloat16_num = num
    return True


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
    if is_bfloat16(a):
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


cdef bint can_hold(cnp.ndarray out, cnp.ndarray x) except -1:
    """Whether `out` is writable, and apart from or the same as `x`."""
    cdef int to_x = relation(out, x)
    return to_x == <int> XENT_APART or to_x == <int> XENT_SAME


cpdef bint is_clear(cnp.ndarray out, cnp.ndarray logits, cnp.ndarray targets) except -1:
    """Whether `out` can hold results of `logits`, and is apart from `targets`."""
    return targets is not None and can_hold(out, logits) and relation(out, targets) == <int> XENT_APART


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


cdef xent_status loss_of(const xent_cross_entropy_problem *p, xent_cross_entropy_result *r, bint is_short) noexcept:
    """The GIL is kept where the work is short: releasing it and taking it again costs some 50 ns."""
    if is_short and p.logits.type != XENT_FLOAT64:
        return xent_cross_entropy_f32(p, r)
    with nogil:
        if p.logits.type == XENT_FLOAT64:
            return xent_cross_entropy_f64(p, r)
        return xent_cross_entropy_f32(p, r)


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
    status = loss_of(&p, &r, False)
    return scalar_of(r.loss, p.logits.type) if status == XENT_OK else fault_of(status, &r.fault)


include "_plain.pxi"
include "_blocks.pxi"


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


cdef xent_status lse_of(const xent_shape *shape, const xent_array *a, const xent_array *b, void *to, void *sign,
                        bint is_short) noexcept:
    if is_short and a.type == XENT_FLOAT32:
        return xent_logsumexp_f32(shape, a, b, <float *> to, <float *> sign)
    with nogil:
        if a.type == XENT_FLOAT64:
            return xent_logsumexp_f64(shape, a, b, <double *> to, <double *> sign)
        return xent_logsumexp_f32(shape, a, b, <float *> to, <float *> sign)


def logsumexp(cnp.ndarray x, uint64_t class_axes, cnp.ndarray weights, cnp.ndarray out, cnp.ndarray sign):
    cdef xent_shape shape = shape_of(x, class_axes)
    cdef xent_array a = array_of(x), b = array_of(weights)
    cdef void *to = cnp.PyArray_DATA(out)
    cdef void *sign_to = cnp.PyArray_DATA(sign) if sign is not None else NULL
    fault_of(lse_of(&shape, &a, &b, to, sign_to, False), NULL)


cdef xent_status softmax_of(const xent_shape *shape, const xent_array *x, const xent_array *out, bint logarithm,
                            bint is_short) noexcept:
    if is_short and x.type != XENT_FLOAT64:
        return xent_log_softmax_f32(shape, x, out) if logarithm else xent_softmax_f32(shape, x, out)
    with nogil:
        if x.type == XENT_FLOAT64:
            return xent_log_softmax_f64(shape, x, out) if logarithm else xent_softmax_f64(shape, x, out)
        return xent_log_softmax_f32(shape, x, out) if logarithm else xent_softmax_f32(shape, x, out)


def softmax(cnp.ndarray x, uint64_t class_axes, cnp.ndarray out, bint logarithm):
    """The softmax, or its logarithm."""
    cdef xent_shape shape = shape_of(x, class_axes)
    cdef xent_array a = array_of(x), b = array_of(out)
    fault_of(softmax_of(&shape, &a, &b, logarithm, False), NULL)


include "_dense.pxi"


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


def between_products(bint begin):
    """From now on, until the same with False, calls come between products of a BLAS whose threads wait busily."""
    xent_between_products(begin)


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
