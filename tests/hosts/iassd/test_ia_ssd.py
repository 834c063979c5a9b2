"""IA-SSD as a whole: on real frames at full size, on clouds without points, and in its distiller."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv.ops import points_in_boxes_cpu
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.config_checks.check import check_host
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.losses.local_graph import LocalGraph
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.engine import inference
from projects.mmdet3d_plugin.studies.cost.op_counter import OpCounter
from tests.hosts.two_stage.kitti_frames import real_frame
from tests.lidar_factories import total

PEDESTRIAN, CAR = 0, 2
METAS = [dict(box_type_3d=LiDARInstance3DBoxes)] * 2


def small() -> dict[str, Any]:
    """The scaled-down detector with fewer points."""
    cfg = load_config('kitti_ia_ssd.py').model
    for stage, number in zip(cfg.backbone.stages, (96, 48, 24, 12), strict=True):
        stage['number'] = number
    return cfg


@pytest.fixture(scope='module')
def model() -> nn.Module:
    torch.manual_seed(0)
    return build_model(small()).eval()


def street(points: int = 400, objects: int = 2) -> dict[str, Any]:
    """Two clouds of chance with points in objects: a car and, in the first, a pedestrian."""
    torch.manual_seed(1)
    boxes = torch.tensor([[10.0, 2, -1.5, 3.9, 1.6, 1.6, 0.5], [14, -3, -1.5, 0.8, 0.6, 1.7, 0]])[:objects]
    clouds = []
    for _ in range(2):
        cloud = torch.rand(points, 4) * torch.tensor([30, 16, 2.0, 1]) - torch.tensor([0, 8, 2.0, 0])
        for box in boxes:
            cloud = torch.cat([cloud, torch.cat([box[:3] + torch.rand(30, 3) * 0.5, torch.rand(30, 1)], 1)])
        clouds.append(cloud)
    labels = torch.tensor([CAR, PEDESTRIAN])[:objects]
    return dict(
        points=clouds,
        img_metas=METAS,
        gt_bboxes_3d=[LiDARInstance3DBoxes(boxes), LiDARInstance3DBoxes(boxes[:1])],
        gt_labels_3d=[labels, labels[:1]],
    )


def found_in(model: nn.Module, points: list[Tensor]) -> list[dict[str, Any]]:
    """As testing does it, which looks at all that a head returns."""
    with torch.no_grad(), inference._finite_heads(model):
        return model.simple_test(points, METAS[: len(points)])


def test_full_size_takes_a_step_on_a_real_frame(kitti_five_frames: Path) -> None:
    """The published configuration, at its number of points: finite losses, and every weight learns."""
    torch.manual_seed(0)
    cfg = load_config('ia_ssd_kitti.py').model
    built = build_model(cfg).train()
    built.init_weights()
    assert sum(weight.numel() for weight in built.parameters()) / 1e6 == pytest.approx(2.7, abs=0.05)
    cloud, cars = real_frame(kitti_five_frames, '000008')
    losses = built.forward_train(
        [cloud[torch.randperm(len(cloud))[:16384]]],
        METAS[:1],
        [LiDARInstance3DBoxes(cars)],
        [torch.full((len(cars),), CAR)],
    )
    assert all(loss.isfinite() and loss > 0 for loss in losses.values()), losses
    total(losses).backward()
    silent = [
        name for name, weight in built.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not silent
    assert all(weight.grad.isfinite().all() for weight in built.parameters())


def test_clouds_without_a_point_in_range(model: nn.Module) -> None:
    batch = street()
    far = batch['points'][0] + torch.tensor([1e3, 0, 0, 0])
    for points in ([far, far], [far[:0], far[:0]]):
        assert [len(one['boxes_3d']) for one in found_in(model, points)] == [0, 0]
        training = copy.deepcopy(model).train()
        losses = training.forward_train(**{**batch, 'points': points})
        assert all(loss == 0 for loss in losses.values())
        total(losses).backward()
        assert all(weight.grad is not None for weight in training.parameters())
    lone = found_in(model, [far, batch['points'][1]])
    assert [len(one['boxes_3d']) > 0 for one in lone] == [False, True]
    none = street(objects=0)
    losses = copy.deepcopy(model).train().forward_train(**none)
    assert losses['loss_bbox'] == losses['loss_centroid'] == 0 < losses['loss_cls']
    one = [cloud[:1] for cloud in batch['points']]
    assert total(copy.deepcopy(model).train().forward_train(**{**batch, 'points': one})).isfinite()


def test_what_is_unsure_is_neither_object_nor_background(model: nn.Module) -> None:
    """Points in ignored boxes get no gradient as background; those of objects there, and all others, stay as they were."""
    batch, training = street(), copy.deepcopy(model).train()
    outputs, head = training.raw_outputs(batch['points']), training.bbox_head
    truth = batch['gt_bboxes_3d'], batch['gt_labels_3d']
    area = torch.tensor([[14.0, -3, -2, 8, 7, 3, 0.0]])  # nobody's, and that of the car
    car = truth[0][0].tensor[:1]
    unsure = torch.cat([area, car])
    plain, none, ignored, owned = (
        head.loss(outputs, *truth, boxes) for boxes in (None, [area[:0]] * 2, [unsure, area[:0]], [car, car])
    )
    assert plain == none == owned
    for name, loss in plain.items():
        assert (ignored[name] < loss) == (name in ('loss_cls', 'loss_sampling'))
    centroids, objects = (
        outputs.logits,
        truth_of(outputs.origins[: outputs.counts[0]], truth[0][0].tensor, 1.0),
    )
    inside = truth_of(outputs.origins[: outputs.counts[0]], unsure, 1.0) & ~objects
    (grad,) = torch.autograd.grad(ignored['loss_cls'], centroids, retain_graph=True)
    assert torch.equal(~grad.any(1), torch.cat([inside, torch.zeros(outputs.counts[1]).bool()]))
    assert inside.any()
    assert objects.any()
    for said in outputs.confidences:
        first = said.places[: said.counts[0]]
        inside = truth_of(first, unsure, 0.2) & ~truth_of(first, truth[0][0].tensor, 0.2)
        (grad,) = torch.autograd.grad(ignored['loss_sampling'], said.logits, retain_graph=True)
        assert torch.equal(~grad[: said.counts[0]].any(1), inside)
        assert grad[said.counts[0] :].any(1).all()


def truth_of(places: Tensor, boxes: Tensor, margin: float) -> Tensor:
    """Which points (N, 3) lie in some box (n, 7) that is larger by a margin, as mmdet3d says."""
    wide = boxes + torch.tensor([0, 0, -margin / 2, margin, margin, margin, 0])
    return points_in_boxes_cpu(places.detach()[None], wide[None])[0].any(1)


def test_a_batch_of_two_is_twice_one(model: nn.Module) -> None:
    batch = street()
    clouds = [batch['points'][0], batch['points'][1][:150]]
    together = found_in(model, clouds)
    for both, cloud in zip(together, clouds, strict=True):
        (alone,) = found_in(model, [cloud])
        assert len(alone['boxes_3d']) > 3
        torch.testing.assert_close(both['boxes_3d'].tensor, alone['boxes_3d'].tensor)
        torch.testing.assert_close(both['scores_3d'], alone['scores_3d'])
        assert torch.equal(both['labels_3d'], alone['labels_3d'])


def test_it_can_be_taught_and_looks_at_the_same_points_as_its_teacher(model: nn.Module) -> None:
    """Rows of 'points' agree whatever two detectors have learned; those that each chose for itself are refused."""
    torch.manual_seed(5)
    teacher = build_model(small()).eval()
    batch = street()
    adapter, records = adapter_for(model), {}
    assert adapter_for(teacher).infer(teacher, batch).logits.shape == (24, 3)
    for name, host in (('student', model), ('teacher', teacher)):
        for alias in ('points', 'stage_2', 'heads'):
            (tap,) = adapter.taps(host, alias)
            with Recorder(host, [tap]) as recorder:
                adapter.infer(host, batch)
            records[name, alias] = tap.convert(recorder.pop()[tap.path])
    points = records['student', 'points']
    assert points.features.shape == (96, adapter.taps(model, 'points')[0].channels)
    loss = LocalGraph(64, 64, num_query=20, k=4, width=8)
    value = loss(points, records['teacher', 'points'])
    assert value > 0
    value.backward()
    model.zero_grad()
    assert loss(points, points) >= 0
    with pytest.raises(ValueError, match=r"look at different ones.*on='points'"):
        loss(records['student', 'stage_2'], records['teacher', 'stage_2'])
    assert len(adapter.detect(model, batch)) == 2
    assert records['student', 'heads'].codes.shape == (24, 30)


def test_its_cost_is_counted_without_values(model: nn.Module) -> None:
    """Linear layers on every pair, as brute force counts them where nothing learned decides."""
    batch, adapter = {**street(), 'points': street()['points'][:1]}, adapter_for(model)
    counter, macs, handles = OpCounter(model), [], []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            handles.append(
                module.register_forward_hook(lambda m, args, out: macs.append(len(out) * m.weight.numel()))
            )
    with torch.no_grad():
        adapter.run_for_cost(model, batch)
    for handle in handles:
        handle.remove()
    with counter.counting():
        adapter.run_for_cost(model, batch)
    counted = sum(sum(operations.values()) for operations in counter.macs.values())
    assert counted == sum(macs) > 1e5
    assert [stage.sample for stage in model.backbone.stages][-1] == 'centroid_aware'


def test_a_blank_frame_is_thinned_out_as_in_testing(model: nn.Module) -> None:
    cfg = load_config('kitti_ia_ssd.py')
    first, second = (adapter_for(model).blank_batch(cfg)['points'][0] for _ in range(2))
    assert first.shape == (4096, 4)
    assert torch.equal(first, second)
    assert (first[:, 0] >= 0).all()


def test_what_does_not_fit_is_said(model: nn.Module) -> None:
    with pytest.raises(UserError, match='looks at one view'):
        model.aug_test()
    for change, said in (
        (dict(sample='nearest'), "sample='nearest'; choose one of furthest"),
        (dict(sample='furthest'), r"stages\[3\] has sample='furthest'"),
    ):
        cfg = small()
        cfg.backbone.stages[3].update(change)
        with pytest.raises(UserError, match=said):
            build_model(cfg)
    cfg = load_config('kitti_ia_ssd.py')
    for path, value in (('num_classes', 2), ('context_channels', 7), ('mean_sizes', [[1, 1, 1]])):
        wrong = copy.deepcopy(cfg)
        wrong.model.bbox_head[path] = value
        with pytest.raises(UserError, match=f'bbox_head.{path}'):
            check_host(wrong)
