"""Voxel self-distillation: a second stage beside a one-stage detector, and what it teaches."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill import distiller as distiller_module
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.losses.head_to_head import HeadToHead
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.engine import test
from projects.mmdet3d_plugin.engine.export import export_student
from projects.mmdet3d_plugin.hosts.two_stage.proposals import ADDED, Proposals, Refined
from projects.mmdet3d_plugin.studies.cost.op_counter import OpCounter
from tests.factories import pint_bevformer_config
from tests.lidar_factories import (
    centerpoint_config,
    emptied,
    lidar_batch,
    pillar_config,
    roi_head_config,
    slow_centerpoint_config,
    two_stage_config,
)

CLASSES = ['Pedestrian', 'Cyclist', 'Car']
ON = dict(student='heads', teacher='second_stage')
TERM = dict(type='HeadToHead', name='heads', on=ON, temperature=2.0, score_thr=0.0, box_thr=0.0)
CLASSY = dict(roi_head=roi_head_config(scatter=8, bev=16) | dict(class_branch=True))
SUB_HEAD = dict(type='SubHead', name='sub_head', on=dict(student='scatter', teacher='heads'))


HOSTS = {
    'anchors': (pillar_config, dict(scatter=8, bev=16)),
    'cells': (slow_centerpoint_config, dict(stage_0=8, bev=16)),
    'moving': (centerpoint_config, dict(stage_0=8, bev=16)),
}


def taught(
    kind: str = 'anchors',
    head: dict | None = None,
    model: dict | None = None,
    names: Sequence[str] = CLASSES,
    **changes: Any,
) -> Distiller:
    """A pint one-stage detector with a second stage that teaches it."""
    config, maps = HOSTS[kind]
    head = dict(type='SecondStage', roi_head=roi_head_config(**maps)) | (head or {})
    distiller = dict(teacher=dict(type='SelfTeacher'), head=head, terms=[TERM], debug=True) | changes
    torch.manual_seed(0)
    model = build_distiller(Config(dict(model=model or config(), class_names=names, distiller=distiller)))
    model.init_weights()
    return model.train()


def grads(loss: Tensor, module: nn.Module) -> float:
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return sum(float(grad.abs().sum()) for grad in found if grad is not None)


@pytest.mark.parametrize('kind', ['anchors', 'cells'])
def test_the_term_reaches_the_dense_head_and_never_the_second_stage(kind: str) -> None:
    """A1: the original's gradient went the other way."""
    model = taught(kind)
    losses = model(**lidar_batch([0, 1]))
    assert {'loss_rcnn_iou', 'loss_rcnn_box', 'loss_rcnn_corner', 'loss_kd_heads'} < set(losses)
    prefix = model.adapter.prefix
    dense, backbone = (getattr(model.student, prefix + name) for name in ('bbox_head', 'backbone'))
    loss = losses['loss_kd_heads']
    assert loss > 0
    assert grads(loss, dense) > 0
    assert grads(loss, backbone) > 0
    assert grads(loss, model.head) == 0
    second = losses['loss_rcnn_iou'] + losses['loss_rcnn_box']
    assert grads(second, model.head) > 0
    assert grads(second, dense) == 0
    assert grads(second, backbone) > 0  # co-training


def test_under_a_strong_view_it_looks_where_the_student_looks() -> None:
    """Mining within the step: points and objects of the second stage are those of the world that the student learns in."""
    mining = dict(type='OnlineMining', teacher='mean', score_thr=1.0, least_score=1.0, rotate=0.5, flip=1.0)
    teachers = dict(mean=dict(type='EMATeacher'), own=dict(type='SelfTeacher'))
    own = dict(teacher='own')
    model = taught(teacher=teachers, head=own, terms=[TERM | own, SUB_HEAD | own], targets=[mining])
    batch, seen, learnt = lidar_batch([0]), [], []
    model.head.register_forward_pre_hook(lambda _, args: seen.append(args[0].batch))
    losses = model.adapter.losses
    model.adapter.losses = lambda student, taught: learnt.append(taught) or losses(student, taught)
    model(**batch)['loss_kd_heads'].backward()
    for key in ('points', 'gt_bboxes_3d'):
        assert seen[0][key] is learnt[0][key]
    assert not torch.equal(seen[0]['points'][0], batch['points'][0])
    imitation = dict(type='FeatureL2', name='imitation', on='bev', teacher='mean')
    with pytest.raises(
        DistillError, match="'imitation' reads what the teacher saw before OnlineMining moved"
    ):
        taught(teacher=teachers, head=own, terms=[imitation], targets=[mining])


