"""The reductions beside SciPy's: the same shapes, dtypes, signs and special values, and its own tests run on
ours.

SciPy is some ulps off; the truth is in the other files. Here `close` allows what SciPy's tests allow
themselves.
"""

import importlib
import inspect
import itertools
import warnings

import numpy as np
import pytest

import xent

special = pytest.importorskip("scipy.special")

INF, NAN = np.inf, np.nan
FUNCTIONS = ["logsumexp", "softmax", "log_softmax"]


def close(got, expected, kind=np.float64):
    assert type(got) is type(expected) or np.ndim(got) > 0
    assert np.shape(got) == np.shape(expected)
    assert np.asarray(got).dtype == np.asarray(expected).dtype
    eps = np.finfo(np.asarray(expected).dtype).eps
    np.testing.assert_allclose(got, expected, rtol=64 * eps, atol=64 * eps)  # x - max costs SciPy up to 64 ulp


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, (0, 1), (0, 2), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("scale", [1, 30, 1000])
def test_axes(dtype, name, axis, scale):
    x = np.random.default_rng(scale).normal(0, scale, (3, 4, 5)).astype(dtype)
    close(getattr(xent, name)(x, axis=axis), getattr(special, name)(x, axis=axis))
    if name == "logsumexp":
        close(xent.logsumexp(x, axis, None, True), special.logsumexp(x, axis, None, True))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("kind", [bool, np.int8, np.int32, np.int64, np.uint8, np.float32, np.float64])
def test_dtypes(name, kind):
    x = np.random.default_rng(0).integers(0, 2 if kind is bool else 50, (4, 6)).astype(kind)
    if kind is bool and name != "logsumexp":
        x = x.astype(np.int64)  # SciPy cannot subtract bools
    elif np.dtype(kind).kind in "iu" and np.dtype(kind).itemsize < 4 and name != "logsumexp":
        x = x.astype(np.int32)  # SciPy keeps small integers below float64
    close(getattr(xent, name)(x, axis=1), getattr(special, name)(x, axis=1))


@pytest.mark.parametrize("b_shape", [(), (1,), (6,), (4, 1), (4, 6), (2, 4, 6), (1, 1, 1, 6)])
@pytest.mark.parametrize("return_sign", [False, True])
@pytest.mark.parametrize("axis", [None, -1, -2, (-1, -2)])
def test_factors_broadcast(dtype, b_shape, return_sign, axis):
    rng = np.random.default_rng(len(b_shape))
    a = rng.normal(size=(4, 6)).astype(dtype)
    for b in (rng.random(b_shape), rng.normal(size=b_shape)):
        b = np.asarray(b).astype(dtype)
        for keepdims in (False, True):
            args = {"axis": axis, "b": b, "return_sign": return_sign, "keepdims": keepdims}
            with np.errstate(all="ignore"):
                got, expected = xent.logsumexp(a, **args), special.logsumexp(a, **args)
            if return_sign:
                close(got[1], expected[1])
                got, expected = got[0], expected[0]
            close(got, expected)


@pytest.mark.parametrize(
    ("first", "second"), [("f4", "f8"), ("f8", "f4"), ("i4", "f4"), ("f4", "i4"), ("i8", "i2"), ("?", "f4")]
)
def test_dtype_of_both(first, second):
    """As np.result_type, an integer counting as float64."""
    a, b = np.array([1, 0, 1]).astype(first), np.array([1, 1, 0]).astype(second)
    kinds = [np.dtype(k) if np.dtype(k).kind == "f" else np.dtype("f8") for k in (first, second)]
    got = xent.logsumexp(a, b=b)
    assert got.dtype == np.result_type(*kinds)
    assert got == pytest.approx(np.log(np.sum(b * np.exp(a.astype(float)))), rel=1e-6)


SPECIAL_ROWS = [
    *([INF], [-INF], [NAN], [INF, INF], [-INF, -INF], [INF, -INF], [INF, 1], [-INF, 1]),
    *([NAN, 1], [NAN, INF], [NAN, -INF], [1e4, 0], [-1e4, 0], [1000, 1000], [-1000, -1000, -1000]),
    *([0.0], [1e-300, 0]),
]


