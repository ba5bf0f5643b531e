"""The examples run, as a new user would run them, and what they say about themselves holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the tests without the rest of the repository")
def test_language_model():
    command = [sys.executable, "-W", "error", EXAMPLES / "language_model.py", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace(",", "")
    before, after = map(float, re.search(r"perplexity held out: (\S+) before (\S+) after", text).groups())
    assert after < before / 10
    used, logits = map(float, re.search(r"gradients: (\S+) MiB; full logits would take (\S+) MiB", text).groups())
    assert used < logits / 2