def test_on_stopped_features_the_second_stage_leaves_the_backbone_alone() -> None:
    model = taught(head=dict(teach_backbone=False))
    losses = model(**lidar_batch([0, 1]))
    second = losses['loss_rcnn_iou'] + losses['loss_rcnn_box']
    assert grads(second, model.head) > 0
    assert grads(second, model.student) == 0


def test_velocities_are_left_to_the_ground_truth() -> None:
    """CenterPoint as on nuScenes: refined boxes teach what they refine, through the student's heads for these."""
    model = taught('moving', terms=[TERM, SUB_HEAD])
    losses = model(**lidar_batch([0, 1], box_dim=9))
    heads = model.student.pts_bbox_head.task_heads
    assert losses['loss_kd_heads'] > 0
    assert losses['loss_kd_sub_head'] > 0
    assert sum(grads(losses['loss_kd_heads'], task.reg) for task in heads) > 0
    assert sum(grads(losses['loss_kd_heads'], task.vel) for task in heads) == 0
    assert sum(grads(losses[f'task{number}.loss_bbox'], task.vel) for number, task in enumerate(heads)) > 0


def test_debug_notices_a_lost_stop_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distiller_module, 'stop_gradient', lambda value: value)
    with pytest.raises(DistillError, match="'heads' sends gradient to its teacher"):
        taught()(**lidar_batch([0, 1]))


def looked_at(kind: str) -> tuple[Distiller, HeadToHead, Any, Refined]:
    """A detector's step: the loss, the dense head's outputs, and boxes of the second stage."""
    model = taught(kind).eval()
    _, step = model.run_models(lidar_batch([0, 1]))
    term = model.distill['heads']
    outputs = term.student.convert(step.student[term.student.path])
    return model, term.loss, outputs, step.teacher['second_stage']


@pytest.mark.parametrize('kind', ['anchors', 'cells'])
def test_boxes_find_the_row_that_proposed_them(kind: str) -> None:
    """A5: the code at the index decodes to the box; its own code is nearest to what the box encodes to."""
    _, loss, outputs, refined = looked_at(kind)
    boxes = refined.proposals[refined.proposals.remembered]
    assert len(boxes) > 3
    codes = loss.head.codes(outputs, boxes.batch_index, boxes.indices)
    if kind == 'cells':  # sine and cosine may be of any length
        codes = torch.cat([codes[:, :6], codes[:, 6:] / codes[:, 6:].norm(dim=1, keepdim=True)], 1)
    targets = loss.head.encode(outputs, boxes.indices, boxes.boxes)
    assert loss.head.distance(codes, targets).max() < 1e-4
    at = loss.head.place(outputs, boxes.indices)
    score = loss.head.logits(outputs)[boxes.batch_index, at].sigmoid().gather(1, boxes.labels[:, None])[:, 0]
    assert torch.allclose(score, boxes.scores, atol=1e-6)


@pytest.mark.parametrize('kind', ['anchors', 'cells'])
def test_order_and_company_do_not_matter(kind: str) -> None:
    """A3: permuted boxes, permuted samples, and a batch of two as two of one."""
    _, loss, outputs, refined = looked_at(kind)
    whole = loss(outputs, refined)
    order = torch.randperm(len(refined), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(outputs, refined[order]), whole)
    added = refined.proposals.indices == ADDED
    assert added.any()
    torch.testing.assert_close(loss(outputs, refined[~added]), whole)
    singles = []
    for i in range(2):
        mine = refined[refined.proposals.batch_index == i]
        proposals = replace(mine.proposals, batch_index=torch.zeros_like(mine.proposals.batch_index))
        singles.append(loss(sample_of(outputs, i), replace(mine, proposals=proposals)))
    torch.testing.assert_close(torch.stack(singles).mean(), whole)


def sample_of(outputs: Any, i: int) -> Any:
    """One sample of raw outputs."""
    if isinstance(outputs, Tensor):
        return outputs[i : i + 1]
    if isinstance(outputs, dict):
        return {key: sample_of(value, i) for key, value in outputs.items()}
    return [sample_of(value, i) for value in outputs]


def some_boxes(scores: list[float], labels: list[int], class_logits: Tensor | None = None) -> Refined:
    """Boxes of row 0, 1, ... of one sample."""
    count = len(scores)
    boxes = torch.tensor([[3.0, 0.5, -1.0, 3.9, 1.6, 1.56, 0.1]]).double().repeat(count, 1)
    rows, score = torch.arange(count), torch.tensor(scores, dtype=torch.float64)
    proposals = Proposals(
        boxes, score, torch.tensor(labels, dtype=torch.long), rows, torch.zeros_like(rows), 12, boxes[:, 7:]
    )
    return Refined(boxes, score, class_logits, proposals, score.logit(), torch.zeros_like(boxes))


