"""The handwritten digits that `xent train` learns.

`digits.npz` holds 1,797 images of 8 x 8 pixels in 0..16 and their labels: the test part of "Optical
Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49, licensed CC BY 4.0. Repacked as uint8, otherwise unchanged, in the order in
which scikit-learn's `load_digits` gives them.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SOURCE = "UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), CC BY 4.0"
HELD_OUT_EVERY = 5  # every fifth image of each class is kept for the test


class Digits(NamedTuple):
    """Pixels in [0, 1], shape (images, 64), and labels in 0..9, split once and for all."""

    train_x: NDArray[np.float64]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float64]
    test_y: NDArray[np.int64]


def load_digits() -> Digits:
    """The digits, with every fifth image of each class held out for the test."""
    with as_file(files("xent.cli") / "digits.npz") as path, np.load(path, allow_pickle=False) as packed:
        pixels = packed["images"].astype(np.float64) / 16.0
        labels = packed["labels"].astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]] = True
    return Digits(pixels[~held_out], labels[~held_out], pixels[held_out], labels[held_out])
