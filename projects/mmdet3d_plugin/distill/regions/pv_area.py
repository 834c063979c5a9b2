"""Where boxes appear in the cameras: their outlines on image features, for all boxes and cameras at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.geometry import NEAR, box_corners, image_bounds
from projects.mmdet3d_plugin.distill.regions.instances import InstanceRegion, Instances
from projects.mmdet3d_plugin.distill.regions.region import cells_between
from projects.mmdet3d_plugin.distill.registry import REGIONS, DistillError
from projects.mmdet3d_plugin.distill.step import Step, present_metas

SHAPES = ('outline', 'rectangle')


@REGIONS.register_module()
class PVArea(InstanceRegion):
    """Cells of image features that instances cover (the paper's instance-level areas in perspective view).

    Args:
        shape: 'outline' of the projected box, or the 'rectangle' around it.
        source: whose boxes, see :class:`InstanceSource`.
        top_k: see there.
        min_score: see there.
        gate: see there.
    """

    def __init__(
        self,
        shape: str = 'outline',
        source: str = 'gt',
        top_k: int = 100,
        min_score: float = 0.1,
        gate: float | None = None,
    ) -> None:
        super().__init__(source, top_k, min_score, gate)
        if shape not in SHAPES:
            raise ValueError(f'shape must be one of {SHAPES}, got {shape!r}')
        self.shape = shape

    def draw(self, instances: Instances, step: Step, like: Tensor) -> Tensor:
        """Outlines at the resolution of one level of image features.

        Args:
            instances: what to draw.
            step: its ``img_metas`` give ``lidar2img`` and ``img_shape``.
            like: (B * num_cams, C, h, w), the teacher's feature.

        Returns:
            (B * num_cams, 1, h, w).
        """
        lidar2img, image = cameras_of(step.batch['img_metas'], like.device)
        boxes, sample, weight = instances.boxes, instances.sample, instances.weight
        areas = draw_areas(boxes, sample, lidar2img, image, tuple(like.shape[-2:]), weight, self.shape)
        return areas.flatten(0, 1)


def cameras_of(img_metas: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor]:
    """Projections (B, num_cams, 4, 4), metres to pixels, and image sizes (B, num_cams, 2) as (width, height)."""
    metas = present_metas(img_metas)
    if any('lidar2img' not in meta for meta in metas):
        raise DistillError("img_metas carry no 'lidar2img', without which boxes cannot be projected")
    lidar2img = torch.stack([torch.as_tensor(meta['lidar2img'], dtype=torch.float32) for meta in metas])
    sizes = [[(shape[1], shape[0]) for shape in meta['img_shape']] for meta in metas]
    return lidar2img.to(device), torch.tensor(sizes, dtype=torch.float32, device=device)


def draw_areas(
    boxes: Tensor,
    sample: Tensor,
    lidar2img: Tensor,
    image: Tensor,
    size: tuple[int, int],
    weight: Tensor | None = None,
    shape: str = 'outline',
) -> Tensor:
    """Draw projected boxes on a feature map of every camera; where some overlap, the largest weight counts.

    A cell belongs to a box when the ray through its centre meets the part of the box in front of the near plane. A
    box between the centres keeps one cell, so that no visible object vanishes.

    Args:
        boxes: (M, 7+) ``(x, y, z, l, w, h, yaw)``, gravity centres in metres, LiDAR frame.
        sample: (M,) index of each box's sample.
        lidar2img: (B, num_cams, 4, 4), LiDAR frame (metres) to pixels.
        image: (B, num_cams, 2), (width, height) of the images in pixels.
        size: (h, w) of the feature map; its cell (row, column) is centred at ``(column + 0.5) * width / w``, as
            feature sampling has it.
        weight: (M,) weights >= 0, 1 by default; gradients flow to them.
        shape: 'outline' or 'rectangle'.

    Returns:
        (B, num_cams, 1, h, w).
    """
    (b, cams), (h, w) = lidar2img.shape[:2], size
    weight = boxes.new_ones(len(boxes)) if weight is None else weight
    cell = image[sample] / image.new_tensor([w, h])
    low, high = image_bounds(box_corners(boxes), lidar2img[sample])
    first, last = _touched_cells(low, high, cell, size)
    box, camera = (last >= first).all(-1).nonzero().unbind(-1)
    pair, place = cells_between(first[box, camera], last[box, camera])
    box, camera = box[pair], camera[pair]
    pixel = (place + 0.5) * cell[box, camera]
    if shape == 'outline':
        covered = _meets(*_rays(lidar2img, sample[box], camera, pixel), boxes[box])
    else:
        covered = ((pixel >= low[box, camera]) & (pixel <= high[box, camera])).all(-1)
    covered |= (place == _home_cells(boxes, lidar2img[sample], cell)[box, camera]).all(-1)
    (column, row), box, camera = place[covered].long().unbind(-1), box[covered], camera[covered]
    index = ((sample[box] * cams + camera) * h + row) * w + column
    canvas = weight.new_zeros(b * cams * h * w).scatter_reduce(0, index, weight[box], reduce='amax')
    return canvas.view(b, cams, 1, h, w)


def _touched_cells(low: Tensor, high: Tensor, cell: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """First and last column and row, each (M, num_cams, 2), of rectangles in pixels, cut at the image's border."""
    count = low.new_tensor([size[1], size[0]])
    outside = (high < 0) | (low >= count * cell)
    first, last = (low / cell).floor().clamp(min=0), torch.minimum((high / cell).floor(), count - 1)
    return first.masked_fill(outside, 0), last.masked_fill(outside, -1)


def _home_cells(boxes: Tensor, lidar2img: Tensor, cell: Tensor) -> Tensor:
    """Column and row (M, num_cams, 2) that each box's centre is seen in; -1 where it is behind the near plane."""
    centre = torch.nn.functional.pad(boxes[:, :3], (0, 1), value=1.0)
    x, y, depth = torch.einsum('mcij,mj->mci', lidar2img[..., :3, :], centre).unbind(-1)
    place = (torch.stack([x, y], dim=-1) / depth.clamp(min=NEAR)[..., None] / cell).floor()
    return place.masked_fill((depth < NEAR)[..., None], -1)


def _rays(lidar2img: Tensor, sample: Tensor, camera: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    """Camera centres (P, 3) and directions of unit depth (P, 3) through pixels (P, 2) of cameras (B, num_cams, 4, 4)."""
    inverse = torch.linalg.inv(lidar2img[..., :3, :3])
    eye = -(inverse @ lidar2img[..., :3, 3:]).squeeze(-1)
    towards = torch.nn.functional.pad(pixel, (0, 1), value=1.0)
    return eye[sample, camera], (inverse[sample, camera] @ towards[..., None]).squeeze(-1)


def _meets(start: Tensor, direction: Tensor, boxes: Tensor, near: float = NEAR) -> Tensor:
    """Whether rays meet boxes beyond the near plane (slab test in each box's own frame).

    Args:
        start: (P, 3) camera centres.
        direction: (P, 3), of unit depth, so that the ray's parameter is the depth in metres.
        boxes: (P, 7+).
        near: metres.

    Returns:
        (P,) bool.
    """
    cos, sin = boxes[:, 6].cos(), boxes[:, 6].sin()
    origin, heading = (
        torch.stack([v[:, 0] * cos + v[:, 1] * sin, v[:, 1] * cos - v[:, 0] * sin, v[:, 2]], dim=-1)
        for v in (start - boxes[:, :3], direction)
    )
    tiny = torch.finfo(heading.dtype).tiny
    heading = heading.where(heading.abs() > tiny, torch.full_like(heading, tiny))
    sides = torch.stack([(-boxes[:, 3:6] / 2 - origin) / heading, (boxes[:, 3:6] / 2 - origin) / heading])
    enter, leave = sides.amin(0).amax(-1), sides.amax(0).amin(-1)
    return enter.clamp(min=near) <= leave
