"""Load the compiled operators. Each is registered, with shapes and gradient, in the module of its Python function."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.library import register_autograd, register_fake

from projects.mmdet3d_plugin.ops.build import BuildError, build, cached_library, find_compiler

OPERATORS = (
    'ms_deform_attn',
    'gather_maps',
    'channel_wise_kl',
    'masked_l2',
    'lift_splat',
    'voxel_query',
    'furthest_points',
    'ball_query',
)
_served: frozenset[tuple[str, str]] = frozenset()
_loaded = False


def serves(tensor: Tensor, operator: str = 'ms_deform_attn') -> bool:
    """Whether a compiled kernel of this operator exists for the device of a tensor such as (N, C, H, W)."""
    return (operator, tensor.device.type) in _served


@contextlib.contextmanager
def pure_torch() -> Iterator[None]:
    """Within this context the operators take their plain torch path: for comparisons.

    Example:
        >>> with pure_torch():
        ...     serves(torch.empty(0))
        False
    """
    global _served
    before, _served = _served, frozenset()
    try:
        yield
    finally:
        _served = before


def load() -> None:
    """Load the library, compiling it first if it is not in the cache and a compiler is at hand.

    Without a compiler, or when compiling fails, the operators run in plain torch and one warning says so.
    ``FOCALDISTILLER_OPS=torch`` asks for that path.
    """
    global _served, _loaded
    if os.environ.get('FOCALDISTILLER_OPS') == 'torch':
        return
    try:
        if not cached_library().exists() and find_compiler():
            print('FocalDistiller: compiling its operators, once (about a minute).', file=sys.stderr)
        torch.ops.load_library(build())
    except (BuildError, OSError) as error:
        warnings.warn(
            f'the compiled operators are not available, plain torch serves, many times slower: {error}'
        )
        return
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    pairs = product(OPERATORS, ('cpu', 'cuda'))
    served = {(op, dev) for op, dev in pairs if has(f'focaldistiller::{op}', dev.upper())}
    if sys.platform == 'linux':
        served.add(('keep_pages', 'cpu'))
    if torch.backends.mkldnn.is_available():  # without oneDNN a linear layer is torch's
        served.add(('linear', 'cpu'))
    _served, _loaded = frozenset(served), True


def register_shape(name: str, fake: Callable[..., Any]) -> None:
    """Tell torch the shapes of an operator that has no gradient; nothing is done where there is no library.

    Args:
        name: of the operator.
        fake: outputs of the right shapes, from inputs without values.
    """
    if _loaded:
        register_fake(f'focaldistiller::{name}', fake)


def register(
    name: str,
    fake: Callable[..., Any],
    fake_backward: Callable[..., Any],
    setup_context: Callable[..., None],
    backward: Callable[..., Any],
) -> None:
    """Tell torch what it must know about an operator of the library, which is nothing where there is none.

    Args:
        name: of the operator; its gradient is an operator too, ``{name}_backward``.
        fake: outputs of the right shapes, from inputs without values.
        fake_backward: the same for the gradient.
        setup_context: keeps what the gradient needs, see ``torch.library.register_autograd``.
        backward: gradients of the operator's inputs.
    """
    register_shape(name, fake)
    register_shape(f'{name}_backward', fake_backward)
    if _loaded:
        register_autograd(f'focaldistiller::{name}', backward, setup_context=setup_context)


load()