def loss_of(**settings: Any) -> HeadToHead:
    """The loss on the anchors of pint PointPillars."""
    student = build_model(Config(dict(model=pillar_config())).model)
    head = adapter_for(student).dense_head(student)
    return HeadToHead(student_head=lambda: head, teacher_head=lambda: head, **settings)


def raw_outputs(seed: int = 0) -> list[list[Tensor]]:
    """Class scores and codes of one sample on a map of 1 x 2 cells, 6 anchors each."""
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(1, 6 * width, 1, 2, generator=generator, dtype=torch.float64)] for width in (3, 7, 2)
    ]


def test_the_class_term_is_the_formula() -> None:
    """T^2 * (kl(s || sigma(z_y / T)) + beta * mean of the others), s softened as the student is."""
    outputs, refined = raw_outputs(), some_boxes([0.9, 0.2, 0.6], [0, 2, 1])
    loss = loss_of(temperature=2.0, beta=0.5, others=0.02, box_weight=0.0, score_thr=0.0)(outputs, refined)
    z = outputs[0][0][0, :, 0, 0].view(6, 3)[:3]
    q = torch.full((3, 3), 0.02, dtype=torch.float64)
    q[torch.arange(3), torch.tensor([0, 2, 1])] = torch.tensor([0.9, 0.2, 0.6], dtype=torch.float64)
    q, p = (q.logit() / 2).sigmoid(), (z / 2).sigmoid()
    kl = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    weights = torch.full((3, 3), 0.25, dtype=torch.float64)
    weights[torch.arange(3), torch.tensor([0, 2, 1])] = 1.0
    assert loss.item() == pytest.approx(4 * (weights * kl).sum(1).mean().item(), rel=1e-9)


