"""Linear layer with cross-entropy: against the loss of the logits as a whole, the reference and 50-digit truth."""

import itertools
import tracemalloc
from functools import cache

import numpy as np
import oracle
import pytest
from mpmath import mp, mpf

import xent
from xent import _blas, _kernels, _linear, reference

BLOCK = _kernels.BLOCK_CLASSES
NEEDS = [need for k in range(4) for need in itertools.combinations(("x", "weight", "bias"), k)]
# Ragged in every axis: about the rows of a block of logits, the blocks of the kernels, and one of anything.
SHAPES = [(1, 1, 1), (3, 5, 2), (17, 3, 65), (40, 7, 1001), (33, 4, BLOCK + 1), (5, 2, 2 * BLOCK + 3)]
# Nothing; tiles of a few classes and rows; tiles of whole blocks of classes; a few whole rows.
LIMITS = [None, 1, 5000, 2 * 10**6]


def layer(shape, dtype, seed=0):
    """x, W, b and labels; logits of some +-10."""
    rows, features, classes = shape
    rng = np.random.default_rng([*shape, seed])
    x, weight, bias = (rng.normal(0, s, n) for s, n in ((2, (rows, features)), (2, (classes, features)), (1, classes)))
    return x.astype(dtype), weight.astype(dtype), bias.astype(dtype), rng.integers(0, classes, rows)


def unfused(x, weight, bias, targets, grad_loss=1.0, **options):
    """The same through a whole array of float64 logits: loss, lse, dx, dW, db."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    z = x @ weight.T + (0 if bias is None else bias)
    loss, lse = xent.cross_entropy(z, targets, return_lse=True, **options)
    dz = xent.cross_entropy_grad(z, targets, grad_loss, **options)
    keep = dz != 0  # rows left out may hold NaN
    flat, rows = dz.reshape(-1, dz.shape[-1]), x.reshape(-1, x.shape[-1])
    used = keep.reshape(flat.shape).any(axis=1)
    return loss, lse, np.where(keep.any(axis=-1)[..., None], dz @ weight, 0), flat[used].T @ rows[used], flat.sum(0)


def agree(got, expected, dtype, what=""):
    """Within rounding of the largest element: a product of k terms, whose order is the BLAS's, in the dtype.

    Logits of some +-50 have errors of 50 eps, which are those of losses and, relatively, of gradients.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.dtype == dtype, what
    assert got.shape == expected.shape, what
    size = np.max(np.abs(expected), initial=np.finfo(dtype).tiny)
    worst = np.max(np.abs(got - expected), initial=0) / size
    assert worst <= 200 * np.finfo(dtype).eps, f"{what}: off by {worst} of the largest"


def all_agree(result, expected, dtype, return_lse=True):
    loss, grads, lse = result
    for name, a, b in zip(("loss", "lse", *grads._fields), (loss, lse, *grads), expected, strict=True):
        if a is not None:
            agree(a, b, dtype, name)


@pytest.mark.parametrize("max_bytes", LIMITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_limit(shape, max_bytes, dtype, tier):
    x, weight, bias, labels = layer(shape, dtype)
    expected = unfused(x, weight, bias, labels)
    result = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, return_lse=True, max_bytes=max_bytes)
    all_agree(result, expected, dtype)
    loss, lse = xent.linear_cross_entropy(x, weight, labels, bias, return_lse=True, max_bytes=max_bytes)
    agree(loss, expected[0], dtype)
    agree(lse, expected[1], dtype)


OPTIONS = {
    "plain": {},
    "class_weight": {"class_weight": True},
    "sample_weight": {"sample_weight": True},
    "smoothing": {"label_smoothing": 0.2},
    "smoothing and weights": {"label_smoothing": 0.2, "class_weight": True, "sample_weight": True},
    "ignore_index": {"ignore_index": -1},
    "ignore_index and weights": {"ignore_index": -1, "class_weight": True, "sample_weight": True},
    "z_loss": {"z_loss": 0.01},
    "softcap": {"softcap": 5.0},
    "all": {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 9.0, "class_weight": True, "sample_weight": True},
    "normalizer": {"normalizer": 7.0},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none", "softcap": 4.0},
}


