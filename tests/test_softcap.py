"""softcap: the capped logits, the loss of them, the gradient brought back through the cap."""

import cases
import numpy as np
import oracle
import pytest
from mpmath import mp, mpf

import xent
from xent import reference

FUNCTIONS = [xent.cross_entropy, xent.cross_entropy_with_grad, xent.cross_entropy_grad]
CAPS = [2.0**-100, 0.3, 1.0, 30.0, 1e6, 2.0**100]


def values(dtype):
    """Numbers of every size and sign: random ones, about the places where tanh is nearly 0 or nearly 1."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    found = [*rng.normal(0, 1, 300), *rng.normal(0, 40, 300), *np.exp(rng.uniform(-60, 60, 300))]
    found += [
        0.0,
        info.tiny,
        info.tiny * 3,
        info.eps,
        2.0**-30,
        2.0**-29,
        9.01,
        19.06,
        354.0,
        355.0,
        400.0,
        info.max / 4,
    ]
    found = np.array(found, dtype)
    return np.concatenate([found, -found])


def capped(z, cap):
    """What the losses see: the lse of a row of one class is its logit."""
    return xent.cross_entropy(z[:, None], np.zeros(len(z), int), softcap=cap, reduction="none", return_lse=True)[1]


def exact_tanh(v, cap):
    u = mpf(float(v)) / mpf(float(cap))
    return mp.tanh(u), 4 / (mp.exp(u) + mp.exp(-u)) ** 2


@pytest.mark.parametrize("cap", CAPS)
def test_capped_logits(cap, dtype, every_tier):
    z = values(dtype)
    with mp.workdps(2 * oracle.DIGITS):
        truth = oracle.Truth([mpf(float(cap)) * exact_tanh(v, cap)[0] for v in z], dtype)
    for _ in every_tier():
        oracle.check("softcap", capped(z, cap), truth, 1)


@pytest.mark.parametrize("cap", [0.3, 30.0])
def test_slopes(cap, dtype, every_tier):
    """Two classes, the second at -cap and the label: the gradient at the first is p_0 times the slope."""
    z = np.abs(values(dtype))
    z = z[z <= 800 * cap]
    rows = np.stack([z, np.full_like(z, -np.inf)], axis=1)
    with mp.workdps(2 * oracle.DIGITS):
        truths = []
        for v in z:
            tanh, slope = exact_tanh(v, cap)
            low = mpf(-float(cap))
            top = mpf(float(dtype.type(mpf(float(cap)) * tanh)))
            p = 1 / (1 + mp.exp(low - top))
            truths.append(slope * p)
        truth = oracle.Truth(truths, dtype)
    flat = np.array([float(t) < 1.01 * float(np.finfo(dtype).tiny) for t in truths])
    for _ in every_tier():
        grad = xent.cross_entropy_grad(rows, np.ones(len(z), int), softcap=cap, reduction="sum")[:, 0]
        # the gradient 2, the slope 1 1/2, the product 1/2; a slope that is too small is 0 before it is a product
        oracle.check("softcap, gradient", grad[~flat], truth[~flat], 4)
        assert (np.abs(grad[flat]) <= 1.02 * np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (40, 10), (3, 1025), (2, 8193), (130, 70)])
@pytest.mark.parametrize("kind", ["labels", "probabilities", "smoothed"])
def test_loss_and_gradient(shape, kind, dtype, tier):
    """The loss is, to the bit, that of the capped logits; the gradient its product with the slope."""
    rng = np.random.default_rng(shape)
    z, cap = (20 * rng.normal(size=shape)).astype(dtype), 30.0
    small = capped(z.ravel(), cap).reshape(shape)
    targets = rng.random(shape).astype(dtype) if kind == "probabilities" else rng.integers(0, shape[1], shape[0])
    options = {"label_smoothing": 0.1 * (kind == "smoothed"), "z_loss": 0.01, "reduction": "none", "return_lse": True}
    loss, grad, lse = xent.cross_entropy_with_grad(z, targets, softcap=cap, **options)
    small_loss, small_grad, small_lse = xent.cross_entropy_with_grad(small, targets, **options)
    assert (loss == small_loss).all()
    assert (lse == small_lse).all()
    slope = 1 / np.cosh(z.astype(np.float64) / cap) ** 2
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(grad, small_grad * slope, rtol=(4 if dtype == np.float32 else 16) * eps)
    alone = xent.cross_entropy_grad(z, targets, softcap=cap, **{**options, "return_lse": False})
    assert (alone == grad).all()
    own = z.copy()
    assert xent.cross_entropy_with_grad(own, targets, softcap=cap, out=own, **options)[1] is own
    assert (own == grad).all()


@pytest.mark.parametrize(
    "case", [c for c in cases.special_rows(np.float32) if len(c.logits) < 300], ids=lambda c: c.name
)
def test_infinities_and_nan(case):
    """An infinite logit is capped, with slope 0; a NaN makes its row NaN."""
    z = case.logits[None]
    loss, grad = xent.cross_entropy_with_grad(z, [0], softcap=5.0)
    theirs = reference.cross_entropy_with_grad(z, [0], softcap=5.0)
    np.testing.assert_allclose(loss, theirs[0], rtol=1e-5, atol=1e-30)
    if np.isnan(z).any():
        assert np.isnan(grad).all()
    else:
        np.testing.assert_allclose(grad, theirs[1], rtol=1e-4, atol=1e-30)
        assert (grad[np.isinf(z)] == 0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_layouts(axis):
    rng = np.random.default_rng(0)
    z = rng.normal(0, 9, (4, 5, 6)).astype(np.float32)
    labels = rng.integers(0, 4, z.shape[:axis] + z.shape[axis + 1 :])
    first = np.ascontiguousarray(np.moveaxis(z, axis, -1))
    loss, grad = xent.cross_entropy_with_grad(first, labels, softcap=3.0)
    for view in (z, np.asfortranarray(z), z.astype(">f4"), np.repeat(z, 2, 2)[..., ::2]):
        out = np.zeros((4, 5, 12), np.float32)[..., ::2]
        to = out if view.dtype == z.dtype else None
        other, _ = xent.cross_entropy_with_grad(view, labels, axis=axis, softcap=3.0, out=to)
        assert other == loss
        if view.dtype == z.dtype:
            assert (np.moveaxis(out, axis, -1) == grad).all()


def test_reference():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(0, 4, (3, 7)), [0, 3, 6]
    for cap in (0.5, 4.0, 100.0):
        ours, theirs = (m.cross_entropy_with_grad(z, labels, softcap=cap) for m in (xent, reference))
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-15)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-14)
    steep = reference.cross_entropy([[1e-20, 0.0]], [1], softcap=1.0)
    assert steep == pytest.approx(np.log(2))


def test_bits_do_not_depend_on_tiers_or_threads(every_tier, threads, dtype):
    z = (30 * np.random.default_rng(0).normal(size=(300, 700))).astype(dtype)
    labels, found = np.arange(300), set()
    for _ in every_tier():
        for n in (1, 2, 3):
            xent.set_num_threads(n)
            loss, grad = xent.cross_entropy_with_grad(z, labels, softcap=11.0)
            found.add(loss.tobytes() + grad.tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("softcap", [0, -1.0, np.nan, np.inf, 2.0**101, 2.0**-101])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_refused(function, softcap):
    with pytest.raises(ValueError, match="softcap must be a number from"):
        function([[1.0, 2.0]], [0], softcap=softcap)
    with pytest.raises(TypeError, match="softcap must be a number from"):
        function([[1.0, 2.0]], [0], softcap=object())