def test_the_softmax_form_gives_the_target_its_score() -> None:
    refined = some_boxes([0.9, 0.2], [1, 0])
    share = loss_of(form='softmax').wanted(refined, 3).softmax(1)
    wanted = torch.tensor([[0.05, 0.9, 0.05], [0.2, 0.4, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(share, wanted)
    logits = torch.randn(2, 3, dtype=torch.float64)
    assert loss_of().wanted(some_boxes([0.9, 0.2], [1, 0], logits), 3) is logits


def test_false_alarms_count_and_what_both_refuse_does_not() -> None:
    outputs = raw_outputs()
    outputs[0][0][:] = -6.0
    outputs[0][0][0, 0, 0, 0] = 1.0  # the student takes row 0 for a pedestrian
    settings = dict(box_weight=0.0, score_thr=0.05)
    alarm = loss_of(**settings)(outputs, some_boxes([0.01], [0]))
    both = loss_of(**settings)(outputs, some_boxes([0.01, 0.01], [0, 0]))
    assert alarm > 0.5
    assert both.item() == alarm.item()


def test_the_box_term_is_the_hosts_loss_in_the_hosts_code() -> None:
    """Smooth L1 with the host's beta and weight, of boxes that fit; yaws by sine."""
    outputs, refined = raw_outputs(), some_boxes([0.9, 0.2, 0.6], [0, 2, 1])
    loss = loss_of(class_weight=0.0, box_thr=0.5)
    assert loss(outputs, refined[:0]).item() == 0
    targets = loss.head.encode(outputs, torch.tensor([0, 2]), refined.boxes[[0, 2]])
    codes = outputs[1][0][0, :, 0, 0].view(6, 7)[[0, 2]]
    gap = (codes - targets).abs()
    gap[:, 6] = (codes[:, 6] - targets[:, 6]).sin().abs()
    smooth = torch.where(gap < 1 / 9, gap.square() * 4.5, gap - 1 / 18)
    assert loss(outputs, refined).item() == pytest.approx(2 * smooth.sum(1).mean().item(), rel=1e-6)


def test_gradcheck() -> None:
    outputs, refined = raw_outputs(), some_boxes([0.9, 0.2, 0.6], [0, 2, 1])
    loss = loss_of(temperature=2.0, score_thr=0.0)
    inputs = [outputs[0][0].requires_grad_(), outputs[1][0].requires_grad_()]
    torch.autograd.gradcheck(
        lambda z, codes: loss([[z], [codes], outputs[2]], refined), inputs, fast_mode=True
    )


def test_temperature_acts_in_training() -> None:
    """Another temperature sends another gradient, which the original's four runs did not know."""
    found = []
    for temperature in (1.0, 2.0):
        model = taught(terms=[{**TERM, 'temperature': temperature, 'box_weight': 0.0}])
        torch.manual_seed(1)
        loss = model(**lidar_batch([0]))['loss_kd_heads']
        (grad,) = torch.autograd.grad(loss, model.student.bbox_head.conv_cls.bias)
        found.append(grad / grad.norm())
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize('which', [[0], [0, 1]])
def test_no_points_no_objects_no_boxes(which: list[int]) -> None:
    """A4: finite, and the graph lives."""
    model, batch = taught(), emptied(lidar_batch([0, 1]), which)
    batch['gt_bboxes_3d'] = [boxes[:0] for boxes in batch['gt_bboxes_3d']]
    batch['gt_labels_3d'] = [labels[:0] for labels in batch['gt_labels_3d']]
    losses = model(**batch)
    loss = sum(loss for key, loss in losses.items() if 'rcnn' in key or 'kd' in key)
    loss.backward()
    assert loss.isfinite()
    nothing = model.distill['heads'].loss(raw_outputs_live(), some_boxes([], []))
    assert nothing.item() == 0
    nothing.backward()


def raw_outputs_live() -> list[list[Tensor]]:
    """Outputs that a graph hangs on."""
    return [[part.requires_grad_() for part in level] for level in raw_outputs()]


def test_what_is_exported_is_the_plain_detector(tmp_path: Any) -> None:
    """A7: its keys, the very detections of before, and what they cost."""
    model = taught().eval()
    batch = lidar_batch([0])
    view = dict(points=[batch['points']], img_metas=[batch['img_metas']])
    before = model(return_loss=False, **view)[0]
    file, out = tmp_path / 'epoch_1.pth', tmp_path / 'student.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), file)
    assert any(name.startswith('distill.head.roi_head.') for name in model.state_dict())
    export_student(file, out)
    plain = build_model(Config(dict(model=pillar_config())).model).eval()
    plain.load_state_dict(torch.load(out, weights_only=True)['state_dict'], strict=True)
    after = plain(return_loss=False, **view)[0]
    assert torch.equal(before['boxes_3d'].tensor, after['boxes_3d'].tensor)
    assert torch.equal(before['scores_3d'], after['scores_3d'])
    assert operations(plain, batch) == operations(
        build_model(Config(dict(model=pillar_config())).model), batch
    )
    assert operations(plain, batch) == operations(model.student, batch)


def operations(model: nn.Module, batch: dict[str, Any]) -> dict[str, int]:
    """Multiply-accumulates of a forward pass, by operation."""
    counter = OpCounter(model)
    with counter.counting():
        adapter_for(model).run_for_cost(model.eval(), batch)
    counted = sum(counter.macs.values(), Counter())
    assert counted
    return dict(counted)


def test_an_exported_student_is_tested_with_its_own_config(synthetic_kitti: Path, tmp_path: Path) -> None:
    """A7: ``tools/test.py`` takes it with the config of the plain detector, which knows nothing of its teacher."""
    torch.manual_seed(0)
    model = build_distiller(load_config('kitti_self_all.py'))
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'epoch_1.pth')
    export_student(tmp_path / 'epoch_1.pth', tmp_path / 'student.pth')
    given = ['kitti_pointpillars_teacher.py', tmp_path / 'student.pth', '--format-only']
    given += ['--out-dir', tmp_path, '--data-root', synthetic_kitti, '--device', 'cpu', '--threads', '1']
    loose = ['--cfg-options', 'model.test_cfg.score_thr=0.0', 'model.test_cfg.max_num=3']
    test.main([*map(str, given), *loose])
    assert len(list((tmp_path / 'kitti_results').iterdir())) == 3


def swapped(model: Distiller, order: list[int]) -> Distiller:
    """The same net for classes in another order: new class i is the old one ``order[i]``, weights and anchors alike."""
    config = pillar_config()
    anchors = config['bbox_head']['anchor_generator']
    anchors['sizes'] = [anchors['sizes'][i] for i in order]
    names = [CLASSES[i] for i in order]
    other = taught(head=CLASSY, terms=[TERM, SUB_HEAD], model=config, names=names)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name, value in state.items():
        if name.split('.')[-2] in ('conv_cls', 'conv_reg', 'conv_dir_cls'):
            by_anchor = value.unflatten(0, (3, 2, -1))[order]  # size, yaw, number
            state[name] = (by_anchor[:, :, order] if 'conv_cls' in name else by_anchor).flatten(0, 2)
        elif 'class_branch' in name:
            state[name] = value[order]
    other.load_state_dict(state)
    return other


def test_classes_are_known_by_name() -> None:
    """A3: with classes in another order, and everything that belongs to them, all losses stay as they are."""
    order, batch = [2, 0, 1], lidar_batch([0, 1])
    model = taught(head=CLASSY, terms=[TERM, SUB_HEAD])
    other = swapped(model, order)
    new = torch.tensor([order.index(label) for label in range(3)])
    found = []
    for each, labels in ((model, torch.arange(3)), (other, new)):
        torch.manual_seed(1)
        losses = each(**{**batch, 'gt_labels_3d': [labels[own] for own in batch['gt_labels_3d']]})
        found.append({name: flat(loss).item() for name, loss in losses.items()})
    assert {'loss_rcnn_class', 'loss_kd_heads', 'loss_kd_sub_head'} < found[0].keys()
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def steps(model: Distiller, optimizer: torch.optim.Optimizer, numbers: range) -> None:
    """Training steps whose chance follows from their numbers."""
    for number in numbers:
        torch.manual_seed(number)
        loss = sum(part for part in map(flat, model(**lidar_batch([number])).values()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def flat(loss: Any) -> Tensor:
    """mmdet's losses are tensors or lists of them."""
    return sum(loss) if isinstance(loss, list) else loss


def test_a_resumed_run_goes_on_to_the_bit() -> None:
    """A8, with the second stage's weights in the checkpoint."""
    straight, first, second = taught(), taught(), taught(head=dict(weight=1.0))
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (straight, first, second)]
    steps(straight, optimizers[0], range(3))
    steps(first, optimizers[1], range(2))
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    optimizers[2].load_state_dict(optimizers[1].state_dict())
    steps(second, optimizers[2], range(2, 3))
    wanted = straight.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in second.state_dict().items())


def test_a_whole_two_stage_detector_may_teach_itself_or_another() -> None:
    """The same term: the student's own second stage, and a frozen detector's on the same anchors (cross-stage)."""
    alone = dict(teacher=dict(type='SelfTeacher'), terms=[TERM], debug=True)
    cfg = dict(model=two_stage_config(), class_names=CLASSES, distiller=alone)
    model = build_distiller(Config(cfg)).train()
    loss = model(**lidar_batch([0, 1]))['loss_kd_heads']
    assert grads(loss, model.student.bbox_head) > 0
    assert grads(loss, model.student.roi_head) == 0
    teacher = dict(
        config=dict(model=two_stage_config(), class_names=CLASSES), random_weights=True, view='same'
    )
    cfg = dict(
        model=pillar_config(), class_names=CLASSES, distiller=dict(teacher=teacher, terms=[TERM], debug=True)
    )
    model = build_distiller(Config(cfg)).train()
    assert grads(model(**lidar_batch([0, 1]))['loss_kd_heads'], model.student.bbox_head) > 0


@pytest.mark.parametrize(
    ('voxel', 'sizes', 'message'),
    [
        (0.4, [[3.9, 1.6, 1.56]] * 3, 'anchor sizes is .* in the student and .* in the teacher'),
        (0.2, None, 'dense head has 1536 rows, that of the teacher 384'),
    ],
)
def test_boxes_of_other_rows_are_refused(voxel: float, sizes: list | None, message: str) -> None:
    """A frozen teacher's second stage refers to the rows of its own dense head."""
    student = pillar_config(voxel=voxel)
    anchors = student['bbox_head']['anchor_generator']
    anchors['sizes'] = sizes or anchors['sizes']
    teacher = dict(
        config=dict(model=two_stage_config(), class_names=CLASSES), random_weights=True, view='same'
    )
    cfg = dict(model=student, class_names=CLASSES, distiller=dict(teacher=teacher, terms=[TERM]))
    with pytest.raises(DistillError, match=message):
        build_distiller(Config(cfg)).train()(**lidar_batch([0]))


def test_what_cannot_be_is_told() -> None:
    distiller = dict(teacher=dict(type='SelfTeacher'), terms=[], head=dict(type='SecondStage', roi_head={}))
    names = [f'class_{i}' for i in range(10)]
    with pytest.raises(DistillError, match='not of a BEVFormer'):
        build_distiller(Config(dict(model=pint_bevformer_config(), class_names=names, distiller=distiller)))
    with pytest.raises(DistillError, match='others must lie between'):
        taught(terms=[{**TERM, 'others': 0.0}])
