"""The table of cases of the losses, row by row, on the reference: what is returned, what is refused."""

import math

import numpy as np
import pytest

from xent import reference as ref

INF, NAN = math.inf, math.nan


def same(got, expected):
    """Equal floats, NaN equal to NaN, zeros positive, lists element by element."""
    if isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(map(same, got, expected))
    return type(got) is float and (got == expected or (math.isnan(got) and math.isnan(expected)))


Z = [[0.5, -1.0, 2.0], [1.0, 0.0, -3.0], [4.0, 4.0, 4.0]]
P = [ref.softmax(row) for row in Z]
ALL = dict(reduction="none")


def grad_of(*args, **kwargs):
    return ref.cross_entropy_with_grad(*args, **kwargs)[1]


def test_label_out_of_range():
    with pytest.raises(ValueError, match=r"label 3 in row 1 .*2 such rows"):
        ref.cross_entropy(Z, [0, 3, -1])
    with pytest.raises(ValueError, match=r"label -100 in row 0 .*1 such"):
        ref.cross_entropy(Z, [-100, 1, 5], ignore_index=5)


def test_ignored_rows_are_not_read():
    z = [Z[0], [NAN, INF, -INF], Z[2]]
    for ignore in (-100, 1):
        loss, grad, lse = ref.cross_entropy_with_grad(z, [0, ignore, 2], ignore_index=ignore, return_lse=True)
        kept, kept_grad, kept_lse = ref.cross_entropy_with_grad([Z[0], Z[2]], [0, 2], return_lse=True)
        assert loss == kept
        assert same(grad, [kept_grad[0], [0.0] * 3, kept_grad[1]])
        assert same(lse, [kept_lse[0], 0.0, kept_lse[1]])
        assert same(ref.cross_entropy(z, [0, ignore, 2], ignore_index=ignore, **ALL)[1], 0.0)
        hvp = ref.cross_entropy_hvp(z, [0, ignore, 2], z, ignore_index=ignore)
        assert same(hvp[1], [0.0] * 3)


def test_nothing_to_average():
    zeros = [[0.0] * 3] * 3
    for given in ({"ignore_index": 1}, {"sample_weight": 0}, {"class_weight": [1, 0, 1]}):
        assert same(ref.cross_entropy_with_grad(Z, [1, 1, 1], **given), (0.0, zeros))
        assert same(ref.cross_entropy_hessian_diag(Z, [1, 1, 1], **given), zeros)
    assert same(ref.cross_entropy_with_grad(np.empty((0, 3)), np.empty(0, int)), (0.0, []))
    assert same(ref.cross_entropy_with_grad(np.empty((0, 3)), np.empty((0, 3))), (0.0, []))
    assert same(ref.cross_entropy_with_grad(np.empty((0, 3)), [], **ALL), ([], []))
    assert same(ref.cross_entropy_with_grad(Z, [[0.0] * 3] * 3), (0.0, zeros))


def test_no_classes():
    for shape in ((0,), (2, 0), (0, 0)):
        with pytest.raises(ValueError, match="no classes"):
            ref.cross_entropy(np.empty(shape), np.empty(shape[:-1], int))


@pytest.mark.parametrize("options", [{}, {"z_loss": 0.1}, {"label_smoothing": 0.1}])
@pytest.mark.parametrize(
    ("bad", "lse"),
    [
        ([-INF, -INF, -INF], -INF),
        ([NAN, 0.0, 1.0], NAN),
        ([INF, NAN, 1.0], NAN),
        ([-INF, NAN, -INF], NAN),
        ([1.0, INF, -INF], INF),
        ([INF, INF, 0.0], INF),
    ],
)
def test_a_bad_row_harms_no_other(bad, lse, options):
    y = [0, 2, 1]
    z = [Z[0], bad, Z[2]]
    loss, grad, lses = ref.cross_entropy_with_grad(z, y, return_lse=True, **ALL, **options)
    clean, clean_grad, clean_lse = ref.cross_entropy_with_grad(Z, y, return_lse=True, **ALL, **options)
    assert same(lses, [clean_lse[0], lse, clean_lse[2]])
    assert same(grad, [clean_grad[0], [NAN] * 3, clean_grad[2]])
    assert same([loss[0], loss[2]], [clean[0], clean[2]])
    assert same(ref.cross_entropy_hessian_diag(z, y, **ALL, **options)[1], [NAN] * 3)
    if lse == INF and not options.get("label_smoothing"):
        assert loss[1] == INF
    else:
        assert math.isnan(loss[1])
    assert math.isnan(ref.cross_entropy(z, y, **options)) or lse == INF


