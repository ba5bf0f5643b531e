# What small calls are made of, most of them: arrays that the kernels take as they are, and no options. Whether that is so
# is asked here, in a tenth of the time that it takes in Python; where it is not, or where a target is at fault, the answer
# is None, and the general way goes through all checks and names what is wrong.

cdef enum:
    LONG_WORK = 16384  # numbers, from which the GIL is released


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
    status = loss_of(&p, &r, cnp.PyArray_SIZE(z) < LONG_WORK)
    if status == XENT_BAD_LABEL:
        return None
    fault_of(status, &r.fault)
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
    fault_of(lse_of(&shape, &view, &nothing, cnp.PyArray_DATA(rows), NULL, cnp.PyArray_SIZE(x) < LONG_WORK), NULL)
    return rows if out is not None or kept else rows[()]
