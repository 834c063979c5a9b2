"""The second stage's scores, boxes and losses."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.two_stage.bev_grid_features import BEVGridFeatures
from projects.mmdet3d_plugin.hosts.two_stage.box_residuals import encode_residuals
from projects.mmdet3d_plugin.hosts.two_stage.point_set_features import PointSetFeatures
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals, Refined
from projects.mmdet3d_plugin.hosts.two_stage.roi_head import RoIHead
from projects.mmdet3d_plugin.hosts.two_stage.roi_sampler import RoISampler
from projects.mmdet3d_plugin.hosts.two_stage.roi_targets import quality_of
from tests.hosts.two_stage.test_boxes import iou_by_hand
from tests.lidar_factories import SIZES, roi_head_config


def head_of(**changes: Any) -> RoIHead:
    """A second stage for three classes that reads one map, with lively weights, in float64."""
    torch.manual_seed(0)
    cfg = {key: value for key, value in roi_head_config(bev=6).items() if key != 'type'}
    head = RoIHead(num_classes=3, **{**cfg, **changes}).double()
    torch.nn.init.normal_(head.box_branch.weight, std=0.1)
    return head


def scene(seed: int, count: int = 6) -> tuple[Proposals, Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """One cloud: proposals near its three objects, a map (1, 6, 16, 16), points, boxes and labels; float64."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform([1, -2.5, -2], [5.5, 2.5, -1], (3, 3))
    truth = torch.tensor(np.hstack([centers, SIZES, rng.uniform(-3, 3, (3, 1))]))
    labels = torch.arange(3)
    which = torch.arange(count) % 3
    boxes = truth[which] + torch.tensor(rng.normal(0, 0.15, (count, 7)))
    proposals = Proposals(
        boxes,
        torch.tensor(rng.uniform(0.1, 0.9, count)),
        which,
        torch.arange(count),
        torch.zeros(count).long(),
        count,
        boxes[:, 7:],
    )
    points = torch.tensor(rng.uniform([0, -3.2, -3, 0], [6.4, 3.2, 1, 1], (300, 4)))
    return proposals, torch.tensor(rng.normal(size=(1, 6, 16, 16))), [points], [truth], [labels]


def together(*scenes: tuple) -> tuple:
    """Several clouds as one batch."""
    parts = [replace(one[0], batch_index=torch.full_like(one[0].labels, i)) for i, one in enumerate(scenes)]
    lists = ([item for one in scenes for item in one[i]] for i in (2, 3, 4))
    return Proposals.cat(parts), torch.cat([one[1] for one in scenes]), *lists


