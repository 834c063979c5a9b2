"""What a voxel detector has in store for a second stage, by name, wherever its modules keep it."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError


class SparseVoxels(NamedTuple):
    """The voxels of one stage of a sparse encoder.

    Args:
        features: (V, C).
        indices: (V, 4) cloud, z, y and x of each, int32.
        shape: D, H, W of the grid.
    """

    features: Tensor
    indices: Tensor
    shape: tuple[int, int, int]


def _as_voxels(found: Any) -> SparseVoxels:
    """mmcv's or spconv's ``SparseConvTensor``."""
    return SparseVoxels(found.features, found.indices, tuple(found.spatial_shape))


def _itself(found: Tensor) -> Tensor:
    return found


def source_of(name: str, prefix: str = '') -> tuple[str, Callable[[Any], Any]]:
    """Which module gives a map, and how its output becomes one.

    Args:
        name: 'bev', the neck's first level; 'stage_0', a stage of the 2D backbone; 'scatter', what goes into that;
            'voxels_1', the sparse voxels after a stage of the 3D encoder, counted from 0.
        prefix: what the names of the detector's modules begin with.

    Raises:
        UserError: there is no such name.
    """
    number = name.rpartition('_')[2]
    if name == 'bev':
        return f'{prefix}neck', itemgetter(0)
    if name == 'scatter':
        return f'{prefix}middle_encoder', _itself
    if re.fullmatch(r'stage_\d+', name):
        return f'{prefix}backbone.blocks.{number}', _itself
    if re.fullmatch(r'voxels_\d+', name):
        return f'{prefix}middle_encoder.encoder_layers.encoder_layer{int(number) + 1}', _as_voxels
    raise UserError(
        f"a second stage cannot read {name!r}: its features may read 'bev', 'scatter', 'stage_0' and so on, and "
        "'voxels_0' and so on of a sparse encoder"
    )


@contextmanager
def recorded_maps(model: nn.Module, names: Sequence[str], prefix: str = '') -> Iterator[dict[str, Any]]:
    """Collect maps of a detector that runs inside a ``with`` block.

    Args:
        model: the detector.
        names: see :func:`source_of`.
        prefix: see there.

    Yields:
        A dict that is filled while the detector runs: (B, C, H, W) by name, or :class:`SparseVoxels`. All are live.

    Raises:
        UserError: the detector has no such module.
    """
    modules, maps, handles = dict(model.named_modules()), {}, []
    for name in names:
        path, convert = source_of(name, prefix)
        if path not in modules:
            raise UserError(
                f'the second stage reads {name!r}, but {type(model).__name__} has no {path!r}; '
                "take another map in its 'features'"
            )

        def keep(*call: Any, name: str = name, convert: Callable[[Any], Any] = convert) -> None:
            maps[name] = convert(call[-1])

        handles.append(modules[path].register_forward_hook(keep))
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