@pytest.mark.parametrize("kind", ["labels", "probabilities", "callable"])
@pytest.mark.parametrize("max_bytes", LIMITS)
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(name, max_bytes, kind, dtype, every_tier):
    options = dict(OPTIONS[name])
    shape = (13, 3, BLOCK + 70) if max_bytes == LIMITS[-1] else (13, 3, 150)
    x, weight, bias, labels = layer(shape, dtype, 1)
    rng = np.random.default_rng(3)
    if "class_weight" in options:
        options["class_weight"] = rng.random(shape[2])
    if "sample_weight" in options:
        options["sample_weight"] = rng.random(shape[0])
        options["sample_weight"][[2, 3, 9]] = 0
    targets = labels
    if "ignore_index" in options:
        if kind != "labels":
            return
        labels[[0, 5, 6, 12]] = -1
    if kind != "labels":
        targets = rng.random((shape[0], shape[2])).astype(dtype)
        targets[4] = np.arange(shape[2]) == 7
    grad_loss = rng.normal(size=shape[0]) if name == "none" else 1.5
    expected = unfused(x, weight, bias, targets, grad_loss, **options)
    given = (lambda first, last: targets[first:last]) if kind == "callable" else targets
    for _ in every_tier():
        call = {"return_lse": True, "max_bytes": max_bytes, **options}
        result = xent.linear_cross_entropy_with_grad(x, weight, given, bias, grad_loss, **call)
        all_agree(result, expected, dtype)
        loss, lse = xent.linear_cross_entropy(x, weight, given, bias, **call)
        agree(loss, expected[0], dtype)
        agree(lse, expected[1], dtype)


@pytest.mark.parametrize("max_bytes", LIMITS)
@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("accumulate", [False, True])
def test_every_subset_of_gradients(need, max_bytes, accumulate, dtype):
    x, weight, bias, labels = layer((50, 6, 300), dtype)
    expected = unfused(x, weight, bias, labels)
    before = [np.full_like(a, 0.25) for a in (x, weight, bias)]
    out = [a if name in need else None for name, a in zip(("x", "weight", "bias"), before, strict=True)]
    loss, grads = xent.linear_cross_entropy_with_grad(
        x, weight, labels, bias, need=need, out=out, accumulate=accumulate, max_bytes=max_bytes
    )
    agree(loss, expected[0], dtype)
    for name, array, given, truth in zip(("x", "weight", "bias"), grads, out, expected[2:], strict=True):
        assert array is given
        if name in need:
            agree(array, truth + 0.25 * accumulate, dtype, name)
    fresh = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, need=need, max_bytes=max_bytes)[1]
    assert [a is not None for a in fresh] == [name in need for name in ("x", "weight", "bias")]


def test_no_bias():
    x, weight, _, labels = layer((9, 3, 20), np.float64)
    loss, grads = xent.linear_cross_entropy_with_grad(x, weight, labels)
    assert grads.bias is None
    all_agree((loss, grads, None), unfused(x, weight, None, labels), np.float64)


@pytest.mark.parametrize("max_bytes", LIMITS)
def test_rows_that_count_for_nothing_are_not_read(max_bytes):
    x, weight, bias, labels = layer((12, 4, 90), np.float64)
    weights = np.ones(12)
    labels[3], weights[8] = -100, 0
    x[[3, 8]] = np.nan
    options = {"ignore_index": -100, "sample_weight": weights, "reduction": "none"}
    loss, grads = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, max_bytes=max_bytes, **options)
    clean = np.delete(x, [3, 8], 0), weight, np.delete(labels, [3, 8]), bias
    other_loss, other = xent.linear_cross_entropy_with_grad(*clean, max_bytes=max_bytes, reduction="none")
    assert (loss[[3, 8]] == 0).all()
    assert (grads.x[[3, 8]] == 0).all()
    agree(np.delete(loss, [3, 8]), other_loss, np.float64)
    agree(grads.weight, other.weight, np.float64)
    agree(np.delete(grads.x, [3, 8], 0), other.x, np.float64)
    agree(grads.bias, other.bias, np.float64)


