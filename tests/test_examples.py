"""The examples run as a new user would run them, and show what they say."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the tests without the rest of the repository")


def run(name, tmp_path, *options):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *options],
        cwd=tmp_path,  # not the repository: what is imported is what is installed
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == ["language_model.py", "train_network.py"]


def test_language_model(tmp_path):
    text = run("language_model.py", tmp_path, "--quick").replace(",", "")
    before, after = map(float, re.search(r"perplexity held out: (\S+) before (\S+) after", text).groups())
    assert after < before / 10
    used, logits = map(float, re.search(r"gradients: (\S+) MiB; full logits would take (\S+) MiB", text).groups())
    assert used < logits / 2


def test_train_network(tmp_path):
    text = run("train_network.py", tmp_path)
    table = [line.split() for line in text.splitlines() if re.fullmatch(r" *\d+ +[\d.]+ +[\d.]+", line)]
    epochs, by_numpy, by_xent = np.array(table, float).T
    assert len(epochs) == 6
    # The same arithmetic but for roundings: over the first epochs they stay together, to the six digits shown and more.
    np.testing.assert_allclose(by_xent[:2], by_numpy[:2], rtol=1e-2)
    assert by_xent[-1] < 0.01
    assert by_numpy[-1] < 0.01
    accuracies = [float(found) for found in re.search(r"NumPy ([\d.]+), xent ([\d.]+)", text).groups()]
    assert accuracies == pytest.approx([1.0, 1.0], abs=0.01)
    assert "a step:   NumPy" in text
    assert text.count("(d) layer") == 3
