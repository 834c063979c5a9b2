"""TiG-BEV's inner depth (Huang et al., 2022): how deep the pixels of an object lie relative to one another."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.regions.pv_area import cameras_of
from projects.mmdet3d_plugin.distill.regions.region import join_boxes
from projects.mmdet3d_plugin.distill.registry import LOSSES, DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.hosts.bevdepth.depth_target import points_by_cell


@LOSSES.register_module()
class InnerDepth(DistillLoss):
    """Squared error of relative depth within objects. It asks nothing of a teacher: LiDAR points of the batch are the truth.

    Of every object in every camera the pixels are known that show its points. Among them a reference r is chosen whose
    expected depth e is nearest to the truth d; then ``sum ((e - e_r) - (d - d_r))^2`` over the pixels of all objects,
    divided by their number, and the mean over samples. The absolute depth is left to the host's own loss.

    Tap a depth in metres, ``on='expected_depth'``.
    """

    reads_teacher = False
    takes_connector = False

    def forward(self, student: Tensor, *, step: Step) -> Tensor:
        """Error of relative depths.

        Args:
            student: (B * num_cams, 1, h, w) expected depths in metres.
            step: with ``points``, boxes, and ``lidar2img`` and ``img_shape`` in its ``img_metas``.

        Returns:
            Scalar.

        Raises:
            DistillError: the batch has no points.
        """
        if 'points' not in step.batch:
            raise DistillError(
                "InnerDepth needs the student's 'points': put LoadPoints into the training pipeline"
            )
        lidar2img, image = cameras_of(step.batch['img_metas'], student.device)
        b, cams = lidar2img.shape[:2]
        depth = student.view(b, cams, *student.shape[-2:])
        size = tuple(int(side) for side in image[0, 0].flip(0))
        losses = [
            relative_depth(depth[i].flatten(), *object_pixels(*item, size, tuple(depth.shape[-2:])))
            for i, item in enumerate(
                zip(step.batch['points'], step.batch['gt_bboxes_3d'], lidar2img, strict=True)
            )
        ]
        return torch.stack(losses).mean() if losses else 0 * student.sum()


def object_pixels(
    points: Tensor, boxes: object, lidar2img: Tensor, image: tuple[int, int], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The cells of one sample's image features whose nearest point lies on an object.

    Args:
        points: (n, 3+), LiDAR frame, metres.
        boxes: ``LiDARInstance3DBoxes`` (M, 7+).
        lidar2img: (num_cams, 4, 4), LiDAR frame to pixels.
        image: (height, width) in pixels.
        size: (h, w) of the features.

    Returns:
        (P,) index of each cell among num_cams * h * w, (P,) its depth in metres, and (P,) a number for the object in the
        camera.
    """
    boxes, _ = join_boxes([boxes], points.device)
    owner = owners(points, boxes)
    cell, depth, point = points_by_cell(points, lidar2img, image, image[0] // size[0])
    total = len(lidar2img) * size[0] * size[1]
    nearest = depth.new_full((total,), torch.inf).scatter_reduce(0, cell, depth, 'amin')
    shown = owner.new_full((total,), -1)
    first = (depth == nearest[cell]) & (owner[point] >= 0)
    shown = shown.scatter_reduce(0, cell[first], owner[point[first]], 'amax')
    index = (shown >= 0).nonzero()[:, 0]
    camera = index // (size[0] * size[1])
    return index, nearest[index], camera * max(len(boxes), 1) + shown[index]


def owners(points: Tensor, boxes: Tensor, at_once: int = 16) -> Tensor:
    """Which box each point lies in.

    Args:
        points: (n, 3+), metres.
        boxes: (M, 7) gravity-centre boxes.
        at_once: boxes that are compared with all points at a time, which bounds the memory.

    Returns:
        (n,) index of the first such box, -1 for none.
    """
    owner = torch.full((len(points),), -1, dtype=torch.long, device=points.device)
    for start in reversed(range(0, len(boxes), at_once)):
        part = boxes[start : start + at_once]
        offset = points[:, None, :3] - part[:, :3]
        cos, sin = part[:, 6].cos(), part[:, 6].sin()
        along, across = (
            offset[..., 0] * cos + offset[..., 1] * sin,
            offset[..., 1] * cos - offset[..., 0] * sin,
        )
        local = torch.stack([along, across, offset[..., 2]], dim=-1)
        held = (local.abs() <= part[:, 3:6] / 2).all(-1)
        owner = torch.where(held.any(1), start + held.to(torch.uint8).argmax(1), owner)
    return owner


def relative_depth(expected: Tensor, index: Tensor, depth: Tensor, group: Tensor) -> Tensor:
    """Mean squared error of depths relative to each group's best pixel.

    Args:
        expected: (N,) metres; gradients flow here.
        index: (P,) cells that count.
        depth: (P,) their true depth.
        group: (P,) what belongs together.

    Returns:
        Scalar; 0 with a live graph where nothing counts.
    """
    if not len(index):
        return 0 * expected.sum()
    error = expected[index] - depth.to(expected)
    _, group = group.unique(return_inverse=True)
    count = int(group.max()) + 1
    size = error.detach().abs()
    best = size.new_full((count,), torch.inf).scatter_reduce(0, group, size, 'amin')
    place = torch.arange(len(size), device=size.device)
    place = torch.where(size == best[group], place, len(size))  # the first of equally good ones
    reference = place.new_full((count,), len(size)).scatter_reduce(0, group, place, 'amin')
    return (error - error[reference][group]).square().mean()
