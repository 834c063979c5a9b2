"""How named parts of a model compute: in which precision, and in which memory layout."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.engine.amp import DTYPES


def speed_up(
    roots: Iterable[nn.Module], modules: Sequence[str], dtype: str | None = None, channels_last: bool = False
) -> None:
    """Let named modules compute in another precision and layout; what goes in and comes out stays float32.

    Weights, gradients and checkpoints stay what they are. On a CPU, convolutions gain more from this than everything
    around them, which loses precision for nothing: so say ``modules=['img_backbone', 'img_neck']``.

    Args:
        roots: models in which the modules are looked for: a detector, or a student and its teacher.
        modules: names or ends of dotted names.
        dtype: 'bf16', or None to stay in float32. A CPU without instructions for bf16, where it would be many times
            slower, stays in float32, and the log says so.
        channels_last: whether maps (N, C, H, W) lie in memory as (N, H, W, C) there.

    Raises:
        UserError: a name that no root has, or an unknown precision.
    """
    if dtype not in (None, 'bf16'):
        raise UserError(f"compute.dtype={dtype!r}: say 'bf16', or leave it out; fp16 needs --amp fp16")
    roots = list(dict.fromkeys(roots))  # a network that teaches itself comes twice
    if dtype and not _has_bf16(roots):
        get_logger().info('this processor has no bf16: %s compute in float32', ', '.join(modules))
        dtype = None
    for name in modules:
        paths = [pair for root in roots for pair in root.named_modules()]
        # each once, also where one root lies within another
        found = dict.fromkeys(module for path, module in paths if f'.{path}'.endswith(f'.{name}'))
        if not found:
            known = sorted({path for root in roots for path, _ in root.named_children()})
            raise UserError(f'compute.modules names {name!r}, which no model has: it has {", ".join(known)}')
        for module in found:
            module.forward = _wrapped(module.forward, dtype, channels_last)


def _has_bf16(roots: list[nn.Module]) -> bool:
    """Whether the device of the models has instructions for bf16."""
    device = next((p.device.type for root in roots for p in root.parameters()), 'cpu')
    return device != 'cpu' or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _wrapped(forward: Callable[..., Any], dtype: str | None, channels_last: bool) -> Callable[..., Any]:
    """``forward`` in its own autocast region, which forgets its copies of weights at the end."""

    def compute(*args: Any) -> Any:
        """Run on maps of the wanted layout and hand back float32."""
        if channels_last:
            args = _mapped(lambda x: x.contiguous(memory_format=torch.channels_last), args)
        device = next(x.device.type for x in tree_leaves(args) if isinstance(x, Tensor))
        if dtype is None or torch.is_autocast_enabled(device):
            return forward(*args)
        with torch.autocast(device, dtype=DTYPES[dtype]):
            return _mapped(Tensor.float, forward(*args))

    return compute


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Apply a change to the maps (N, C, H, W) in a nest of containers."""
    return tree_map_only(Tensor, lambda x: change(x) if x.dim() == 4 else x, value)