def test_the_grid_lies_on_the_box() -> None:
    """A map that holds its own coordinates is read where the grid is, whatever the box's heading."""
    grid = BEVGridFeatures(dict(bev=2), [0.0, -3.2, -3, 6.4, 3.2, 1], grid=2, scale=1.0).double()
    centers = torch.arange(16, dtype=torch.float64) * 0.4 + 0.2
    x, y = torch.meshgrid(centers, centers - 3.2, indexing='xy')
    box = torch.tensor([[3.0, 0.5, 0, 2.0, 1.0, 1, np.pi / 2]], dtype=torch.float64)
    found = grid._sampled(torch.stack([x, y])[None], grid.places(box), torch.tensor([0]))[0]
    # half a metre before or behind the centre, which is along y, and a quarter to each side
    wanted = torch.tensor([[3.25, 0.0], [2.75, 0.0], [3.25, 1.0], [2.75, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(found, wanted)
    outside = grid._sampled(torch.ones(1, 2, 16, 16).double(), grid.places(box + 100), torch.tensor([0]))
    assert not outside.any()


def test_a_scene_turned_by_a_quarter_has_the_same_features() -> None:
    """Boxes, map and points together: what the head sees is in the box's own frame."""
    around = [-3.2, -3.2, -3, 3.2, 3.2, 1]
    grid = BEVGridFeatures(dict(bev=6), around, channels=4, grid=3).double()
    points_of = PointSetFeatures(channels=[8]).double()
    proposals, map_, points, _, _ = scene(0)
    proposals = replace(proposals, boxes=proposals.boxes - torch.tensor([3.2, 0, 0, 0, 0, 0, 0]))
    points = [points[0] - torch.tensor([3.2, 0, 0, 0])]
    x, y = proposals.boxes[:, 0], proposals.boxes[:, 1]
    turned = torch.cat(
        [-y[:, None], x[:, None], proposals.boxes[:, 2:6], proposals.boxes[:, 6:] + np.pi / 2], 1
    )
    turned_points = [torch.cat([-points[0][:, 1:2], points[0][:, :1], points[0][:, 2:]], 1)]
    turned_map = map_.transpose(2, 3).flip(3)  # row = y, column = x: (x, y) -> (-y, x)
    before = [part(proposals, {'bev': map_}, points) for part in (grid, points_of)]
    after = [
        part(replace(proposals, boxes=turned), {'bev': turned_map}, turned_points)
        for part in (grid, points_of)
    ]
    torch.testing.assert_close(after, before)


def losses_by_hand(refined: Refined, truth: np.ndarray, labels: list[int]) -> dict[str, float]:
    """Of one cloud, box by box."""
    score, box, corner, near = 0.0, 0.0, 0.0, 0
    for i, proposal in enumerate(refined.proposals.boxes.numpy()):
        mine = [j for j, label in enumerate(labels) if label == refined.proposals.labels[i]]
        ious = [iou_by_hand(proposal, truth[j]) for j in mine]
        best = mine[int(np.argmax(ious))]
        q, p = np.clip((max(ious) - 0.25) / 0.5, 0, 1), refined.iou_scores[i].item()
        score -= q * np.log(p) + (1 - q) * np.log(1 - p)
        if max(ious) < 0.3:
            continue
        near += 1
        wanted = encode_residuals(refined.proposals.boxes[i : i + 1], torch.tensor(truth[best])[None])[
            0
        ].numpy()
        gap = abs(refined.residuals[i].detach().numpy() - wanted)
        box += np.where(gap < 1 / 9, gap**2 / 2 * 9, gap - 1 / 18).sum()
        distances = []
        for turn in (0, np.pi):
            distance = 0.0
            for signs in np.ndindex(2, 2, 2):
                ends = []
                for b, yaw in (
                    (refined.boxes[i].detach().numpy(), 0.0),
                    (truth[best], turn),
                ):
                    dx, dy, dz = (np.array(signs) - 0.5) * b[3:6]
                    c, s = np.cos(b[6] + yaw), np.sin(b[6] + yaw)
                    ends.append([b[0] + c * dx - s * dy, b[1] + s * dx + c * dy, b[2] + b[5] / 2 + dz])
                d = np.linalg.norm(np.subtract(*ends))
                distance += (d**2 / 2 if d < 1 else d - 0.5) / 8
            distances.append(distance)
        corner += min(distances)
    count = len(refined)
    return dict(
        loss_rcnn_iou=score / count, loss_rcnn_box=box / max(near, 1), loss_rcnn_corner=corner / max(near, 1)
    )


@pytest.mark.filterwarnings('ignore:Arrays of 2-dimensional vectors')
@pytest.mark.parametrize('seed', [0, 1])
def test_losses_are_the_formulas(seed: int) -> None:
    head = head_of()
    proposals, map_, points, truth, labels = scene(seed, 12)
    refined = head.refine(proposals, map_, points)
    losses = head.losses(refined, truth, labels)
    wanted = losses_by_hand(refined, truth[0].numpy(), labels[0].tolist())
    assert min(wanted.values()) > 0
    assert {key: loss.item() for key, loss in losses.items()} == pytest.approx(wanted, rel=1e-5)


def test_gradients() -> None:
    """Of both sources of features and of all losses, in the map and in the box branch."""
    head = head_of(class_branch=True)
    proposals, map_, points, truth, labels = scene(3, 4)
    weight = head.box_branch.weight.detach().clone().requires_grad_()

    del head.box_branch._parameters['weight']

    def total(map_: Tensor, weight: Tensor) -> Tensor:
        head.box_branch.weight = weight
        return sum(head.losses(head.refine(proposals, map_, points), truth, labels).values())

    assert torch.autograd.gradcheck(total, (map_.requires_grad_(), weight), fast_mode=True)


def test_two_clouds_are_twice_one() -> None:
    head = head_of(class_branch=True).eval()
    scenes = [scene(0, 6), scene(1, 6)]
    single = [head.losses(head.refine(*one[:3]), *one[3:]) for one in scenes]
    both = together(*scenes)
    refined = head.refine(*both[:3])
    losses = head.losses(refined, *both[3:])
    torch.testing.assert_close(refined.boxes, torch.cat([head.refine(*one[:3]).boxes for one in scenes]))
    for key in ('loss_rcnn_iou', 'loss_rcnn_class'):
        torch.testing.assert_close(losses[key], (single[0][key] + single[1][key]) / 2)
    # the order of boxes and of clouds makes no difference
    swapped = together(*reversed(scenes))
    order = torch.randperm(len(swapped[0]))
    again = head.losses(head.refine(swapped[0][order], *swapped[1:3]), *swapped[3:])
    assert {k: v.item() for k, v in again.items()} == pytest.approx({k: v.item() for k, v in losses.items()})


def test_nothing_to_compare_is_zero_with_a_live_graph() -> None:
    head = head_of(class_branch=True)
    proposals, map_, points, truth, labels = scene(0)
    map_.requires_grad_()
    nothing = [box[:0] for box in truth], [label[:0] for label in labels]
    cases = [
        (proposals[:0], points, truth, labels),
        (proposals[:0], [points[0][:0]], *nothing),
    ]
    for some, clouds, boxes, names in cases:
        head.zero_grad()
        total = sum(head.losses(head.refine(some, map_, clouds), boxes, names).values())
        assert total.item() == 0
        total.backward()
        assert all(p.grad is not None and not p.grad.any() for p in head.parameters())
    for clouds in (points, [points[0][:0]]):  # proposals, but no object: background only
        losses = head.losses(head.refine(proposals, map_, clouds), *nothing)
        assert losses['loss_rcnn_iou'] > 0
        assert losses['loss_rcnn_box'] == losses['loss_rcnn_corner'] == 0
        assert all(loss.requires_grad for loss in losses.values())


def test_the_score_follows_the_overlap() -> None:
    iou = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    assert quality_of(iou, 0.25, 0.75).tolist() == [0, 0, 0.5, 1, 1]


def test_proposals_of_another_class_are_background() -> None:
    head = head_of()
    proposals, map_, points, truth, labels = scene(0)
    other = replace(proposals, labels=(proposals.labels + 1) % 3)
    losses = head.losses(head.refine(other, map_, points), truth, labels)
    assert losses['loss_rcnn_box'] == 0


def test_training_adds_objects_that_have_no_row() -> None:
    torch.manual_seed(0)
    proposals, _, _, truth, labels = scene(0)
    more = RoISampler(shifted=3)(proposals, truth, labels)
    assert len(more) == len(proposals) + 9
    assert (~more.remembered).sum() == 9
    added = more[~more.remembered]
    assert added.labels.tolist() == labels[0].tolist() * 3
    assert 0 < (added.boxes - truth[0].repeat(3, 1)).abs().max() < 3
    nothing = RoISampler(shifted=3)(proposals, [truth[0][:0]], [labels[0][:0]])
    assert len(nothing) == len(proposals)


def test_a_sample_is_balanced() -> None:
    torch.manual_seed(0)
    near, _, _, truth, labels = scene(0, 30)
    near = replace(near, boxes=truth[0][near.labels] + 0.001)
    far = replace(near, boxes=near.boxes + 100)
    both = Proposals.cat([near, far])
    taken = RoISampler(number=20)(both, truth, labels)
    assert len(taken) == 20
    assert (taken.boxes[:, 0] > 50).sum() == 10
    assert len(RoISampler(number=200)(both, truth, labels)) == 30 + 30
    assert len(RoISampler(number=20)(both[:0], truth, labels)) == 0
    with pytest.raises(UserError, match="the 'sampler' of a second stage"):
        RoISampler(foreground=2)


def test_final_boxes_are_ranked_and_apart() -> None:
    head = head_of(score='mean', score_thr=0.0, nms_iou=0.1, max_num=2).eval()
    proposals, map_, points, _, _ = scene(0, 9)
    refined = head.refine(proposals, map_, points)
    boxes, scores, labels = head.detect(refined, 2)[0]
    assert len(boxes) == len(scores) == len(labels) == 2
    assert scores[0] >= scores[1]
    assert not boxes.requires_grad
    torch.testing.assert_close(head.final_scores(refined), (refined.iou_scores * proposals.scores).sqrt())
    assert len(head.detect(refined, 2)[1][0]) == 0
    assert len(head_of(score_thr=1.0).detect(refined, 1)[0][0]) == 0


def test_what_a_config_gets_wrong() -> None:
    with pytest.raises(UserError, match=r"one of \('iou', 'mean'\), got 'class'"):
        head_of(score='class')
    with pytest.raises(UserError, match="'layer' or 'batch', got 'group'"):
        head_of(norm='group')
    proposals, map_, points, _, _ = scene(0)
    with pytest.raises(UserError, match="reads a map 'bev', but the first stage gives 'scatter'"):
        head_of().refine(proposals, {'scatter': map_}, points)


def test_batch_norm_takes_any_number_of_rows() -> None:
    head = head_of(norm='batch').train()
    proposals, map_, points, truth, labels = scene(0)
    for count in (0, 1, 6):
        losses = head.losses(head.refine(proposals[torch.arange(count)], map_, points), truth, labels)
        assert torch.isfinite(sum(losses.values()))