def test_lse_of_rows_of_weight_0():
    x, weight, bias, labels = layer((12, 4, 90), np.float64)
    weights, truth = np.ones(12), unfused(x, weight, bias, labels)[1]
    weights[[1, 2]] = 0
    _, lse = xent.linear_cross_entropy(x, weight, labels, bias, sample_weight=weights, return_lse=True)
    agree(lse, truth, np.float64)
    _, lse = xent.linear_cross_entropy(x, weight, labels, bias, sample_weight=0.0, return_lse=True)
    agree(lse, truth, np.float64)


@pytest.mark.parametrize("kind", ["ignored", "empty"])
def test_nothing_left(kind, dtype):
    x, weight, bias, labels = layer((4, 3, 9), dtype)
    x, labels = (x, np.full(4, -1)) if kind == "ignored" else (x[:0], labels[:0])
    loss, grads = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, ignore_index=-1)
    assert loss == 0
    assert loss.dtype == dtype
    assert all((g == 0).all() for g in grads)
    ones = [np.ones_like(a) for a in (x, weight, bias)]
    xent.linear_cross_entropy_with_grad(x, weight, labels, bias, ignore_index=-1, out=ones, accumulate=True)
    assert all((g == 1).all() for g in ones)


def test_no_features():
    loss, grads = xent.linear_cross_entropy_with_grad(np.ones((3, 0)), np.ones((5, 0)), [0, 1, 2])
    assert loss == pytest.approx(np.log(5))
    assert grads.x.shape == (3, 0)
    assert grads.weight.shape == (5, 0)


def test_integers_are_float64():
    loss = xent.linear_cross_entropy([[1, 2]], [[0, 1], [1, 0], [1, 1]], [2])
    assert loss == pytest.approx(xent.cross_entropy([[2.0, 1.0, 3.0]], [2]), rel=1e-14)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("max_bytes", LIMITS)
def test_batches_of_any_rank(batch, max_bytes):
    rng = np.random.default_rng(5)
    x, weight, labels = rng.normal(size=(*batch, 4)), rng.normal(size=(70, 4)), rng.integers(0, 70, batch)
    options = {"reduction": "none", "return_lse": True, "max_bytes": max_bytes}
    result = xent.linear_cross_entropy_with_grad(x, weight, labels, **options)
    assert np.shape(result[0]) == batch
    all_agree(result, unfused(x, weight, None, labels, reduction="none"), np.float64)


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, -1)[::2, ..., ::3],
    "negative": lambda a: a[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "transposed batch": lambda a: a.swapaxes(0, -2).copy().swapaxes(0, -2) if a.ndim == 3 else a,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("max_bytes", LIMITS)
def test_layouts(name, max_bytes):
    rng = np.random.default_rng(6)
    x, weight, bias, q = (rng.normal(size=n) for n in ((3, 4, 5), (70, 5), (70,), (3, 4, 70)))
    q = np.abs(q)
    expected = unfused(x, weight, bias, q)
    turn = LAYOUTS[name]
    out = [np.zeros_like(a) if name == "other byte order" else turn(np.zeros_like(a)) for a in (x, weight)]
    result = xent.linear_cross_entropy_with_grad(
        turn(x), turn(weight), turn(q), bias, return_lse=True, max_bytes=max_bytes, out=(*out, None)
    )
    all_agree(result, expected, np.float64)


def test_memmap(tmp_path):
    x, weight, bias, labels = layer((20, 4, 500), np.float32)
    weight.tofile(tmp_path / "weight")
    mapped = np.memmap(tmp_path / "weight", np.float32, "r", shape=weight.shape)
    for limit in LIMITS:
        ours = xent.linear_cross_entropy_with_grad(x, mapped, labels, bias, max_bytes=limit)
        theirs = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, max_bytes=limit)
        assert all((a == b).all() for a, b in zip((ours[0], *ours[1]), (theirs[0], *theirs[1]), strict=True))