def test_infinite_logits():
    assert same(ref.cross_entropy([1.0, INF], 0), INF)
    assert same(ref.cross_entropy([1.0, INF], 1), NAN)
    loss, grad = ref.cross_entropy_with_grad([1.0, -INF, 2.0], 1)
    p = ref.softmax([1.0, -INF, 2.0])
    assert same((loss, grad), (INF, [p[0], -1.0, p[2]]))
    # q' = 0 at z = -inf: 0 * inf is 0
    two = ref.cross_entropy_with_grad([1.0, 2.0], [0.25, 0.75])
    three = ref.cross_entropy_with_grad([1.0, -INF, 2.0], [0.25, 0.0, 0.75])
    assert same(three, (two[0], [two[1][0], 0.0, two[1][1]]))
    assert ref.cross_entropy([1.0, -INF, 2.0], 0, label_smoothing=0.1) == INF


def test_flush_to_zero():
    below, above = [0.0, -708.4], [0.0, -708.39]
    assert same(ref.cross_entropy_with_grad(below, 0), (0.0, [0.0, 0.0]))
    loss, grad = ref.cross_entropy_with_grad(above, 0)
    assert loss == grad[1] == -grad[0] > 2.0**-1022
    assert same(ref.log_softmax(below)[0], 0.0)
    assert same(ref.softmax(below), [1.0, 0.0])
    assert same(ref.logsumexp([1e-310]), 0.0)


def test_identities():
    one_hot = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    w = [0.5, 2.0, 3.0]
    for given in ({}, {"class_weight": w, "label_smoothing": 0.2, "z_loss": 0.1}):
        assert ref.cross_entropy_with_grad(Z, one_hot, **given) == ref.cross_entropy_with_grad(Z, [0, 2, 1], **given)
        twice = ref.cross_entropy([Z[0], Z[1], Z[1]], [0, 2, 2], **given)
        assert ref.cross_entropy(Z[:2], [0, 2], sample_weight=[1, 2], **given) == twice
        parts = [ref.cross_entropy(z, y, normalizer=7.0, **given) for z, y in zip(Z, [0, 2, 1], strict=True)]
        assert ref.cross_entropy(Z, [0, 2, 1], normalizer=7.0, **given) == pytest.approx(sum(parts), rel=1e-15)
        total = ref.cross_entropy(Z, [0, 2, 1], reduction="sum", **given)
        assert total == pytest.approx(sum(ref.cross_entropy(Z, [0, 2, 1], **ALL, **given)), rel=1e-15)
    weights = 0.5 + 3.0 + 2.0
    total = ref.cross_entropy(Z, [0, 2, 1], reduction="sum", class_weight=w)
    assert ref.cross_entropy(Z, [0, 2, 1], class_weight=w) == pytest.approx(total / weights, rel=1e-15)


def test_exact_zeros():
    # p = q: the gradient is 0, not 1e-61.
    for c in (2, 3, 7):
        assert same(grad_of([0.3] * c, 1, label_smoothing=1.0), [0.0] * c)
        assert same(grad_of([0.3] * c, [1.0] * c), [0.0] * c)
        assert same(ref.cross_entropy_hvp([0.3, -1.0] * c, 1, [2.5] * (2 * c)), [0.0] * (2 * c))
    assert same(ref.cross_entropy_with_grad([2.0], 0), (0.0, [0.0]))


def test_axis_and_batch_shapes():
    z = np.random.default_rng(0).normal(size=(2, 3, 4))
    y = np.array([[0, 1, 2, 0], [2, 2, 1, 0]])
    by_last = np.moveaxis(z, 1, -1)
    for axis in (1, -2):
        loss, grad, lse = ref.cross_entropy_with_grad(z, y, axis=axis, return_lse=True, **ALL)
        last_loss, last_grad, last_lse = ref.cross_entropy_with_grad(by_last, y, return_lse=True, **ALL)
        assert loss == last_loss
        assert lse == last_lse
        assert np.array_equal(np.moveaxis(np.array(grad), 1, -1), last_grad)
    v = np.random.default_rng(1).normal(size=z.shape)
    hvp = ref.cross_entropy_hvp(z, y, v, axis=1)
    assert np.array_equal(np.moveaxis(np.array(hvp), 1, -1), ref.cross_entropy_hvp(by_last, y, np.moveaxis(v, 1, -1)))
    assert ref.cross_entropy(z.astype(np.float32), y.astype(np.uint8), axis=1) == ref.cross_entropy(
        z.astype(np.float32).astype(float).tolist(), y.tolist(), axis=1
    )
    assert ref.cross_entropy([1, 2], 0) == ref.cross_entropy([1.0, 2.0], 0)
    assert ref.cross_entropy([True, False], 0) == ref.cross_entropy([1.0, 0.0], 0)


