"""The step from images to BEV that all hosts of the LSS family share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.ops.lift_splat import lift_splat


class Lifted(NamedTuple):
    """What one frame's images say: ``depth`` (B * N, D, h, w) probabilities and ``context`` (B * N, C, h, w)."""

    depth: Tensor
    context: Tensor


class LiftSplat(nn.Module):
    """Lift features by their depth distribution and sum them up in BEV cells (LSS, "lift" and "splat").

    Args:
        pc_range: ``[x0, y0, z0, x1, y1, z1]`` in metres; points at heights outside are left out.
        cell: side of a BEV cell in metres.
        depth_range: ``(first, end, step)`` of the bins in metres.
        image_size: (height, width) of the images in pixels.
        stride: pixels per cell of the image features.
        truncate: round cells towards zero, as BEVDepth's published weights were trained: the first cell of x and y is
            twice as wide, and what lies up to the height of the range below it counts.

    Raises:
        UserError: there is no bin in the range of depths.
    """

    def __init__(
        self,
        pc_range: Sequence[float],
        cell: float,
        depth_range: tuple[float, float, float],
        image_size: tuple[int, int],
        stride: int,
        truncate: bool = False,
    ) -> None:
        super().__init__()
        self.pc_range, self.truncate, self.stride = [float(x) for x in pc_range], truncate, stride
        self.size = tuple(round((self.pc_range[i + 3] - self.pc_range[i]) / cell) for i in (1, 0))
        self.depth_range = tuple(depth_range)
        first, end, step = depth_range
        count = round((end - first) / step) if step > 0 else 0
        self.bins = [first + step * k for k in range(count)]
        if not self.bins:
            raise UserError(
                f'depth_range of lift_splat is {self.depth_range}: it must be (first, end, step) with first < end and step > 0'
            )
        self.image_size = tuple(image_size)

    def pixels(self, device: torch.device) -> Tensor:
        """(h, w, 2) float64 (u, v): corners of the image belong to the outermost features, as published."""
        height, width = self.image_size
        v = torch.linspace(0, height - 1, height // self.stride, dtype=torch.float64, device=device)
        u = torch.linspace(0, width - 1, width // self.stride, dtype=torch.float64, device=device)
        return torch.stack(torch.meshgrid(u, v, indexing='xy'), -1)

    def forward(self, depth: Tensor | None, context: Tensor, matrices: CameraMatrices) -> Tensor:
        """Pool features on the BEV.

        Args:
            depth: (B * N, D, h, w) probabilities; None where every point has features of its own.
            context: (B * N, C, h, w), of points (B * N, C, D, h, w).
            matrices: of B samples of N cameras.

        Returns:
            (B, C, H, W), row = y, column = x.

        Raises:
            UserError: the features are not those of images of the size that the model was built for.
        """
        if depth is None:
            return self._splat(context, matrices)
        origin, ray = self.rays(depth, matrices)
        bins = depth.new_tensor(self.bins, dtype=torch.float64)
        return lift_splat(depth, context, origin, ray, bins, self.size, self.truncate)

    def _splat(self, points: Tensor, matrices: CameraMatrices) -> Tensor:
        """Features (B * N, C, D, h, w) of points -> (B, C, H, W)."""
        origin, ray = self.rays(points[:, 0], matrices)
        bins = ray.new_tensor(self.bins)
        # the points of a pixel as pixels of one bin each
        ray = (bins[:, None, None, None] * ray[:, :, None]).flatten(2, 3)
        features = points.flatten(2, 3)
        ones = features.new_ones(len(features), 1, *features.shape[2:])
        return lift_splat(ones, features, origin, ray, bins.new_ones(1), self.size, self.truncate)

    def rays(self, depth: Tensor, matrices: CameraMatrices) -> tuple[Tensor, Tensor]:
        """Origins (B, N, 3) and rays (B, N, h, w, 3) in cells, and in height in units of the range."""
        matrices, pixels = matrices.to(depth.device), self.pixels(depth.device)
        if depth.shape[-2:] != pixels.shape[:2]:
            height, width = (side * self.stride for side in depth.shape[-2:])
            raise UserError(
                f'the model was built for images of {self.image_size[1]}x{self.image_size[0]} '
                f'(image_size of its lift_splat), but sees {width}x{height}, at a stride of {self.stride}: give the ImageView '
                'that crop, or lift_splat the stride of the image features'
            )
        origin, ray = matrices.rays(pixels)
        low, high = origin.new_tensor(self.pc_range).view(2, 3)
        cells = origin.new_tensor([*self.size[::-1], 1]) / (high - low)
        return (origin - low) * cells, ray * cells


def take_frustum(module: nn.Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Put a module's own ``frustum`` (D, ...) in the place of that of weights of another image size, but of its bins."""
    own = f'{prefix}frustum'
    if own in state_dict and state_dict[own].shape[0] == len(module.frustum):
        state_dict[own] = module.frustum


def require_grid(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, names: Sequence[str], place: str
) -> None:
    """Refuse weights of another grid, which buffers of the given names describe.

    Raises:
        UserError: names the buffer, and the ``place`` in the config whose range and cell would have to change.
    """
    for name in names:
        value, mine = state_dict.get(f'{prefix}{name}'), getattr(module, name)
        if value is not None and not torch.allclose(value.double(), mine.double()):
            raise UserError(
                f'{prefix}{name} of the weights is {value.tolist()}, of the config {mine.tolist()}: '
                f'mend pc_range and cell of {place}'
            )