def test_infinite_and_nan_logits_stay_in_their_rows():
    x = np.array([[1.0, 0.0], [np.inf, 0.0], [np.nan, 1.0], [2.0, 1.0]])
    weight = np.random.default_rng(0).normal(size=(40, 2))
    for limit in LIMITS:
        with np.errstate(invalid="ignore"):
            losses = xent.linear_cross_entropy(x, weight, [0, 1, 2, 3], reduction="none", max_bytes=limit)
        assert np.isfinite(losses).tolist() == [True, False, False, True]


@pytest.mark.parametrize("max_bytes", LIMITS)
def test_a_sum_that_overflows_is_infinite(max_bytes):
    x, weight, labels = np.full((3, 1), 1e300), np.array([[1e8], [0.0]]), [1, 1, 1]
    assert xent.linear_cross_entropy(x, weight, labels, reduction="sum", max_bytes=max_bytes) == np.inf
    assert np.isfinite(xent.linear_cross_entropy(x, weight / 2, labels, normalizer=9.0, max_bytes=max_bytes))


# ---- the reference


@pytest.mark.parametrize("kind", ["labels", "probabilities", "callable"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_reference(kind, reduction):
    rng = np.random.default_rng(8)
    x, weight, bias = rng.normal(size=(2, 3, 4)), rng.normal(size=(6, 4)), rng.normal(size=6)
    labels, q = rng.integers(0, 6, (2, 3)), rng.random((2, 3, 6))
    targets = {"labels": labels, "probabilities": q, "callable": lambda a, b: q.reshape(6, 6)[a:b]}[kind]
    options = {"class_weight": rng.random(6), "sample_weight": rng.random((2, 3)), "label_smoothing": 0.1}
    options |= {"z_loss": 0.01, "softcap": 2.0, "reduction": reduction, "return_lse": True}
    grad_loss = rng.normal(size=(2, 3)) if reduction == "none" else 2.0
    ours = xent.linear_cross_entropy_with_grad(x, weight, targets, bias, grad_loss, max_bytes=1, **options)
    theirs = reference.linear_cross_entropy_with_grad(x, weight, targets, bias, grad_loss, **options)
    for a, b in zip((ours[0], *ours[1], ours[2]), (theirs[0], *theirs[1], theirs[2]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)
    loss, _ = reference.linear_cross_entropy(x, weight, targets, bias, **options)
    np.testing.assert_allclose(loss, theirs[0], rtol=0)


# ---- accuracy


def truth(x, weight, bias, labels):
    """loss, dx, dW, db in 60 digits."""
    with mp.workdps(oracle.DIGITS):
        xs, ws = ([[mpf(float(v)) for v in row] for row in m] for m in (x, weight))
        dz, losses = [], []
        for row, y in zip(xs, labels, strict=True):
            z = [mp.fdot(row, w) + mpf(float(b)) for w, b in zip(ws, bias, strict=True)]
            e = [mp.exp(v) for v in z]
            total = mp.fsum(e)
            losses.append(mp.log(total) - z[y])
            dz.append([(v / total - (c == y)) / len(xs) for c, v in enumerate(e)])
        dx = [[mp.fdot(g, column) for column in zip(*ws, strict=True)] for g in dz]
        dw = [[mp.fdot(g, column) for column in zip(*xs, strict=True)] for g in zip(*dz, strict=True)]
        db = [mp.fsum(g) for g in zip(*dz, strict=True)]
        return [np.array(a, float) for a in (mp.fsum(losses) / len(xs), dx, dw, db)]


@cache
def layer_and_truth(dtype, seed):
    problem = layer((48, 16, 150), dtype, seed)
    return problem, truth(*problem)


@pytest.mark.parametrize("max_bytes", LIMITS)
def test_not_further_from_the_truth_than_the_unfused_path(max_bytes, dtype):
    """The error of loss, dx, dW and db, root mean square over six problems, is that of the logits as a whole with
    their bare products. (The same products added in another order: as found 0.97 to 1.001 times it, so 1.01.)
    """
    squares = np.zeros((2, 4))
    half_unit = 0.5 * np.finfo(dtype).eps
    for seed in range(6):
        (x, weight, bias, labels), expected = layer_and_truth(dtype, seed)
        loss, grads = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, max_bytes=max_bytes)
        z = x @ weight.T + bias
        plain_loss, dz = xent.cross_entropy_with_grad(z, labels)
        plain = plain_loss, dz @ weight, dz.T @ x, dz.sum(0)
        for i, (ours, theirs, exact) in enumerate(zip((loss, *grads), plain, expected, strict=True)):
            off = [np.abs(np.asarray(a, np.float64) - exact) for a in (ours, theirs)]
            squares[:, i] += [np.mean(a**2) for a in off]
            if seed == 4:  # the worst number of one problem, in another order of additions
                mine, other = (np.max(a) / np.max(np.abs(exact)) for a in off)
                assert mine <= 1.5 * other + half_unit
    assert (np.sqrt(squares[0]) <= 1.01 * np.sqrt(squares[1])).all()


def test_the_bias_gradient_does_not_depend_on_the_blocks():
    x, weight, bias, labels = layer((40, 1, 300), np.float32)
    x[:] = 1.0  # a product of one term: the same logits in any block
    found = {
        xent.linear_cross_entropy_with_grad(x, weight, labels, bias, max_bytes=64 * 1024 * k)[1].bias.tobytes()
        for k in (1, 2, 3, 100)
    }
    assert len(found) == 1


def test_threads_change_no_bit(threads):
    x, weight, bias, labels = layer((64, 8, 3000), np.float32)
    for limit in (None, 100_000):
        found = set()
        for n in (1, 2, 3):
            xent.set_num_threads(n)
            loss, grads = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, softcap=9.0, max_bytes=limit)
            found.add(b"".join(np.asarray(a).tobytes() for a in (loss, *grads)))
        assert len(found) == 1


@pytest.mark.parametrize("max_bytes", LIMITS)
def test_tiers_change_no_bit(max_bytes, every_tier, dtype):
    x, weight, bias, labels = layer((20, 8, 3000), dtype)
    options = {"softcap": 9.0, "label_smoothing": 0.1, "z_loss": 0.01, "max_bytes": max_bytes}
    found = set()
    for _ in every_tier():
        loss, grads = xent.linear_cross_entropy_with_grad(x, weight, labels, bias, **options)
        found.add(b"".join(np.asarray(a).tobytes() for a in (loss, *grads)))
    assert len(found) == 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (65, 33, 129)])
