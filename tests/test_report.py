"""The report of the benchmarks: what becomes of records, without measuring any."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the tests without the rest of the repository")


@pytest.fixture
def modules(monkeypatch):
    """The scripts, importable as they import each other; forgotten afterwards."""
    names = [path.stem for path in BENCHMARKS.glob("*.py") if not path.stem.startswith(("test_", "conftest"))]
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import report
    import shapes
    import tables

    yield report, shapes, tables
    for name in names:
        sys.modules.pop(name, None)


def peer(library, operation="loss+grad", copies=1.0, **other):
    record = {"library": library, "operation": operation, "rows": 8, "classes": 4, "copies": copies, "correct": True}
    return {**record, **other}


def head(**other):
    libraries = {"xent": {"version": "1"}, "xent fresh": {"version": "1"}, "numpy": {"version": "2"}}
    about = {"cpu": "C", "tier": "v4", "threads": 2, "python": "3.11", "libraries": libraries, "dtype": "float32"}
    return {**about, "left_out": {"torch": "not installed"}, "date": "2030-01-01T00:00:00", **other}


def part(*records, date="2030-01-01T00:00:00"):
    return {"date": date, "load_average": 0.0, "records": list(records)}


def test_fill_leaves_what_it_has_nothing_for(modules):
    _, _, tables = modules
    page = "a\n<!-- report: one -->\nold\n<!-- end -->\nb\n<!-- report: two -->\nkept\n<!-- end -->\nc\n"
    filled = tables.fill(page, {"one": r"new \1"})
    assert filled == page.replace("old", "\nnew \\1\n")
    assert tables.fill(filled, {"one": r"new \1"}) == filled
    assert tables.fill(page, {}) == page
    assert tables.places(page) == ["one", "two"]


def test_pivot(modules):
    _, _, tables = modules
    records = [{"r": r, "c": c, "x": r + c} for r, c in ["ab", "ac", "dc", "ab"]]
    text = tables.pivot(records, lambda r: r["r"], lambda r: r["c"], lambda r: r["x"], "corner")
    assert text.splitlines() == ["| corner | b | c |", "|---|---|---|", "| a | ab / ab | ac |", "| d | | dc |"]


@pytest.mark.parametrize(("x", "text"), [(0.816, "0.82"), (1.994, "1.99"), (1.996, "2.0"), (9.94, "9.9"), (9.96, "10")])
def test_short(modules, x, text):
    assert modules[2].short(x) == text


def test_libraries_table_names_what_is_wrong(modules):
    report, _, _ = modules
    records = [
        peer("xent", copies=0.8),
        peer("jax", correct=False, problem="differs from float64 by up to 1"),
        peer("torch", correct=False, problem="ValueError: no"),
        peer("xent", "lse", 0.5),
    ]
    lines = report.libraries_table(records, ["lse", "loss+grad"]).splitlines()
    assert lines[0] == "| in copies | xent | JAX | PyTorch |"
    assert lines[2:] == ["| lse, 8 x 4 | 0.50 | | |", "| loss+grad, 8 x 4 | 0.80 | wrong | fails |"]


def test_blocks_are_of_the_parts_there_are(modules):
    report, _, _ = modules
    blocks = report.blocks_of({"head": head(), "parts": {"peers": part(peer("xent"))}})
    assert set(blocks) == {"machine", "peers", "peers-loss"}
    assert "2030-01-01" in blocks["machine"]
    assert "without torch (not installed)" in blocks["machine"]


def test_networks_table(modules):
    """The bare products are the unit, named beside the network; a wrong step is not a number."""
    report, _, _ = modules
    about = {"rows": 32, "sizes": [64, 32, 10], "problem": ""}
    records = [
        {**about, "library": "bare products", "seconds": 8.24e-6, "ratio": 1.0},
        {**about, "library": "xent", "seconds": 1e-5, "ratio": 1.362},
        {**about, "library": "xent, with norms", "seconds": 1e-5, "ratio": 1.42},
        {**about, "library": "numpy", "seconds": 1e-5, "ratio": 4.8, "problem": "loss 1 instead of 2"},
    ]
    lines = report.networks_table(records).splitlines()
    assert lines[0] == "| batch, sizes (bare products) | xent | with per-sample norms | NumPy by hand |"
    assert lines[2:] == ["| 32, 64-32-10 (8.24 us) | 1.36 | 1.42 | wrong |"]


def test_linear_table(modules):
    report, _, _ = modules
    with_grad, loss = report.linear.WITH_GRAD, report.linear.LOSS
    records = [
        {"library": "xent", "what": with_grad, "shape": [2, 3, 4], "ratio": 1.079, "bytes": 49 * 2**20},
        {"library": "torch, chunked", "what": with_grad, "shape": [2, 3, 4], "ratio": 3.6, "bytes": 282 * 2**20},
        {"library": "xent", "what": loss, "shape": [5, 6, 7], "ratio": 0.94, "bytes": 10 * 2**20},
    ]
    lines = report.linear_table(records).splitlines()
    assert lines[0] == "| | 2 x 3 x 4 | 5 x 6 x 7, loss alone |"
    assert lines[2:] == [
        "| xent | 1.08, 49 MiB | 0.94, 10 MiB |",
        "| PyTorch `linear_cross_entropy`, chunked | 3.6, 282 MiB | |",
    ]


def test_every_place_of_the_pages_is_known(modules):
    report, _, tables = modules
    if not report.RESULTS.exists():
        pytest.skip("an sdist has the pages without the figures")
    written = report.load(report.RESULTS)
    for page in report.PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(tables.places(text)) <= set(report.blocks_of(written))
        assert tables.fill(text, report.blocks_of(written)) == text  # as the figures say


def test_sweep_judges_by_neighbours(modules):
    _, shapes, tables = modules
    records = [{"rows": 1, "classes": c, "ns_per_logit": 3.0 if c == 9 else 1.0} for c in range(1, 20)]
    shapes.judge(records)
    assert tables.worst_of(records) == 3.0
    assert "3.00 of its neighbours" in tables.of_shapes("sweep", records)


def test_dump_and_load(modules, tmp_path):
    report, _, _ = modules
    path = tmp_path / "new" / "report.json"
    written = {"head": head(), "parts": {"few": part({"x": 1 / 3, "n": 10**9})}}
    report.dump(written, path)
    assert report.load(path)["parts"]["few"]["records"] == [{"x": 0.33333, "n": 10**9}]
    with pytest.raises(ValueError, match="JSON"):
        report.dump({"head": float("nan")}, path)
    assert json.loads(path.read_text())["head"] == head()


def test_run_keeps_other_parts_of_the_same_machine_only(modules, tmp_path, monkeypatch, capsys):
    report, _, _ = modules
    monkeypatch.setattr(report, "parts_of", lambda libraries, threads: {"small": lambda: [{"x": 10.500001}]})
    monkeypatch.setattr(report.bench, "libraries_of", lambda names, threads: ([], {}))
    before = report.xent.get_num_threads()
    path = tmp_path / "report.json"
    try:
        kept = report.run(["small"], before, path)
        assert kept == report.load(path)  # pages say what the file says: 10.5, which is shown as 10
        kept["parts"]["few"] = part()
        report.dump(kept, path)
        assert set(report.run(["small"], before, path)["parts"]) == {"few", "small"}
        kept["head"]["cpu"] = "another"
        report.dump(kept, path)
        assert set(report.run(["small"], before, path)["parts"]) == {"small"}
        assert "measured anew" in capsys.readouterr().out
    finally:
        report.xent.set_num_threads(before)
