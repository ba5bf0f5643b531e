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
        """x: the network's input, for the norms; a BufferError, and nothing done, if they cannot read it."""
        cdef const void *data = self.norms.input_of(x) if self.norms is not None else NULL
        self.w.bias = dense_data(self.grad_bias, self.w.type, self.w.columns, True)
        backward_sweep(&self.w)
        if self.norms is not None:
            self.norms.take(data)


cdef struct row_sums:
    const void *x
    Py_ssize_t columns
    double *squares


cdef class NetworkNorms:
    """norms (rows,) of the samples' gradients, from squares (2, layers, rows), of dz and of inputs, and biases (layers,);
    the squares of the first input, of `columns` columns, are taken first, and before them those of `late`: pairs of an
    array and where its squares go."""
    cdef double *squares
    cdef row_sums *late
    cdef Py_ssize_t n_late
    cdef const double *biases
    cdef Py_ssize_t layers, rows, columns
    cdef int type
    cdef void *to
    cdef cnp.ndarray norms
    cdef tuple alive

    def __cinit__(self, cnp.ndarray squares not None, cnp.ndarray biases not None, cnp.ndarray norms not None,
                  Py_ssize_t columns, list late not None):
        cdef cnp.ndarray x, to
        self.layers, self.rows, self.columns = cnp.PyArray_SIZE(biases), cnp.PyArray_SIZE(norms), columns
        self.type = cnp.NPY_FLOAT32 if cnp.PyArray_TYPE(norms) == cnp.NPY_FLOAT32 else cnp.NPY_FLOAT64
        self.squares = <double *> dense_data(squares, cnp.NPY_FLOAT64, 2 * self.layers * self.rows, True)
        self.biases = <const double *> dense_data(biases, cnp.NPY_FLOAT64, self.layers, False)
        self.norms, self.alive = norms, (squares, biases, late)
        self.late = <row_sums *> PyMem_Calloc(len(late) + 1, sizeof(row_sums))
        if self.late == NULL:
            raise MemoryError
        for x, to in late:
            dense_type(x, 0)
            self.late[self.n_late] = row_sums(
                dense_data(x, self.type, self.rows * cnp.PyArray_DIM(x, 1), False), cnp.PyArray_DIM(x, 1),
                <double *> dense_data(to, cnp.NPY_FLOAT64, self.rows, True),
            )
            self.n_late += 1

    def __dealloc__(self):
        PyMem_Free(self.late)

    cdef const void *input_of(self, cnp.ndarray x) except? NULL:
        self.to = dense_data(self.norms, self.type, self.rows, True)
        if not cnp.PyArray_ISCARRAY_RO(x):
            raise BufferError("the norms take contiguous rows")
        return dense_data(x, self.type, self.rows * self.columns, False)

    cdef void take(self, const void *x) noexcept:
        if is_short(self.type, self.rows * self.columns):
            self.now(x)
        else:
            with nogil:
                self.now(x)

    cdef void now(self, const void *x) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.n_late):
            row_squares_now(self.type, self.late[i].x, self.late[i].squares, self.rows, self.late[i].columns)
        if self.type == cnp.NPY_FLOAT32:
            xent_network_norms_f32(<const float *> x, self.columns, self.squares, self.biases, <float *> self.to,
                                   self.layers, self.rows)
        else:
            xent_network_norms_f64(<const double *> x, self.columns, self.squares, self.biases, <double *> self.to,
                                   self.layers, self.rows)

    def run(self, cnp.ndarray x not None):
        self.take(self.input_of(x))
