# What small calls are made of, most of them: arrays that the kernels take as they are, and no options. Whether that is so
# is asked here, in a tenth of the time that it takes in Python; where it is not, or where a target is at fault, the answer
# is None, and the general way goes through all checks and names what is wrong.

cdef enum:
    LONG_WORK = 16384  # numbers, from which the GIL is released
    MOST_AXES = 63  # which have a bit each


cdef bint is_floating(object a):
    """Whether `a` is an array of floats that the kernels take as logits, in native order, and not of a subclass."""
    if not cnp.PyArray_CheckExact(a) or cnp.PyArray_ISBYTESWAPPED(<cnp.ndarray> a):
        return False
    cdef int num = cnp.PyArray_TYPE(<cnp.ndarray> a)
    return num == cnp.NPY_FLOAT32 or num == cnp.NPY_FLOAT64 or num == NPY_HALF or is_bfloat16(<cnp.ndarray> a)


cdef int place_of(object axis, int ndim):
    """Where an `axis` that is an int is among `ndim`, counted from the front; -1 where it is not."""
    if type(axis) is not int or not -ndim <= axis < ndim:
        return -1
    cdef int at = axis
    return at + ndim if at < 0 else at


cdef int without(cnp.ndarray a, int axis, cnp.npy_intp *shape):
    """The shape of `a` but for one axis to `shape`; how many axes there are."""
    cdef int i, n = 0
    for i in range(cnp.PyArray_NDIM(a)):
        if i != axis:
            shape[n] = cnp.PyArray_DIM(a, i)
            n += 1
    return n


cdef bint is_shaped(cnp.ndarray a, int ndim, const cnp.npy_intp *shape):
    cdef int i
    if cnp.PyArray_NDIM(a) != ndim:
        return False
    for i in range(ndim):
        if cnp.PyArray_DIM(a, i) != shape[i]:
            return False
    return True


cdef bint are_labels(object a, int ndim, const cnp.npy_intp *shape):
    """Whether `a` has a class index for each row of a batch of that shape, where the kernels can step through them."""
    if not cnp.PyArray_CheckExact(a):
        return False
    cdef cnp.ndarray y = a
    cdef int num = cnp.PyArray_TYPE(y)
    if num == cnp.NPY_BOOL or not cnp.PyTypeNum_ISINTEGER(num) or cnp.PyArray_ISBYTESWAPPED(y):
        return False
    return is_shaped(y, ndim, shape) and (ndim < 2 or cnp.PyArray_IS_C_CONTIGUOUS(y))


cdef bint fits(object a, cnp.ndarray like, int ndim, const cnp.npy_intp *shape):
    """Whether `a` is an array of the dtype of `like`, in native order, and of that shape."""
    if not is_floating(a) or cnp.PyArray_TYPE(<cnp.ndarray> a) != cnp.PyArray_TYPE(like):
        return False
    return is_shaped(<cnp.ndarray> a, ndim, shape)


def plain_cross_entropy(object logits, object targets, object axis, object grad, bint with_grad):
    """The mean loss over an axis, or (loss, gradient in `grad`, or in a new array for None); or None."""
    if not is_floating(logits):
        return None
    cdef cnp.ndarray z = logits, g = None
    cdef int ndim = cnp.PyArray_NDIM(z), at = place_of(axis, ndim)
    cdef cnp.npy_intp batch[MOST_AXES]
    if at < 0 or ndim > MOST_AXES or cnp.PyArray_DIM(z, at) == 0:
        return None
    if not are_labels(targets, without(z, at, batch), batch):
        return None
    if with_grad and grad is None:
        g = cnp.PyArray_EMPTY(ndim, cnp.PyArray_DIMS(z), cnp.PyArray_TYPE(z), 0)
    elif with_grad:
        if not fits(grad, z, ndim, cnp.PyArray_DIMS(z)):
            return None
        g = grad
        if not is_clear(g, z, <cnp.ndarray> targets):
            return None
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    cdef xent_status status
    describe(&p, z, <uint64_t> 1 << at, <cnp.ndarray> targets, None, None, None, 0.0, 0.0, 0.0, None, 0, None)
    r.grad = array_of(g)
    r.loss_rows = r.lse_rows = NULL
    r.loss = 0.0
    status = loss_of(&p, &r, cnp.PyArray_SIZE(z) < LONG_WORK)
    if status == XENT_BAD_LABEL:
        return None
    fault_of(status, &r.fault)
    loss = scalar_of(r.loss, p.logits.type)
    return (loss, g) if with_grad else loss


cdef uint64_t axes_of(object axis, int at, int ndim):
    """The set of axes that the kernels are given: all of them (None), or one."""
    return (<uint64_t> 1 << ndim) - 1 if axis is None else <uint64_t> 1 << at


def plain_logsumexp(object a, object axis, object out):
    """logsumexp over all axes (None) or one of `a`, in `out` if given; or None."""
    if not is_floating(a) or cnp.PyArray_ITEMSIZE(<cnp.ndarray> a) == 2:  # 16 bits: to be rounded behind the kernel
        return None
    cdef cnp.ndarray x = a, rows = None
    cdef int ndim = cnp.PyArray_NDIM(x), at = place_of(axis, ndim), kept = 0
    cdef cnp.npy_intp batch[MOST_AXES]
    if ndim < 1 or ndim > MOST_AXES or (at < 0 and axis is not None) or cnp.PyArray_SIZE(x) == 0:
        return None
    if axis is not None:
        kept = without(x, at, batch)
    if out is None:
        rows = cnp.PyArray_EMPTY(kept, batch, cnp.PyArray_TYPE(x), 0)
    elif fits(out, x, kept, batch) and cnp.PyArray_ISCARRAY(<cnp.ndarray> out):
        if relation(<cnp.ndarray> out, x) != <int> XENT_APART:
            return None
        rows = out
    else:
        return None
    cdef xent_shape shape = shape_of(x, axes_of(axis, at, ndim))
    cdef xent_array view = array_of(x), nothing = array_of(None)
    fault_of(lse_of(&shape, &view, &nothing, cnp.PyArray_DATA(rows), NULL, cnp.PyArray_SIZE(x) < LONG_WORK), NULL)
    return rows if out is not None or kept else rows[()]


def plain_softmax(object a, object axis, object out, bint logarithm):
    """softmax, or its logarithm, over all axes (None) or one of `a`, in `out` if given; or None."""
    if not is_floating(a):
        return None
    cdef cnp.ndarray x = a, result = None
    cdef int ndim = cnp.PyArray_NDIM(x), at = place_of(axis, ndim)
    if ndim < 1 or ndim > MOST_AXES or (at < 0 and axis is not None) or cnp.PyArray_SIZE(x) == 0:
        return None
    if out is None:
        result = cnp.PyArray_EMPTY(ndim, cnp.PyArray_DIMS(x), cnp.PyArray_TYPE(x), 0)
    elif fits(out, x, ndim, cnp.PyArray_DIMS(x)):
        result = out
        if not can_hold(result, x):
            return None
    else:
        return None
    cdef xent_shape shape = shape_of(x, axes_of(axis, at, ndim))
    cdef xent_array view = array_of(x), to = array_of(result)
    fault_of(softmax_of(&shape, &view, &to, logarithm, cnp.PyArray_SIZE(x) < LONG_WORK), NULL)
    return result
