"""Calls of a few rows of a few classes, which are not worth being turned, and are taken one by one (most_alone in
csrc/kernels/sweeper.c): the bits of the same rows among many, whatever their number."""

import numpy as np
import pytest

import xent


def results(z, y, q):
    yield xent.cross_entropy_with_grad(z, y, reduction="none", return_lse=True)
    yield xent.cross_entropy_with_grad(z, y, reduction="none", z_loss=0.1, label_smoothing=0.1)
    yield xent.cross_entropy_with_grad(z, q, reduction="none")
    yield xent.softmax(z, axis=1), xent.log_softmax(z, axis=1), xent.logsumexp(z, axis=1)
    in_place = z.copy()
    yield (
        xent.cross_entropy_grad(in_place, y, reduction="none", out=in_place),
        xent.cross_entropy(z, y, reduction="none"),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=lambda t: np.dtype(t).name)
@pytest.mark.parametrize("classes", [2, 3, 10, 32, 33, 100, 128, 129, 200, 256])
@pytest.mark.parametrize("odd", [False, True])
def test_among_few_and_many(classes, dtype, odd, tier):
    """Odd: with rows that no batch takes side by side."""
    rng = np.random.default_rng(classes)
    z = (3 * rng.standard_normal((64, classes))).astype(dtype)
    z[1, 0] += 40  # one large logit
    z[3, 1:] = -np.inf
    z[9, -1] = np.nan
    if odd:
        z[6] += 7e4 if dtype != np.float16 else 0  # far
        z[12, 0] = np.inf
    y, q = rng.integers(0, classes, 64), rng.random(z.shape).astype(np.float32)
    q[::3] = 0
    q[::3, 0] = 1
    many = list(results(z, y, q))
    for n in (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 17, 20, 33, 45):
        for few, all_rows in zip(results(z[:n], y[:n], q[:n]), many, strict=True):
            for a, b in zip(few, all_rows, strict=True):
                assert a.tobytes() == b[:n].tobytes(), n
