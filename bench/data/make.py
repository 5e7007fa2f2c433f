# SPDX-License-Identifier: MIT
"""Makes darcy.npz from an unpacked wheel of neuraloperator 0.3.0: `python make.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

SOURCES = {16: ("darcy_train_16.pt", 64), 32: ("darcy_test_32.pt", 24)}


def main(wheel: Path) -> None:
    """Keep the first samples of each file: coefficients as bits, solutions bit for bit."""
    arrays = {}
    for size, (name, count) in SOURCES.items():
        data = torch.load(wheel / "neuralop/datasets/data" / name, weights_only=True)
        arrays[f"coefficient_{size}"] = np.packbits(data["x"][:count].numpy(), axis=-1)
        arrays[f"solution_{size}"] = data["y"][:count].numpy()
    np.savez_compressed(Path(__file__).with_name("darcy.npz"), **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
