"""What all sources of a second stage's features have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv.utils import Registry
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals

ROI_FEATURES = Registry('features of a second stage')


class RoIFeatures(nn.Module):
    """Gives every proposal a row of numbers. A new source is one file with a class that registers itself."""

    width: int
    """Numbers per proposal."""

    reads: tuple[str, ...] = ()
    """Names of the first stage's maps that are read; see :class:`~projects.mmdet3d_plugin.hosts.two_stage.RoIHead`."""

    def forward(self, proposals: Proposals, maps: Mapping[str, Any], points: Sequence[Tensor]) -> Tensor:
        """Features of boxes.

        Args:
            proposals: N boxes of B clouds.
            maps: by name, the first stage's maps (B, C, H, W), row = y, column = x, and its sparse voxels.
            points: B clouds (N_i, C), x, y, z first, metres, LiDAR frame.

        Returns:
            (N, width).
        """
        raise NotImplementedError(
            f'{type(self).__name__} must say what it sees of a box: implement forward()'
        )


def map_of(maps: Mapping[str, Any], name: str) -> Any:
    """One of the first stage's maps, by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in maps:
        raise UserError(
            f'the second stage reads a map {name!r}, but the first stage gives {", ".join(map(repr, maps))}; '
            "name one of them in its 'features'"
        )
    return maps[name]
