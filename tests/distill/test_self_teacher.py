"""A network that teaches itself: what it hears, and that no term reaches its teacher."""

from typing import Any

import pytest
import torch
from mmcv import Config
from torch import Tensor

from projects.mmdet3d_plugin.distill import distiller as distiller_module
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.recipe import build_distiller, build_training
from projects.mmdet3d_plugin.distill.registry import LOSSES, DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.teachers.self_teacher import SelfTeacher
from tests.distill.toy_host import CLASSES, ToyBEVHost, toy_batch

HINT = dict(
    type='FeatureL2',
    name='hint',
    on=dict(student='backbone.0', teacher='bev'),
    connector='resize_conv',
    schedule=[(0, 0.0), (2, 2.0)],
)


def self_taught(**changes: Any) -> Config:
    """The toy host under itself: its BEV map teaches its first convolution (BYOT's feature hint)."""
    distiller = dict(teacher=dict(type='SelfTeacher'), terms=[HINT], debug=True) | changes
    return Config(dict(model=dict(type='ToyBEVHost'), class_names=CLASSES, distiller=distiller))


def gradients(loss: Tensor, module: torch.nn.Module) -> float:
    """Sum of what a loss sends to the weights of a module."""
    weights = list(module.parameters())
    grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return sum(float(grad.abs().sum()) for grad in grads if grad is not None)


def test_a_deep_map_teaches_an_early_one_and_learns_nothing() -> None:
    model = build_distiller(self_taught())
    model.set_epoch(1.0)
    losses = model(**toy_batch())
    assert set(losses) == {'loss_toy', 'loss_kd_hint'}
    term, student = model.distill['hint'], model.student
    assert gradients(losses['loss_kd_hint'], student.backbone[0]) > 0
    assert gradients(losses['loss_kd_hint'], term.connector) > 0
    assert gradients(losses['loss_kd_hint'], student.encoder) == 0
    assert gradients(losses['loss_kd_hint'], student.head) == 0
    assert all(
        name.startswith('distill.hint.') for name in set(model.state_dict()) - set(student.state_dict())
    )


def test_what_is_heard_is_the_students_own_map() -> None:
    model = build_distiller(self_taught()).eval()
    _, step = model.run_models(toy_batch())
    assert torch.equal(step.teacher['encoder'], step.live['encoder'])
    assert step.live['encoder'].requires_grad
    assert not step.teacher['encoder'].requires_grad


def test_the_schedule_begins_at_nothing_and_ends_at_its_factor() -> None:
    model = build_distiller(self_taught()).eval()
    batch, values = toy_batch(), []
    for epoch in (0.0, 0.5, 2.0, 7.0):
        model.set_epoch(epoch)
        values.append(model(**batch)['loss_kd_hint'].item())
    assert values[0] == 0.0
    assert values[1] > 0
    assert values[2] == pytest.approx(4 * values[1], rel=1e-6)
    assert values[3] == values[2]


def test_a_term_of_weight_0_builds_nothing() -> None:
    model = build_distiller(self_taught(terms=[{**HINT, 'weight': 0}]))
    assert not list(model.distill.parameters())
    assert list(model(**toy_batch())) == ['loss_toy']


def test_debug_notices_a_lost_stop_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one ``detach`` in the framework; without it the guard raises."""

    class Plain(DistillLoss):
        def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
            return (student - teacher).square().mean()

    monkeypatch.setitem(LOSSES._module_dict, 'Plain', Plain)
    model = build_distiller(self_taught(terms=[{**HINT, 'type': 'Plain', 'schedule': ()}]))
    model(**toy_batch())
    monkeypatch.setattr(distiller_module, 'stop_gradient', lambda value: value)
    with pytest.raises(DistillError, match="'hint' sends gradient to its teacher"):
        model(**toy_batch())


def test_debug_notices_a_loss_that_reads_the_teacher_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sly(DistillLoss):
        def forward(self, student: Tensor, teacher: Tensor, *, step: Step) -> Tensor:
            return (student.mean() - step.live['encoder'].mean()).square()

    monkeypatch.setitem(LOSSES._module_dict, 'Sly', Sly)
    model = build_distiller(self_taught(terms=[{**HINT, 'type': 'Sly', 'schedule': ()}]))
    with pytest.raises(DistillError, match='sends gradient to its teacher'):
        model(**toy_batch())


def test_training_data_need_no_second_view() -> None:
    cfg = self_taught()
    _, seen = build_training(cfg)
    assert seen is cfg


def test_meta_says_that_there_is_no_file() -> None:
    meta = build_distiller(self_taught()).meta()['teacher']
    assert meta == dict(type='SelfTeacher', checkpoint=None, sha256=None, view='same')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(targets=[dict(type='TeacherLabels')]), "'distiller.targets'"),
        (dict(teacher=dict(type='SelfTeacher', config='a.py')), "takes no 'config'"),
        (dict(head=dict(init='teacher')), "'distiller.head' needs query_head"),
        (dict(head='teacher'), 'must be a dict such as'),
        (dict(terms=[{**HINT, 'name': 'teacher'}]), "'teacher' cannot name a term"),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DistillError, match=message):
        build_distiller(self_taught(**changes))


def test_weights_are_not_inherited_from_oneself() -> None:
    model = build_distiller(self_taught(initialize=[dict(type='InheritHead')]))
    with pytest.raises(DistillError, match='a SelfTeacher is none'):
        model.init_weights()


def test_a_second_stage_must_be_there_to_be_heard() -> None:
    on = dict(student='encoder', teacher='second_stage')
    model = build_distiller(self_taught(terms=[dict(type='FeatureL2', name='late', on=on)]))
    with pytest.raises(DistillError, match=r"head=dict\(type='SecondStage'"):
        model(**toy_batch())


def test_library_users_give_the_student() -> None:
    student = ToyBEVHost()
    teacher = SelfTeacher(student, classes=CLASSES)
    assert teacher.classes == CLASSES
    assert [tap.path for tap in teacher.taps('bev')] == ['encoder']
