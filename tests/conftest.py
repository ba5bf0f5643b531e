"""What all tests share: every tier, both dtypes, and proof that the compiled kernels are what is tested."""

from collections.abc import Callable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES

import numpy as np
import oracle
import pytest

import xent
from xent import _kernels


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exhaustive: searches that take minutes; only run by -m exhaustive")
    for name in ("xfail_xp_backends", "skip_xp_backends", "array_api_backends", "uses_xp_capabilities"):
        config.addinivalue_line("markers", f"{name}: of SciPy's own tests, which test_scipy.py runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the exhaustive searches unless markers are chosen on the command line."""
    if config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The worst error seen by each accuracy test, beside its bound."""
    if oracle.WORST:
        terminalreporter.section("worst errors in ulp")
    for (what, dtype), (worst, bound) in sorted(oracle.WORST.items()):
        terminalreporter.write_line(f"{what:<44} {dtype:<8} {worst:6.3f}  of {bound:g}")


@pytest.fixture(autouse=True, scope="session")
def _compiled() -> None:
    """The extension is the compiled one, and the public functions are not the reference's."""
    assert _kernels.__file__.endswith(tuple(EXTENSION_SUFFIXES))
    assert not xent.softmax.__module__.startswith("xent.reference")
    assert not xent.cross_entropy.__module__.startswith("xent.reference")


@pytest.fixture(params=_kernels.tiers())
def tier(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each tier that this machine has, forced, and read back from the table that executes."""
    before = _kernels.tier()
    _kernels.set_tier(request.param)
    assert _kernels.tier() == request.param
    yield request.param
    assert _kernels.tier() == request.param
    _kernels.set_tier(before)


@pytest.fixture
def every_tier() -> Iterator[Callable[[], Iterator[str]]]:
    """A loop over the tiers, for tests whose truth takes longest: each forced and read back, the first put
    back.
    """
    before = _kernels.tier()

    def each() -> Iterator[str]:
        for name in _kernels.tiers():
            _kernels.set_tier(name)
            assert _kernels.tier() == name
            yield name
            assert _kernels.tier() == name

    yield each
    _kernels.set_tier(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    return np.dtype(request.param)


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is put back."""
    before = xent.get_num_threads()
    yield
    xent.set_num_threads(before)