@pytest.mark.parametrize("row", SPECIAL_ROWS, ids=str)
def test_special_rows(dtype, row):
    x = np.array(row).astype(dtype)
    with np.errstate(all="ignore"):
        expected = {name: getattr(special, name)(x) for name in FUNCTIONS}
        got = {name: getattr(xent, name)(x) for name in FUNCTIONS}
        signs = xent.logsumexp(x, return_sign=True), special.logsumexp(x, return_sign=True)
    for name in FUNCTIONS:
        close(got[name], expected[name])
    np.testing.assert_array_equal(signs[0][1], signs[1][1])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ours_says_nothing_about_infinities(name):
    """No RuntimeWarning leaves a function, whatever the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for row in ([INF, -INF], [NAN, 1.0], [-INF, -INF], [1e308, -1e308], [-1e5, 0.0], [5e-324, 0.0]):
            getattr(xent, name)(row)


def test_empty():
    for shape, axis in (((0,), None), ((0, 3), 0), ((0, 3), 1), ((3, 0), 1), ((2, 0, 3), (0, 1))):
        x = np.empty(shape)
        for keepdims in (False, True):
            got = xent.logsumexp(x, axis=axis, keepdims=keepdims)
            assert np.shape(got) == np.sum(x, axis=axis, keepdims=keepdims).shape
            assert np.all(np.asarray(got) == -INF)
    close(xent.logsumexp([], return_sign=True)[1], special.logsumexp(np.array([]), return_sign=True)[1])


def test_documented_values():
    assert xent.logsumexp(np.arange(10)) == pytest.approx(9.4586297444267107, rel=1e-15)
    assert xent.logsumexp(np.arange(10), b=np.arange(10, 0, -1)) == pytest.approx(9.9170178533034665, rel=1e-15)
    assert xent.logsumexp([1, 2], b=[1, -1], return_sign=True) == pytest.approx((1.5413248546129181, -1.0))
    assert np.isnan(xent.logsumexp([1, 2], b=[1, -1]))
    assert xent.logsumexp([1e308, -1e308]) == 1e308
    np.testing.assert_array_equal(xent.log_softmax([1000.0, 1.0]), [0.0, -999.0])
    np.testing.assert_allclose(xent.softmax([1000, 0, 0, 0]), [1, 0, 0, 0], rtol=1e-13)
    np.testing.assert_allclose(
        xent.softmax(np.arange(4)), np.exp(np.arange(4)) / np.exp(np.arange(4)).sum(), rtol=1e-15
    )


# ---- SciPy's own tests, with our functions in the place of its own


def scipy_tests():
    """The test functions of SciPy's file that take no array-API argument but `xp`."""
    try:
        module = importlib.import_module("scipy.special.tests.test_logsumexp")
    except ImportError:
        return None, []
    found = []
    for owner_name in dir(module):
        owner = getattr(module, owner_name)
        if isinstance(owner, type) and owner_name.startswith("Test"):
            found += [(owner, name) for name in dir(owner) if name.startswith("test")]
    return module, found


def arguments(test):
    """Every combination that its marks ask for, `xp` apart; None if it needs a fixture that is not known
    here.
    """
    marks = [m for m in getattr(test, "pytestmark", []) if m.name == "parametrize"]
    lists = []
    for mark in marks:
        names = mark.args[0] if isinstance(mark.args[0], list | tuple) else [n.strip() for n in mark.args[0].split(",")]
        rows = [
            getattr(v, "values", v) if hasattr(v, "marks") else (v if len(names) > 1 else (v,)) for v in mark.args[1]
        ]
        lists.append([dict(zip(names, row, strict=True)) for row in rows])
    wanted = [p for p in inspect.signature(test).parameters if p not in ("self", "xp")]
    combined = [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*lists)]
    return combined if all(set(wanted) <= set(c) for c in combined) else None


MODULE, SCIPY_TESTS = scipy_tests()


def refuses(error):
    """A refusal of complex or other numbers that are not ours."""
    return isinstance(error, TypeError) and "must be real: float32, float64" in str(error)


@pytest.mark.skipif(MODULE is None, reason="SciPy's tests are not installed")
@pytest.mark.parametrize(("owner", "name"), SCIPY_TESTS, ids=[f"{o.__name__}-{n}" for o, n in SCIPY_TESTS])
def test_scipy_s_own(owner, name, monkeypatch):
    for function in FUNCTIONS:
        if hasattr(MODULE, function):
            monkeypatch.setattr(MODULE, function, getattr(xent, function))
    test = getattr(owner, name)
    combined = arguments(test)
    if combined is None:
        pytest.skip("needs a fixture of SciPy's")
    ran = 0
    for given in combined:
        if "xp" in test.__code__.co_varnames[: test.__code__.co_argcount]:
            given = {**given, "xp": np}
        instance = owner()
        if hasattr(instance, "setup_method"):
            instance.setup_method()
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                test(instance, **given)
        except TypeError as error:
            if not refuses(error):
                raise
            continue  # complex
        ran += 1
    if not ran:
        pytest.skip("of complex numbers only")
