"""Random state: seeding, and saving and restoring the state of every generator."""

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch (every device).

    Args:
        seed: any non-negative integer.
        deterministic: also ask torch for deterministic kernels; where none exists torch warns.

    Example:
        >>> seed_everything(3)
        >>> first = torch.rand(2)
        >>> seed_everything(3)
        >>> torch.equal(torch.rand(2), first)
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS asks for it
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)


def capture_rng() -> dict[str, Any]:
    """Take the state of every random generator of this process.

    Returns:
        plain containers and tensors only, so that ``torch.load(weights_only=True)`` reads them back.
    """
    name, keys, position, has_gauss, cached = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    )


def restore_rng(state: dict[str, Any]) -> None:
    """Put every generator of this process back into a state taken by :func:`capture_rng`.

    Example:
        >>> state = capture_rng()
        >>> first = np.random.rand()
        >>> restore_rng(state)
        >>> np.random.rand() == first
        True
    """
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys), gauss))
    name, keys, position, has_gauss, cached = state['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


@contextlib.contextmanager
def untouched_rng() -> Iterator[None]:
    """Run a block without leaving a trace in the random generators.

    Evaluation between two epochs draws numbers (a data loader draws its base seed); without this, training
    would go differently with and without validation, and a resumed run could not equal a straight one.
    """
    state = capture_rng()
    try:
        yield
    finally:
        restore_rng(state)


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Run a block whose draws from the global generators of the CPU follow from a seed, and leave no trace.

    mmdet3d's transforms draw from ``random``, ``np.random`` and torch; with this a sample depends neither on the
    worker that loads it nor on what was loaded before. GPUs are left alone: loading processes must not touch them.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
