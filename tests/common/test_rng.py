"""Random state."""

import random
from pathlib import Path

import numpy as np
import torch

from projects.mmdet3d_plugin.common.rng import (
    capture_rng,
    drawn_from,
    restore_rng,
    seed_everything,
    untouched_rng,
)


def draw() -> tuple[float, float, float]:
    """One number of each generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_captured_state_survives_a_file(tmp_path: Path) -> None:
    seed_everything(5)
    random.gauss(0, 1)  # leaves a second number waiting inside the generator
    np.random.randn()
    torch.save(capture_rng(), tmp_path / 'rng.pt')
    expected = draw(), random.gauss(0, 1), np.random.randn()
    restore_rng(torch.load(tmp_path / 'rng.pt', weights_only=True))
    assert (draw(), random.gauss(0, 1), np.random.randn()) == expected


def test_seeds_repeat() -> None:
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first
    seed_everything(6)
    assert draw() != first


def test_a_block_can_leave_no_trace() -> None:
    seed_everything(5)
    expected = draw()
    seed_everything(5)
    with untouched_rng():
        draw()
    assert draw() == expected


def test_a_block_drawn_from_a_seed_repeats_and_leaves_no_trace() -> None:
    seed_everything(3)
    expected = draw()
    seed_everything(3)
    drawn = []
    for _ in range(2):
        with drawn_from(11):
            drawn.append(draw())
    assert drawn[0] == drawn[1]
    assert draw() == expected
