"""The command line: what each command prints, and above all its exit status."""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xent
from xent import _kernels, cli, reference
from xent.cli import _console, accuracy, bench, bench_measure, bits, cases, main, peers, verify
from xent.cli._data import load_digits

TINY_BENCH = ["bench", "--quick", "--shapes", "32x10,5x7", "--peers", "numpy"]


ALL_CASES, JUDGE = cases.cases, accuracy.judge


@functools.cache
def few_cases(dtype: np.dtype[Any], seed: int, full: bool) -> tuple[cases.Case, ...]:
    """A handful of verify's cases."""
    some: list[cases.Case] = []
    for kind, group in itertools.groupby(ALL_CASES(dtype, seed, full), lambda case: case.kind):
        small = (case for case in group if case.logits.size < 500)
        some += itertools.islice(small, 20 if kind == "softmax" else 5)
    return tuple(some)


JUDGED: dict[int, accuracy.Judged] = {}  # by the identity of a case that few_cases keeps


@pytest.fixture
def few_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let verify look at a handful of its inputs, and find their truth once, to be fast."""
    all_inputs = bits.inputs

    def judge(case: cases.Case) -> accuracy.Judged:
        if id(case) not in JUDGED:
            JUDGED[id(case)] = JUDGE(case)
        return JUDGED[id(case)]

    monkeypatch.setattr(cases, "cases", few_cases)
    monkeypatch.setattr(accuracy, "judge", judge)
    monkeypatch.setattr(bits, "inputs", lambda *args: all_inputs(*args)[:4])


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Every command leaves tier and threads as it found them."""
    before = _kernels.tier(), xent.get_num_threads()
    yield
    assert (_kernels.tier(), xent.get_num_threads()) == before


def hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """As if the package were not installed."""
    monkeypatch.setitem(sys.modules, module, None)
    assert not _console.installed(module)


# ---- info, and the program as a whole ---------------------------------------------------------------------


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert xent.__version__ in text
    assert _kernels.tier() in text