def test_products_are_added(shape, dtype, monkeypatch):
    """With BLAS and without; every order of the matrices in memory."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-9, 9, s).astype(dtype) for s in ((m, k), (k, n), (m, n)))
    for without in (False, True):
        if without:
            monkeypatch.setattr(_blas, "_gemm", lambda kind: None)
        for left in (a, a.copy(order="F"), np.repeat(a, 2, 1)[:, ::2], a.astype(dtype.newbyteorder())):
            for right in (b, b.copy(order="F"), np.repeat(b, 2, 0)[::2]):
                for to in (c.copy(), c.copy(order="F"), np.repeat(c, 2, 1)[:, ::2]):
                    _blas.add_product(left, right, to)
                    assert (to == c + a @ b).all()


@pytest.mark.parametrize("add", [False, True])
def test_products_of_long_rows(dtype, add, monkeypatch):
    """In parts and not, as it says; every order of the matrices in memory."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-9, 9, s).astype(dtype) for s in ((70, 6001), (6001, 90), (70, 90)))
    expected = c * add + a @ b
    for parts in (1, 2, 3, 4):
        batch, taken = _blas._batch("s" if dtype.itemsize == 4 else "d"), []
        if batch:

            def counted(*args, run=batch[1], taken=taken):
                taken.append(len(args[0]))
                run(*args)

            monkeypatch.setattr(_blas, "_batch", lambda kind, parts=parts, counted=counted: (lambda: parts, counted))
        assert _blas.long_parts(dtype) == (parts if batch else 1)
        for left in (a, a.copy(order="F"), np.repeat(a, 2, 1)[:, ::2], a.astype(dtype.newbyteorder())):
            for right in (b, b.copy(order="F"), np.repeat(b, 2, 0)[::2]):
                for to in (c.copy(), c.copy(order="F"), np.repeat(c, 2, 1)[:, ::2], np.hstack([c, c])[:, :90]):
                    _blas.long_product(left, right, to, add)
                    assert (to == expected).all()
        assert taken == [parts] * (
            12 if batch and parts > 1 else 0
        )  # 2 of left, 3 of right, 2 of `to` are as BLAS has them
        monkeypatch.undo()
    for m, k, n in ((0, 9, 3), (2, 0, 3), (1, 1, 1), (3, 4, 5)):
        to = np.ones((m, n), dtype)
        _blas.long_product(np.ones((m, k), dtype), np.ones((k, n), dtype), to, add)
        assert (to == k + add).all()


