# Blocks of rows and tiles of classes, for the linear layer and for sums in parts; included in _kernels.pyx.

def loss_block(cnp.ndarray logits, cnp.ndarray labels, cnp.ndarray probabilities, cnp.ndarray class_weight,
               cnp.ndarray sample_weight, double label_smoothing, double z_loss, double divisor, cnp.ndarray bias,
               double softcap, cnp.ndarray grad_loss, cnp.ndarray grad, cnp.ndarray loss_rows, cnp.ndarray lse_rows):
    """The losses of some rows (rows, C) whose targets have been checked, and their gradient over `divisor`; returns
    the sum of the losses in two parts."""
    cdef xent_cross_entropy_problem p
    cdef xent_cross_entropy_result r
    describe(&p, logits, 2, labels, probabilities, class_weight, sample_weight, label_smoothing, z_loss, divisor, None,
             0, grad_loss)
    p.bias = vector_of(bias)
    p.softcap = softcap
    p.checked = 1
    r.grad = array_of(grad)
    r.loss_rows = cnp.PyArray_DATA(loss_rows) if loss_rows is not None else NULL
    r.lse_rows = cnp.PyArray_DATA(lse_rows) if lse_rows is not None else NULL
    fault_of(loss_of(&p, &r, False), &r.fault)
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
