"""The parts of IA-SSD against their definitions."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from projects.mmdet3d_plugin.hosts.iassd.centroid_box_coder import CentroidBoxCoder
from projects.mmdet3d_plugin.hosts.iassd.centroid_losses import CentroidLosses, corner_distance
from projects.mmdet3d_plugin.hosts.iassd.centroid_outputs import CentroidOutputs
from projects.mmdet3d_plugin.hosts.iassd.instance_aware_net import Confidence
from projects.mmdet3d_plugin.hosts.iassd.point_set import PointSet
from projects.mmdet3d_plugin.hosts.iassd.point_targets import assign_points, centerness
from projects.mmdet3d_plugin.hosts.iassd.sampling_stage import SamplingStage
from projects.mmdet3d_plugin.hosts.iassd.set_abstraction import SetAbstraction

SIZES = [[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]]
BOX = torch.tensor([[10.0, 2, -1, 4, 2, 2, math.pi / 2]], dtype=torch.float64)  # along y


def points(count: int = 40, channels: int = 5, seed: int = 0) -> PointSet:
    torch.manual_seed(seed)
    places = torch.rand(count, 3, dtype=torch.float64) * 4
    return PointSet(places, torch.randn(count, channels, dtype=torch.float64), (count - 10, 10))


def test_set_abstraction_is_the_maximum_over_what_is_near() -> None:
    """Every pair by itself, in float64; gradients reach the points."""
    torch.manual_seed(0)
    layer = SetAbstraction(5, (0.7, 2.0), (3, 8), ((6, 7), (4,)), 9).double().eval()
    given = points()
    centers, counts = given.places[::4] + 0.1, (8, 2)
    found = layer(given, centers, counts)
    owner = [0] * 8 + [1] * 2
    clouds = given.places.split(given.counts), given.features.split(given.counts)
    for row, center in enumerate(centers):
        parts = []
        for radius, most, layers in zip(layer.radii, layer.neighbours, layer.scales, strict=True):
            places, features = clouds[0][owner[row]], clouds[1][owner[row]]
            near = ((places - center).norm(dim=1) < radius).nonzero().squeeze(1)[:most]
            each = [layers(torch.cat([places[i] - center, features[i]])[None])[0] for i in near]
            width = layers[-3].out_features
            parts.append(torch.stack(each).amax(0) if each else torch.zeros(width, dtype=torch.float64))
        torch.testing.assert_close(found[row], layer.merge(torch.cat(parts)[None])[0])

    def run(places: Tensor, features: Tensor) -> Tensor:
        return layer(PointSet(places, features, given.counts), centers, counts)

    inputs = given.places.clone().requires_grad_(), given.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)
    assert layer(given, centers[:0], (0, 0)).shape == (0, 9)


def test_stages_keep_the_points_with_the_best_scores_of_each_cloud() -> None:
    stage = SamplingStage(5, 3, 4, 'class_aware').double()
    given = points()
    logits = torch.randn(40, 3, dtype=torch.float64)
    kept, more = stage(given, logits)
    best = logits.amax(1)
    wanted = [*best[:30].topk(4).indices.tolist(), *(30 + best[30:].topk(4).indices).tolist()]
    assert kept.counts == (4, 4)
    torch.testing.assert_close(kept.features, given.features[wanted])
    assert more is None


def test_codes_are_boxes_again() -> None:
    coder = CentroidBoxCoder(SIZES)
    rng = np.random.default_rng(0)
    low, high = [0, -9, -2, 0.5, 0.4, 1, -math.pi], [30, 9, 0, 5, 2, 2, math.pi]
    boxes = torch.tensor(rng.uniform(low, high, (200, 7)))
    boxes[:4, 6] = torch.tensor([0.0, math.pi / 12, -math.pi / 12, -math.pi])
    labels, places = torch.arange(200) % 3, boxes[:, :3] + 0.4
    offsets, number, rest = coder.encode(boxes, labels, places)
    assert (number >= 0).all()
    assert (number < 12).all()
    assert (rest.abs() <= 1).all()
    codes = torch.full((200, coder.size), -9.0, dtype=torch.float64)
    codes[:, :6] = offsets
    codes[torch.arange(200), 6 + number] = 9
    codes[torch.arange(200), 18 + number] = rest
    again = coder.decode(codes, labels, places)
    torch.testing.assert_close(again[:, :6], boxes[:, :6])
    turn = again[:, 6] - boxes[:, 6]
    torch.testing.assert_close(turn.cos(), torch.ones_like(turn))
    assert coder.decode(codes[:0], labels[:0], places[:0]).shape == (0, 7)
    # a diagonal ahead is 1
    car = torch.tensor([[10.0, 0, -0.78, 3.9, 1.6, 1.56, 0]])
    (code,), _, _ = coder.encode(car, torch.tensor([2]), car[:, :3] * 0)
    assert code.tolist() == pytest.approx([10 / math.hypot(3.9, 1.6), 0, 0, 0, 0, 0], abs=1e-6)


def test_points_belong_to_the_nearest_box_they_lie_in() -> None:
    boxes = torch.cat([BOX, BOX + torch.tensor([0.0, 3, 0, 0, 0, 0, 0])])
    places = torch.tensor(
        [[10.0, 2, 0], [10, 3.4, 0], [10, 3.6, 0], [10.9, 2, 0], [11.1, 2, 0], [10, 2, 1.1]]
    ).double()
    labels = torch.tensor([2, 1])
    said = assign_points(places, (5, 1), [boxes, boxes], [labels, labels], 0.0)
    assert said.objects.tolist() == [0, 0, 1, 0, -1, -1]
    wider = assign_points(places, (5, 1), [boxes, boxes], [labels, labels], 0.4)
    assert wider.objects.tolist() == [0, 0, 1, 0, 0, 2]
    assert wider.labels.tolist() == [2, 1, 2, 1]
    none = assign_points(places, (5, 1), [boxes[:0], boxes[:0]], [labels[:0]] * 2, 0.4)
    assert not none.foreground.any()


def test_centerness_is_one_in_the_middle_and_zero_outside() -> None:
    places = torch.tensor([[10.0, 2, 0], [10, 4, 0], [10, 3, 0], [10.5, 3, 0.5], [10, 9, 0]]).double()
    third = 1 / 3
    wanted = [1, 0, third ** (1 / 3), (third**3) ** (1 / 3), 0]
    assert centerness(places, BOX.expand(5, 7)).tolist() == pytest.approx(wanted)


def outputs(seed: int = 0) -> CentroidOutputs:
    """Four centroids of one cloud, two of them in the box, with a stage of three points, two in the box."""
    torch.manual_seed(seed)
    origins = torch.tensor([[10.0, 2.5, 0], [10, 1, 0.2], [20, 0, 0], [25, 0, 0]], dtype=torch.float64)
    shifts = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    said = Confidence(origins[:3], (3,), torch.randn(3, 3, dtype=torch.float64), 'centroid_aware')
    return CentroidOutputs(
        origins,
        shifts,
        (origins + 0.3 * shifts),
        (4,),
        torch.randn(4, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(4, 30, dtype=torch.float64, requires_grad=True),
        (said,),
    )


def cross_entropy(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -(target * math.log(p) + (1 - target) * math.log(1 - p))


def test_losses_are_what_the_paper_says() -> None:
    """By hand, in plain numbers."""
    given, losses = outputs(), CentroidLosses(CentroidBoxCoder(SIZES), direction=1.0)
    found = losses(given, [BOX], [torch.tensor([2])], 3)
    value = {name: loss.item() for name, loss in found.items()}
    # sampling: three points, the first two foreground of class 2, which count as much as they are central
    said, central = given.confidences[0].logits, centerness(given.origins[:2], BOX.expand(2, 7)).tolist()
    sampling = 0.0
    for i in range(3):
        for c in range(3):
            mine = i < 2 and c == 2
            weight = central[i] if mine else 1
            sampling += weight * cross_entropy(float(said[i, c]), float(mine)) / 3
    assert value['loss_sampling'] == pytest.approx(sampling / 2)
    # centroids: distance to the true centre (10, 2, 0), and to their mean
    moved = (given.origins + given.shifts)[:2].detach().numpy()
    gaps = np.abs(moved - [10, 2, 0]).sum(1) + np.abs(moved - moved.mean(0)).sum(1)
    assert value['loss_centroid'] == pytest.approx(gaps.mean())
    # scores: the target is how central the centroid came to lie
    target = np.zeros((4, 3))
    target[:2, 2] = centerness(given.centroids[:2].detach(), BOX.expand(2, 7))
    logits = given.logits.detach().numpy()
    scores = sum(cross_entropy(logits[i, c], target[i, c]) for i in range(4) for c in range(3)) / 3
    assert value['loss_cls'] == pytest.approx(scores / 2)
    # boxes: yaw pi / 2 is in the middle of bin 3
    codes = given.codes[:2].detach()
    offsets, number, rest = losses.coder.encode(
        BOX.expand(2, 7), torch.tensor([2, 2]), given.centroids[:2].detach()
    )
    assert number.tolist() == [3, 3]
    assert rest.tolist() == pytest.approx([0, 0])

    def smooth(x: float, beta: float = 1 / 9) -> float:
        return 0.5 * x * x / beta if abs(x) < beta else abs(x) - beta / 2

    assert value['loss_bbox'] == pytest.approx(
        sum(smooth(float(x)) for x in (codes[:, :6] - offsets).flatten()) / 2
    )
    turns = sum(float(-row[6:18].log_softmax(0)[3]) + smooth(float(row[18 + 3])) for row in codes)
    assert value['loss_dir'] == pytest.approx(turns / 2)
    decoded = losses.coder.decode(codes, torch.tensor([2, 2]), given.centroids[:2].detach())
    corner = corner_distance(decoded, BOX.expand(2, 7)).mean()
    assert value['loss_corner'] == pytest.approx(corner.item())
    sum(found.values()).backward()
    assert not given.codes.grad[2:].any()
    assert given.shifts.grad[:2].any(1).all()
    assert not given.shifts.grad[2:].any()


def test_corners_do_not_ask_which_way_a_box_points() -> None:
    turned = BOX + torch.tensor([0.0, 0, 0, 0, 0, 0, math.pi])
    assert corner_distance(turned, BOX).item() == pytest.approx(0, abs=1e-9)
    moved = BOX + torch.tensor([0.0, 0, 0.3, 0, 0, 0, 0])
    assert corner_distance(moved, BOX).item() == pytest.approx(0.5 * 0.09)
    box = (BOX + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda b: corner_distance(b, BOX), (box,))
