"""Promises about the package itself: names, signatures, documentation, tiers, the header, the wheel."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import struct
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import pytest

import xent
from xent import _kernels, runtime

FUNCTIONS = [name for name in xent.__all__ if inspect.isfunction(getattr(xent, name))]
TWINS = xent.reference.__all__
PACKAGE = Path(xent.__file__).parent
KNOWN_TIERS = ("baseline", "v3", "v4", "neon")


def run(code, **variables):
    environment = {k: v for k, v in os.environ.items() if k != "XENT_TIER"} | variables
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_public_names():
    assert sorted(xent.__all__) == list(xent.__all__)
    modules = ("hessian", "logsumexp_state", "losses", "mlp", "per_sample", "reductions", "runtime", "sigmoid")
    own_modules = {*modules, "cli", "workspace"}
    assert {name for name in vars(xent) if not name.startswith("_")} - set(xent.__all__) <= own_modules
    own = {"MlpWorkspace", "__version__", "get_num_threads", "set_num_threads", "show_config", "reference"}
    assert set(TWINS) == set(xent.__all__) - own


@pytest.mark.parametrize("name", TWINS)
def test_signatures_are_the_reference_s(name):
    compiled, twin = (inspect.signature(getattr(module, name)).parameters for module in (xent, xent.reference))
    assert list(compiled) == list(twin)
    for parameter in compiled:
        assert compiled[parameter].kind == twin[parameter].kind, parameter
        assert compiled[parameter].default == twin[parameter].default, parameter


OPTIONS = [
    "axis",
    "class_weight",
    "sample_weight",
    "label_smoothing",
    "ignore_index",
    "z_loss",
    "reduction",
    "normalizer",
]
CAPPED = [*OPTIONS[:6], "softcap", *OPTIONS[6:]]
LAYER = ["x", "weight", "targets", "bias"]
SIGMOID = ["logits", "targets", "pos_weight", "sample_weight", "reduction"]


@pytest.mark.parametrize(
    ("name", "parameters", "keyword_only_from"),
    [
        ("logsumexp", ["a", "axis", "b", "keepdims", "return_sign", "out"], "out"),
        ("softmax", ["x", "axis", "out"], "out"),
        ("log_softmax", ["x", "axis", "out"], "out"),
        ("cross_entropy", ["logits", "targets", *CAPPED, "return_lse"], "axis"),
        ("cross_entropy_with_grad", ["logits", "targets", *CAPPED, "return_lse", "out"], "axis"),
        ("cross_entropy_grad", ["logits", "targets", "grad_loss", *CAPPED, "return_lse", "out"], "axis"),
        ("linear_cross_entropy", [*LAYER, *CAPPED[1:], "return_lse", "max_bytes"], "class_weight"),
        (
            "linear_cross_entropy_with_grad",
            [*LAYER, "grad_loss", *CAPPED[1:], "return_lse", "max_bytes", "need", "out", "accumulate"],
            "class_weight",
        ),
        ("sigmoid_cross_entropy", SIGMOID, "pos_weight"),
        ("sigmoid_cross_entropy_with_grad", [*SIGMOID, "out"], "pos_weight"),
        ("cross_entropy_hessian_diag", ["logits", "targets", *OPTIONS], "axis"),
        ("cross_entropy_hvp", ["logits", "targets", "vector", *OPTIONS], "axis"),
        ("dense", ["x", "weight", "bias", "activation", "out", "saved"], "out"),
        (
            "dense_backward",
            [
                *("grad_y", "x", "weight", "saved", "activation", "need", "out", "accumulate", "grad_z_out"),
                "per_sample_norms",
            ],
            "need",
        ),
        ("dense_sample_norms", ["grad_z", "x", "bias"], "bias"),
        ("dense_sample_grads", ["grad_z", "x", "out"], "out"),
        ("dense_weighted_grads", ["grad_z", "x", "sample_weight", "out"], "out"),
        ("dense_clipped_grads", ["grad_z", "x", "max_norm", "sample_norms", "bias", "out"], "sample_norms"),
    ],
)
def test_signatures(name, parameters, keyword_only_from):
    found = inspect.signature(getattr(xent, name)).parameters
    assert list(found) == parameters
    first = parameters.index(keyword_only_from)
    assert [p for p in parameters if found[p].kind is inspect.Parameter.KEYWORD_ONLY] == parameters[first:]
    defaults = {
        **{
            "axis": -1,
            "class_weight": None,
            "sample_weight": None,
            "label_smoothing": 0.0,
            "ignore_index": None,
        },
        **{"z_loss": 0.0, "reduction": "mean", "normalizer": None, "return_lse": False, "out": None},
        **{"b": None, "keepdims": False, "return_sign": False, "grad_loss": 1.0, "pos_weight": None},
    }
    if name in ("logsumexp", "softmax", "log_softmax"):
        defaults["axis"] = None
    if name == "dense_weighted_grads":
        defaults["sample_weight"] = inspect.Parameter.empty
    assert all(found[p].default == defaults[p] for p in parameters if p in defaults)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings(name):
    text = inspect.getdoc(getattr(xent, name))
    assert "Examples\n--------\n>>> " in text or name == "show_config"
    if name in TWINS:
        for heading in ("Parameters", "Returns", "Raises", "See Also"):
            assert f"{heading}\n{'-' * len(heading)}" in text, heading
        given = set(inspect.signature(getattr(xent, name)).parameters)
        assert all(re.search(rf"\b{parameter}\b", text) for parameter in given)
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


MODULES = [
    "xent",
    *(f"xent.{m.name}" for m in pkgutil.iter_modules(xent.__path__) if m.name not in ("__main__", "cli", "_kernels")),
]
MODULES += [f"xent.reference.{m.name}" for m in pkgutil.iter_modules(xent.reference.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name, threads):
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        pytest.skip("NumPy 1 prints scalars in another way")
    results = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert results.failed == 0


def test_reference_needs_no_numpy():
    assert (
        run(
            "import sys, types; sys.modules['numpy'] = None; package = types.ModuleType('xent');"
            f"package.__path__ = [{str(PACKAGE)!r}]; sys.modules['xent'] = package;"
            "import xent.reference as r; assert r.softmax([0.0, 0.0]) == [0.5, 0.5]"
        ).returncode
        == 0
    )


def test_import_brings_nothing_but_numpy():
    done = run("import sys, xent; print(*{name.split('.')[0] for name in sys.modules})")
    assert not {"scipy", "matplotlib", "rich", "sklearn", "torch", "jax", "mpmath"} & set(done.stdout.split())


# ---- tiers


def test_tiers():
    assert _kernels.tiers()
    assert set(_kernels.tiers()) <= set(KNOWN_TIERS)
    assert [t for t in KNOWN_TIERS if t in _kernels.tiers()] == _kernels.tiers()  # lowest first


@pytest.mark.parametrize("name", _kernels.tiers())
def test_tier_from_the_environment(name):
    done = run("import xent; xent.show_config(); xent.softmax([1.0, 2.0])", XENT_TIER=name)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^tier +{name}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["v9", "V3", "avx2", "reference", " v3", *sorted(set(KNOWN_TIERS) - set(_kernels.tiers()))]
)
def test_a_tier_that_is_not_to_be_had(name):
    done = run("import xent", XENT_TIER=name)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    here = ", ".join(_kernels.tiers())
    assert last == f"ImportError: XENT_TIER={name}: no tier {name!r} here: this build and CPU have {here}"


def test_the_highest_tier_is_the_default():
    assert run("import xent; print(xent._kernels.tier())").stdout.strip() == _kernels.tiers()[-1]
    assert run("import xent; print(xent._kernels.tier())", XENT_TIER="").stdout.strip() == _kernels.tiers()[-1]


def test_show_config(tier, capsys):
    xent.show_config()
    shown = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert shown["tier"] == tier == _kernels.tier() == runtime.config()["tier"]
    assert shown["version"] == xent.__version__ == metadata.version("xent")
    assert shown["tiers"].split(", ") == _kernels.tiers() == runtime.config()["tiers"]
    assert shown["threads"] == str(xent.get_num_threads())
    assert shown["numpy"] == np.__version__
    assert re.match(r"(gcc|clang) \d", shown["compiler"])


# ---- what is installed


def test_typed():
    assert resources.files("xent").joinpath("py.typed").is_file()
    assert resources.files("xent").joinpath("_kernels.pyi").is_file()


def needed(path):
    """DT_NEEDED of a 64-bit little-endian ELF file: the shared libraries it asks for."""
    data = path.read_bytes()
    (section_table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, section_table + k * size) for k in range(count)]
    (dynamic,) = [s for s in sections if s[1] == 6]
    strings = sections[dynamic[6]][4]
    entries = struct.iter_unpack("<QQ", data[dynamic[4] : dynamic[4] + dynamic[5]])
    return [data[strings + value :].split(b"\0", 1)[0].decode() for tag, value in entries if tag == 1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ELF")
def test_no_foreign_shared_library():
    extension = Path(_kernels.__file__)
    allowed = r"lib(c|m|pthread)\.so\.\d+|ld-linux.*\.so\.\d+"
    assert extension.read_bytes()[:4] == b"\x7fELF"
    assert all(re.fullmatch(allowed, name) for name in needed(extension)), needed(extension)
    installed = [file for file in metadata.files("xent") if ".so" in file.name]
    assert [Path(file).name for file in installed] in ([extension.name], [])  # none: an editable install


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_compiles_alone(language, tmp_path):
    compiler = shutil.which("cc" if language == "c" else "c++")
    if not compiler:
        pytest.skip(f"no {language} compiler")
    header = PACKAGE / "include" / "xent.h"
    assert header.is_file()
    assert "Python.h" not in header.read_text()
    standard = "c11" if language == "c" else "c++11"
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", language]
    source = tmp_path / "alone.c"
    source.write_text('#include "xent.h"\nint main(void) { return xent_get_num_threads() > 0 ? 0 : 1; }\n')
    done = subprocess.run([compiler, *flags, "-I", header.parent, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="no free-threading before Python 3.13")
def test_free_threading_is_declared():
    before = run("import sys; print(sys._is_gil_enabled())").stdout
    assert run("import sys, xent; print(sys._is_gil_enabled())").stdout == before
