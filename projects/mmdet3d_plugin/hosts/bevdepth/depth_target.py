"""What LiDAR says about the depth of image features, and how far a depth distribution is from it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import LiftSplat


def nearest_depth(
    points: Sequence[Tensor], lidar2img: Tensor, image_size: tuple[int, int], stride: int
) -> Tensor:
    """Smallest depth among the points that fall into each cell of the image features.

    Args:
        points: B clouds (n, 3+), x, y, z first, metres, LiDAR frame.
        lidar2img: (B, N, 4, 4), LiDAR frame to pixels of the augmented images.
        image_size: (height, width) in pixels.
        stride: pixels per cell.

    Returns:
        (B * N, h, w) metres; infinite where no point falls.
    """
    h, w = image_size[0] // stride, image_size[1] // stride
    maps = []
    for cloud, projection in zip(points, lidar2img, strict=True):
        index, depth, _ = points_by_cell(cloud, projection, image_size, stride)
        empty = depth.new_full((len(projection) * h * w,), torch.inf)
        maps.append(empty.scatter_reduce(0, index, depth, 'amin').view(-1, h, w))
    return torch.cat(maps)


def points_by_cell(
    points: Tensor, lidar2img: Tensor, image_size: tuple[int, int], stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Which cell of the image features shows each point of one sample; a point may be in several cameras.

    Args:
        points: (n, 3+), x, y, z first, metres, LiDAR frame.
        lidar2img: (N, 4, 4).
        image_size: (height, width) in pixels.
        stride: pixels per cell.

    Returns:
        (P,) index among N * h * w cells, (P,) depth in metres, (P,) index of the point.
    """
    h, w = image_size[0] // stride, image_size[1] // stride
    u, v, depth = torch.einsum(
        'nij,pj->inp', lidar2img[:, :3], F.pad(points[:, :3].to(lidar2img), (0, 1), value=1.0)
    )
    ahead = depth > 0
    u, v = (x / depth.where(ahead, torch.ones_like(depth)) for x in (u, v))
    seen = ahead & (u >= 0) & (u < w * stride) & (v >= 0) & (v < h * stride)
    camera, point = seen.nonzero().unbind(1)
    column, row = (u[camera, point] / stride).long(), (v[camera, point] / stride).long()
    return (camera * h + row) * w + column, depth[camera, point], point


def depth_labels(nearest: Tensor, lift: LiftSplat, centred: bool = False) -> Tensor:
    """The bin that each cell of the image features should choose.

    Args:
        nearest: (B * N, h, w) metres, see :func:`nearest_depth`.
        lift: whose bins.
        centred: take the nearest bin. As published, bin k stands for depths from its own to that of the next, though
            its features are lifted to its own.

    Returns:
        (B * N, h, w) int64, -1 where there is nothing to learn.
    """
    first, _, step = lift.depth_range
    label = ((nearest - first) / step + (0.5 if centred else 0.0)).floor()
    # as published, what is up to a step nearer than the first bin has no label, but its index would be -1 anyway
    valid = (label >= 0) & (label < len(lift.bins))
    return label.where(valid, torch.full_like(label, -1)).long()


def depth_loss(depth: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of a distribution against one bin, summed over bins, averaged over labelled cells.

    Args:
        depth: (B * N, D, h, w) probabilities.
        labels: (B * N, h, w), -1 for none.

    Returns:
        Scalar in float32 at least; 0 with a live graph without labels.
    """
    with torch.autocast(depth.device.type, enabled=False):
        known = labels >= 0
        rows = depth.permute(0, 2, 3, 1)[known]
        rows = rows if rows.dtype == torch.float64 else rows.float()
        target = F.one_hot(labels[known], depth.shape[1]).to(rows)
        loss = F.binary_cross_entropy(rows, target, reduction='sum')
        return loss / known.sum().clamp(min=1) + 0 * depth.sum()