def test_run_as_module() -> None:
    done = subprocess.run([sys.executable, "-m", "xent", "info"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tier" in done.stdout


@pytest.mark.parametrize("argv", [["nonsense"], ["bench", "--shapes", "3by4"], ["train", "--epochs", "0"]])
def test_bad_arguments(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2


@pytest.mark.parametrize("failing", [None, "info", "verify", "train", "bench"])
def test_without_a_command(
    failing: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def fake(name: str) -> Callable[[Any], int]:
        def run(args: Any) -> int:
            ran.append((name, getattr(args, "quick", None)))
            return int(name == failing)

        return run

    for name, module in cli.COMMANDS.items():
        monkeypatch.setattr(module, "run", fake(name))
    assert main([]) == (failing is not None)
    assert ran == [
        ("info", None),
        ("verify", True),
        ("train", None),
        ("bench", True),
    ]  # a failure stops nothing
    assert ("FAILED" in capsys.readouterr().out) == (failing is not None)


# ---- the console ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rich", [True, False])
def test_table(rich: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        hide(monkeypatch, "rich")
    _console.heading("results")
    _console.table(["name", ">value"], [["one", "1"], ["[bold]many", "1234567"]], title="numbers")
    text = capsys.readouterr().out
    assert "numbers" in text
    assert "[bold]many" in text  # a cell is text, not markup
    assert "      1" in text  # aligned right
    if not rich:
        rows = ["name          value", "----------  -------", "one               1", "[bold]many  1234567"]
        assert text.splitlines()[-4:] == rows


@pytest.mark.parametrize("rich", [True, False])
def test_progress_on_a_terminal(
    rich: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if rich:
        pytest.importorskip("rich")
    else:
        hide(monkeypatch, "rich")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with _console.progress("steps", 3) as advance:
        for _ in range(3):
            advance()
    text = capsys.readouterr().out
    assert rich or "3/3" in text


def test_sparkline() -> None:
    assert _console.sparkline([]) == ""
    assert _console.sparkline([2.0, 2.0]) == "▁▁"
    assert _console.sparkline([0.0, 1.0]) == "▁█"
    assert _console.sparkline([0.0, float("nan"), 1.0, float("inf")]) == "▁?█?"
    assert len(_console.sparkline([float(i) for i in range(1000)])) == 60


def test_output_that_cannot_be_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(encoding="ascii"))
    assert _console.sparkline([0.0, 1.0]) == "_#"
    assert _console._encodable("µs") == "?s"


# ---- verify -----------------------------------------------------------------------------------------------


def test_verify_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--quick", "--seed", "1"]) == 0
    text = capsys.readouterr().out
    assert "verify passed" in text
    for name in accuracy.BOUNDS:
        assert name in text
    for tier in _kernels.tiers():
        assert tier in text


def _three_ulp(result: Any) -> Any:
    return np.nextafter(np.nextafter(np.nextafter(result, np.inf), np.inf), np.inf).astype(result.dtype)


def _nan(result: Any) -> Any:
    return np.where(np.arange(result.size).reshape(result.shape) == 1, np.nan, result).astype(result.dtype)


@pytest.mark.usefixtures("few_inputs")
@pytest.mark.parametrize("fault", [_three_ulp, _nan, np.zeros_like, lambda result: result[:0]])
@pytest.mark.parametrize("kernel", ["softmax", "logsumexp", "log_softmax"])
def test_verify_fails_when_a_kernel_is_wrong(
    kernel: str, fault: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(xent, kernel)
    monkeypatch.setattr(xent, kernel, lambda *args, **options: fault(right(*args, **options)))
    assert not verify.check_accuracy(0, False)


@pytest.mark.usefixtures("few_inputs")
def test_verify_exit_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    right = xent.cross_entropy_with_grad

    def wrong(*args: Any, **options: Any) -> Any:
        loss, *rest = right(*args, **options)
        return (loss * 1.0001, *rest)

    monkeypatch.setattr(xent, "cross_entropy_with_grad", wrong)
    assert main(["verify"]) == 1
    text = capsys.readouterr().out
    assert "verify FAILED" in text
    assert "2 FAILED" in text


@pytest.mark.usefixtures("few_inputs")
@pytest.mark.skipif(len(_kernels.tiers()) < 2, reason="one tier only")
def test_verify_fails_when_a_bit_differs_on_one_tier(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = xent.softmax

    def wrong(z: Any, **options: Any) -> Any:
        result = right(z, **options)
        return np.nextafter(result, 0.0) if _kernels.tier() == _kernels.tiers()[-1] else result

    monkeypatch.setattr(xent, "softmax", wrong)
    assert main(["verify"]) == 1
    assert "DIFFERENT: softmax" in capsys.readouterr().out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_in_ulp(dtype: type[np.floating[Any]]) -> None:
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    one = dtype(1.0)
    truth = [1.0, 1.0, 1.0, 1.0, 0.0, float(tiny) / 4, np.nan, np.inf, 1.0, 1.0, 2.0]
    got = [one, one + eps, one - eps, one + 3 * eps, 0.0, 0.0, np.nan, np.inf, np.nan, np.inf, 2.0]
    expected = [0.0, 1.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0, np.inf, np.inf, 0.0]
    high = np.asarray(truth)
    found = accuracy.errors(np.asarray(got, dtype), accuracy.Truth(high, np.zeros_like(high), np.abs(high)))
    np.testing.assert_array_equal(found, expected)
    # below the smallest normal number only 0 will do, and a subnormal never
    high = np.full(3, float(tiny) / 4)
    found = accuracy.errors(np.asarray([tiny / 4, tiny, 0.0], dtype), accuracy.Truth(high, 0 * high, high))
    assert found[0] == np.inf
    assert found[1] > 1000.0
    assert found[2] == 0.0


def test_the_truth_is_the_public_reference() -> None:
    """What verify derives from the reference's rows, rounded, is what the reference's functions return."""
    for case in cases.cases(np.dtype(np.float64), 3, False):
        if case.kind != "softmax" or case.logits.size > 300:
            continue
        truths = accuracy.judge(case).truths
        z, y, q = case.logits, case.labels, case.probabilities
        expected = {
            accuracy.LSE: reference.logsumexp(z, axis=-1),
            accuracy.SOFTMAX: reference.softmax(z, axis=-1),
            accuracy.LOG_SOFTMAX: reference.log_softmax(z, axis=-1),
            accuracy.MEAN_GRAD: reference.cross_entropy_with_grad(z, y)[1],
        }
        expected[accuracy.LOSS], expected[accuracy.GRAD] = reference.cross_entropy_with_grad(z, y, reduction="none")
        expected[accuracy.LOSS_Q], expected[accuracy.GRAD_Q] = reference.cross_entropy_with_grad(z, q, reduction="none")
        for name, value in expected.items():
            high = np.where(np.abs(truths[name].high) < np.finfo(np.float64).tiny, 0.0, truths[name].high)
            np.testing.assert_array_equal(high, np.asarray(value), err_msg=f"{name}, {case.name}")


def test_the_sigmoid_truth_is_the_public_reference() -> None:
    for case in cases.cases(np.dtype(np.float64), 3, False):
        if case.kind != "sigmoid":
            continue
        truths = accuracy.judge(case).truths
        loss, grad = reference.sigmoid_cross_entropy_with_grad(case.logits, case.probabilities, reduction="none")
        for name, value in ((accuracy.SIGMOID_LOSS, loss), (accuracy.SIGMOID_GRAD, grad)):
            high = np.where(np.abs(truths[name].high) < np.finfo(np.float64).tiny, 0.0, truths[name].high)
            np.testing.assert_array_equal(high, np.asarray(value), err_msg=f"{name}, {case.name}")


# ---- train ------------------------------------------------------------------------------------------------


def test_digits() -> None:
    digits = load_digits()
    assert len(digits.train_y) + len(digits.test_y) == 1797
    assert digits.train_x.shape[1] == 64
    assert digits.train_x.min() == 0.0
    assert digits.train_x.max() == 1.0
    assert set(digits.test_y) == set(range(10))
    assert (Path(cli.__file__).parent / "digits.npz").stat().st_size < 80_000


def test_train(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train"]) == 0
    text = capsys.readouterr().out
    assert "CC BY 4.0" in text
    assert "accuracy" in text
    assert main(["train"]) == 0  # the same seed, the same run
    assert [line for line in capsys.readouterr().out.splitlines() if "time" not in line] == [
        line for line in text.splitlines() if "time" not in line
    ]


def test_train_that_learns_nothing_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--epochs", "1", "--learning-rate", "1e-6"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_train_that_diverges_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with np.errstate(all="ignore"):
        assert main(["train", "--epochs", "3", "--learning-rate", "1e30"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY_BENCH, "--json", str(tmp_path / "missing" / "bench.json")]) == 2
    assert "missing" in capsys.readouterr().err


def test_train_lbfgs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("scipy")
    assert main(["train", "--optimizer", "lbfgs"]) == 0
    assert "iteration" in capsys.readouterr().out


def test_train_lbfgs_without_scipy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hide(monkeypatch, "scipy")
    assert main(["train", "--optimizer", "lbfgs"]) == 2
    assert "xent[train]" in capsys.readouterr().err


def test_train_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["train", "--plot", str(tmp_path / "loss.png")]) == 0
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


# ---- bench ------------------------------------------------------------------------------------------------


def test_bench_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.json"
    assert main([*TINY_BENCH, "--json", str(path), "--threads", "1"]) == 0
    assert "cost in copies" in capsys.readouterr().out
    report = json.loads(path.read_text())
    assert {"cpu", "tier", "threads", "dtype", "date", "python", "libraries", "left_out", "results"} <= set(report)
    assert report["tier"] == _kernels.tier()
    assert report["libraries"]["numpy"] == {"version": np.__version__, "threads": "1"}
    # two shapes; xent, fresh, in place and numpy for three operations, no in place for lse
    assert len(report["results"]) == 2 * (4 + 3 + 4 + 4)
    for record in report["results"]:
        assert record["correct"]
        assert record["seconds"] > 0.0
        assert record["copies"] > 0.0
        assert record["rounds"] >= bench_measure.FEWEST_ROUNDS


def test_bench_fails_when_xent_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    right = xent.logsumexp
    monkeypatch.setattr(xent, "logsumexp", lambda *args, **options: right(*args, **options) * np.nan)
    assert main(TINY_BENCH) == 1
    text = capsys.readouterr().out
    assert "WRONG: xent, lse, 32x10" in text


def test_bench_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hide(monkeypatch, "torch")
    assert main([*TINY_BENCH[:-1], "numpy,torch"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "torch" in line)
    assert "not installed" in line
    assert main([*TINY_BENCH[:-1], "numpy,abacus"]) == 2
    assert "abacus" in capsys.readouterr().err


def test_bench_does_not_time_a_wrong_peer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(threads: int) -> peers.Peer:
        job = peers.Job(lambda: 1.0, lambda result: (np.full(32, np.nan),))
        return peers.Peer("wrong", "0", "1", {peers.LSE: lambda z, y: job})

    monkeypatch.setitem(peers.PEERS, "numpy", ("numpy", wrong))
    assert main(TINY_BENCH) == 0
    assert "WRONG: wrong, lse" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["numpy", "scipy", "sklearn", "torch", "jax"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_peer_is_right(name: str, dtype: str) -> None:
    module, make = peers.PEERS[name]
    pytest.importorskip(module)
    records = [
        record
        for operation in peers.OPERATIONS
        for record in bench.measure(operation, (20, 13), np.dtype(dtype), [make(1)], 0.0)
    ]
    assert records
    assert [record["problem"] for record in records] == [""] * len(records)


def test_bench_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main([*TINY_BENCH, "--plot", str(tmp_path / "bench.png")]) == 0
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", [["train", "--epochs", "40"], TINY_BENCH])
def test_plot_without_matplotlib(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hide(monkeypatch, "matplotlib")
    assert main([*command, "--plot", str(tmp_path / "x.png")]) == 2
    assert "xent[plot]" in capsys.readouterr().err
