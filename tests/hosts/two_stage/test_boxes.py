"""Overlaps in 3D, codes in a proposal's frame, points in boxes, suppression."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.ops import box_iou_rotated, nms_rotated, points_in_boxes_cpu
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor

from projects.mmdet3d_plugin.datasets.point_files import read_points
from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import footprints, iou_3d, iou_from_above
from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import (
    corners_of,
    decode_residuals,
    encode_residuals,
)
from projects.mmdet3d_plugin.hosts.two_stage.points_in_boxes import (
    frame_coordinates,
    in_boxes,
    points_in_proposals,
)
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals
from projects.mmdet3d_plugin.hosts.two_stage.rotated_nms import rotated_nms
from tests.hosts.two_stage.kitti_frames import FRAMES, real_frame


def boxes_of(seed: int, count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Boxes (count, 7) that often overlap."""
    rng = np.random.default_rng(seed)
    low, high = [-2, -2, -1, 1, 1, 1, -4], [2, 2, 1, 4, 3, 2, 4]
    return torch.tensor(rng.uniform(low, high, (count, 7)), dtype=dtype)


def proposals_of(boxes: Tensor, sample: list[int] | None = None) -> Proposals:
    """Boxes as proposals with made-up scores, all of class 0."""
    zeros = torch.zeros(len(boxes), dtype=torch.long)
    batch = zeros if sample is None else torch.tensor(sample)
    return Proposals(
        boxes, torch.linspace(0.9, 0.1, len(boxes)).to(boxes), zeros, zeros + 5, batch, 9, boxes[:, 7:]
    )


def clipped_area(subject: np.ndarray, clip: np.ndarray) -> float:
    """Area that two convex polygons (n, 2), counter-clockwise, share: Sutherland and Hodgman."""
    points = list(subject)
    for a, b in zip(clip, np.roll(clip, -1, 0), strict=True):
        inside = [np.cross(b - a, p - a) >= 0 for p in points]
        kept = []
        for i, point in enumerate(points):
            before = points[i - 1]
            if inside[i] != inside[i - 1]:
                step = point - before
                kept.append(before + step * np.cross(b - a, a - before) / np.cross(b - a, step))
            if inside[i]:
                kept.append(point)
        points = kept
        if not points:
            return 0.0
    x, y = np.array(points).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def iou_by_hand(one: np.ndarray, other: np.ndarray) -> float:
    def outline(box: np.ndarray) -> np.ndarray:
        turn = np.array([[np.cos(box[6]), -np.sin(box[6])], [np.sin(box[6]), np.cos(box[6])]])
        return box[:2] + (np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * box[3:5] / 2) @ turn.T

    height = min(one[2] + one[5], other[2] + other[5]) - max(one[2], other[2])
    shared = clipped_area(outline(one), outline(other)) * max(height, 0)
    return shared / (np.prod(one[3:6]) + np.prod(other[3:6]) - shared)


@pytest.mark.filterwarnings('ignore:Arrays of 2-dimensional vectors')
def test_overlaps_are_those_of_clipped_outlines() -> None:
    ours, others = boxes_of(0, 12, torch.float32), boxes_of(1, 9, torch.float32)
    wanted = [[iou_by_hand(a, b) for b in others.double().numpy()] for a in ours.double().numpy()]
    assert np.count_nonzero(wanted) > 50
    np.testing.assert_allclose(iou_3d(ours, others).numpy(), wanted, atol=2e-5)
    assert iou_3d(ours[:0], others).shape == (0, 9)
    assert iou_3d(ours, others[:0]).shape == (12, 0)


def test_boxes_that_are_not_compared_share_nothing() -> None:
    """Over a whole scene, with boxes whose circles just meet: mmcv's operator on all pairs, to the bit."""
    spread = torch.tensor([40.0, 40, 1, 1, 1, 1, 1])
    ours, others = boxes_of(0, 60, torch.float32) * spread, boxes_of(1, 50, torch.float32) * spread
    others[:2] = torch.tensor([[0, 0, 0, 3, 4, 1, 0.5], [5, 0, 0, 3, 4, 1, 0.5]])
    ours[0] = torch.tensor([0, 0, 0, 3, 4, 1, 2.1])
    wanted = box_iou_rotated(footprints(ours), footprints(others))
    assert 0 < wanted.count_nonzero() < 100
    assert torch.equal(iou_from_above(ours, others), wanted)
    assert iou_from_above(ours[:0], others).shape == (0, 50)