def test_a_batch_that_fails_its_trial_is_not_used():
    def wrong(jobs, betas):
        for (a, b, out), beta in zip(jobs, betas, strict=True):
            out[...] = (beta * out if beta else 0.0) + a @ b + 1

    def right(jobs, betas):
        for (a, b, out), beta in zip(jobs, betas, strict=True):
            out[...] = (beta * out if beta else 0.0) + a @ b

    assert _blas._batch_passes(right, np.float32)
    assert not _blas._batch_passes(wrong, np.float32)


def test_a_blas_that_fails_its_trial_is_not_used():
    def wrong(a_code, lda, b_code, ldb, ldc, a, b, out):
        out += a @ b + 1

    assert not _blas._passes(wrong, np.float32)
    assert xent.runtime.config()["accumulation"] == _blas.accumulation()


# ---- memory


def test_max_bytes_bounds_the_scratch():
    """Of a call with outputs given: 1.2 times the limit and 200 KiB for everything else."""
    x, weight, _, labels = layer((300, 8, 20_000), np.float32)
    out = [np.zeros_like(a) for a in (x, weight)]
    labels[5], weights, q = 3, np.arange(300) % 3, np.full((300, 20_000), 1e-4, np.float32)
    for limit in (100_000, 10**6, 5 * 10**6):
        for targets, options in ((labels, {}), (labels, {"ignore_index": 3}), (q, {}), (q, {"sample_weight": weights})):
            call = {"out": (*out, None), "max_bytes": limit, **options}
            xent.linear_cross_entropy_with_grad(x, weight, targets, **call)
            tracemalloc.start()
            xent.linear_cross_entropy_with_grad(x, weight, targets, **call)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak <= 1.2 * limit + 200 * 1024, (limit, options)


def test_steps():
    x, weight, bias, labels = layer((100, 4, 1000), np.float32)
    options = None, None, 0.0, None, 0.0, "sum", None
    made = _linear.prepare(x, weight, labels, bias, 1.0, None, 1, False, options)
    assert _linear.line(1000, made.dtype) == 1008  # whole cache lines
    assert _linear.line(1024, made.dtype) == 1040  # and no whole pages
    extra = 4 * (_blas.long_parts(made.dtype) - 1)
    # 39: two of 40 rows and one of 20 would not fit, so 32; 60: two of 56
    for rows, step in ((7, 7), (39, 32), (40, 40), (60, 56), (64, 56), (1000, 100)):
        made.max_bytes = 4 * (1008 + extra) * rows
        assert _linear.row_step(made, 100) == step
    made.max_bytes = 1
    assert _linear.row_step(made, 100) == 1
    assert _linear.tile_steps(made, 100) == (1, 64)