def test_grad_loss():
    y = [0, 2, 1]
    grad = grad_of(Z, y, **ALL)
    assert ref.cross_entropy_grad(Z, y, **ALL) == grad
    halves = [[0.5 * g for g in row] for row in grad]
    assert ref.cross_entropy_grad(Z, y, 0.5, **ALL) == halves
    assert ref.cross_entropy_grad(Z, y, [1.0, 0.5, 2], **ALL)[1] == halves[1]
    assert ref.cross_entropy_grad(Z, y, -1.0)[0][1] == -ref.cross_entropy_grad(Z, y)[0][1]
    assert ref.cross_entropy_grad(Z, y, return_lse=True)[1] == ref.logsumexp(Z, axis=1)
    for reduction, g in (("mean", [1.0] * 3), ("sum", [1.0] * 3), ("none", [1.0, 2.0])):
        with pytest.raises(ValueError, match="grad_loss"):
            ref.cross_entropy_grad(Z, y, g, reduction=reduction)


@pytest.mark.parametrize("y", [[0, 2, 1], [[0.2, 0.3, 0.5], [0.0, 1.0, 1.0], [0.0, 0.0, 0.3]]])
def test_derivatives_by_differences(y):
    given = {
        "class_weight": [0.5, 2.0, 3.0],
        "label_smoothing": 0.2,
        "z_loss": 0.1,
        "sample_weight": [1, 2, 0.5],
    }
    grad, diagonal = grad_of(Z, y, **given), ref.cross_entropy_hessian_diag(Z, y, **given)
    v = [[1.0, -2.0, 0.5], [0.3, 0.2, 4.0], [-1.0, 0.0, 1.0]]
    hvp = ref.cross_entropy_hvp(Z, y, v, **given)
    h = 2.0**-17

    def moved(step):
        return [[a + step * b for a, b in zip(*rows, strict=True)] for rows in zip(Z, v, strict=True)]

    up, down = grad_of(moved(h), y, **given), grad_of(moved(-h), y, **given)
    np.testing.assert_allclose(hvp, (np.array(up) - down) / (2 * h), atol=1e-9)
    for n, c in ((0, 0), (0, 2), (1, 1), (2, 0)):
        z = [np.array(Z), np.array(Z)]
        z[0][n, c] += h
        z[1][n, c] -= h
        up, down = (ref.cross_entropy_with_grad(x, y, **given) for x in z)
        assert (up[0] - down[0]) / (2 * h) == pytest.approx(grad[n][c], abs=1e-9)
        assert (up[1][n][c] - down[1][n][c]) / (2 * h) == pytest.approx(diagonal[n][c], abs=1e-9)


LOSSES = [
    ref.cross_entropy,
    ref.cross_entropy_with_grad,
    ref.cross_entropy_grad,
    ref.cross_entropy_hessian_diag,
    lambda z, y, **given: ref.cross_entropy_hvp(z, y, z, **given),
]


@pytest.mark.parametrize("f", LOSSES)
@pytest.mark.parametrize(
    ("error", "given"),
    [
        (ValueError, {"z": 1.0, "y": 0}),
        (ValueError, {"y": [0, 1]}),
        (ValueError, {"y": [[0, 1, 2]] * 3}),
        (ValueError, {"y": [0.0, 1.0, 2.0]}),
        (TypeError, {"y": [True, False, True]}),
        (TypeError, {"y": np.zeros(3, bool)}),
        (TypeError, {"y": ["a", "b", "c"]}),
        (ValueError, {"y": [[0.1, -0.1, 1.0], *P[1:]]}),
        (ValueError, {"y": [*P[:2], [0.1, NAN, 1.0]]}),
        (ValueError, {"y": [*P[:2], [0.1, INF, 1.0]]}),
        (ValueError, {"y": P, "ignore_index": 0}),
        (TypeError, {"ignore_index": 1.0}),
        (ValueError, {"axis": 2}),
        (TypeError, {"axis": 1.0}),
        (TypeError, {"axis": None}),
        (ValueError, {"class_weight": [1.0, 1.0]}),
        (ValueError, {"class_weight": [1.0, 1.0, -1.0]}),
        (ValueError, {"class_weight": [1.0, INF, 1.0]}),
        (ValueError, {"sample_weight": [1.0, 1.0]}),
        (ValueError, {"sample_weight": [1.0, 1.0, NAN]}),
        (ValueError, {"sample_weight": -1}),
        (ValueError, {"label_smoothing": 1.5}),
        (ValueError, {"label_smoothing": NAN}),
        (TypeError, {"label_smoothing": "0"}),
        (ValueError, {"z_loss": -1e-4}),
        (ValueError, {"z_loss": INF}),
        (ValueError, {"reduction": "average"}),
        (ValueError, {"normalizer": 0}),
        (ValueError, {"normalizer": INF}),
        (ValueError, {"normalizer": 2.0, "reduction": "sum"}),
    ],
)
def test_losses_refuse(f, error, given):
    given = {"z": Z, "y": [0, 2, 1], **given}
    with pytest.raises(error):
        f(given.pop("z"), given.pop("y"), **given)


def test_first_bad_probability_row_is_named():
    with pytest.raises(ValueError, match=r"-0.5 in row 1"):
        ref.cross_entropy(Z, [P[0], [0.5, -0.5, 0.5], [NAN, 0.0, 0.0]])