def test_codes_are_those_of_the_proposals_frame() -> None:
    boxes, targets = boxes_of(2, 20), boxes_of(3, 20)
    codes = encode_residuals(boxes, targets)
    assert codes[:, 6].abs().max() <= np.pi / 2
    back = decode_residuals(boxes, codes)
    torch.testing.assert_close(back[:, :6], targets[:, :6])
    turn = (back[:, 6] - targets[:, 6]) / np.pi
    torch.testing.assert_close(turn, turn.round(), atol=1e-9, rtol=0)  # the same box, perhaps turned round
    # a car that is 1 m too far back along its heading, 0.5 m too low and half as long as it should be
    box = torch.tensor([[3.0, 4.0, 0.5, 2.0, 1.5, 1.0, np.pi / 2]], dtype=torch.float64)
    better = torch.tensor([[3.0, 5.0, 1.0, 4.0, 1.5, 1.0, np.pi / 2]], dtype=torch.float64)
    wanted = torch.tensor([[1 / 2.5, 0, 0.5, np.log(2), 0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(encode_residuals(box, better), wanted)
    # the whole scene turned and moved: the same codes
    angle, move = 0.7, torch.tensor([5.0, -3.0, 1.0], dtype=torch.float64)
    cos, sin = np.cos(angle), np.sin(angle)
    turning = torch.tensor([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]], dtype=torch.float64)

    def moved(b: Tensor) -> Tensor:
        return torch.cat([b[:, :3] @ turning + move, b[:, 3:6], b[:, 6:] + angle], 1)

    torch.testing.assert_close(encode_residuals(moved(boxes), moved(targets)), codes)


def test_gradients_of_codes_and_corners() -> None:
    boxes, codes = boxes_of(4, 3), encode_residuals(boxes_of(4, 3), boxes_of(5, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: corners_of(decode_residuals(boxes, c)), codes)


def test_corners_of_a_turned_box() -> None:
    corners = corners_of(torch.tensor([[1.0, 2.0, 3.0, 4.0, 2.0, 1.0, np.pi / 2]]))[0]
    assert corners[:, 0].sort().values.tolist() == pytest.approx([0] * 4 + [2] * 4, abs=1e-5)
    assert corners[:, 1].sort().values.tolist() == pytest.approx([0] * 4 + [4] * 4, abs=1e-5)
    assert corners[:, 2].sort().values.tolist() == pytest.approx([3] * 4 + [4] * 4)


@pytest.mark.parametrize('frame', FRAMES)
def test_real_points_are_counted_as_mmdet3d_counts(kitti_five_frames: Path, frame: str) -> None:
    points, truth = real_frame(kitti_five_frames, frame)
    torch.manual_seed(0)
    shifted = truth.repeat(8, 1)
    shifted = torch.cat([truth, shifted + torch.randn_like(shifted) * 0.2])
    shifted[:, 3:6].clamp_(min=0.1)
    counts = torch.bincount(in_boxes(shifted, points)[0], minlength=len(shifted))
    wanted = points_in_boxes_cpu(points[None, :, :3].contiguous(), shifted[None])[0].sum(0)
    assert counts.tolist() == wanted.tolist()
    pairs = points_in_proposals(proposals_of(shifted), [points], scale=1.0, margin=0.0, most=10**6)
    assert torch.bincount(pairs.box, minlength=len(shifted)).tolist() == wanted.tolist()
    if frame == '000008':  # as the info files have it
        assert counts[:6].tolist() == [1325, 1900, 881, 659, 55, 162]


def test_real_points_of_nuscenes_are_counted_too(one_frame_root: Path) -> None:
    """68 boxes of a keyframe: as mmdet3d counts them, and about as the tables of nuScenes say."""
    (info,) = pickle.loads((one_frame_root / 'nuscenes_infos_temporal_train.pkl').read_bytes())['infos']
    boxes = LiDARInstance3DBoxes(info['gt_boxes'], origin=(0.5, 0.5, 0.5)).tensor.float()
    points = torch.from_numpy(read_points(one_frame_root / info['lidar_path'], 5))
    counts = torch.bincount(in_boxes(boxes, points)[0], minlength=len(boxes))
    wanted = points_in_boxes_cpu(points[None, :, :3].contiguous(), boxes[None])[0].sum(0)
    assert len(counts) == 68
    assert counts.tolist() == wanted.tolist()
    said = torch.from_numpy(
        info['num_lidar_pts']
    )  # of boxes as drawn, before they were turned into the LiDAR's frame
    assert ((counts - said).abs() <= 2 + 0.05 * said).sum() >= 67
    assert counts.sum() == pytest.approx(int(said.sum()), rel=0.02)


def test_few_of_many_points_are_spread_over_the_cloud() -> None:
    boxes = torch.tensor([[0.0, 0, -1, 2, 2, 2, 0.3], [50.0, 0, 0, 1, 1, 1, 0], [0.2, 0, -1, 2, 2, 2, 0]])
    points = torch.linspace(-0.9, 0.9, 100)[:, None] * torch.tensor([1.0, 0, 0])
    pairs = points_in_proposals(proposals_of(boxes), [points], 1.0, 0.0, most=7)
    counts = torch.bincount(pairs.box, minlength=3).tolist()
    assert counts == [7, 0, 7]
    gaps = pairs.points[pairs.box == 0, 0].diff()
    assert gaps.min() > 0.2  # of 1.8 m, evenly
    place = frame_coordinates(boxes, pairs)[pairs.box == 0]
    torch.testing.assert_close(place[:, 1], -pairs.points[pairs.box == 0, 0] * np.sin(0.3))


def test_no_boxes_and_no_points() -> None:
    boxes = boxes_of(0, 3, torch.float32)
    for some, clouds in ((boxes[:0], [torch.zeros(5, 4)]), (boxes, [torch.zeros(0, 4)])):
        pairs = points_in_proposals(proposals_of(some), clouds, 1.0, 0.0, 5)
        assert pairs.box.shape == (0,)
        assert pairs.points.shape == (0, 4)


def test_suppression_is_that_of_mmcv_until_enough_are_kept() -> None:
    torch.manual_seed(0)
    boxes = boxes_of(6, 220, torch.float32)
    boxes[:, :2] *= 9
    scores = torch.rand(220)
    wanted = nms_rotated(footprints(boxes), scores, 0.2)[1]
    assert 128 < len(wanted) < 220  # more than a block
    assert rotated_nms(boxes, scores, 0.2, 220).tolist() == wanted.tolist()
    assert rotated_nms(boxes, scores, 0.2, 130).tolist() == wanted[:130].tolist()
    assert rotated_nms(boxes[:0], scores[:0], 0.2, 5).shape == (0,)
