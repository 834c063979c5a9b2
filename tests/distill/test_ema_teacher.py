"""The running average of the student: how it follows, what is saved, and that it resumes to the bit."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.teachers.ema_teacher import STEPS_UNMOVED, RunningAverage
from projects.mmdet3d_plugin.engine.hooks import OptimizeHook
from tests.distill.toy_host import CLASSES, ToyBEVHost, toy_batch

TERM = dict(type='FeatureL2', name='bev', on='bev')


def averaged(momentum: float = 0.5, **changes: Any) -> Distiller:
    """The toy host under its own average, with weights that differ from it."""
    teacher = dict(type='EMATeacher', momentum=momentum)
    distiller = dict(teacher=teacher, terms=[TERM], debug=True) | changes
    torch.manual_seed(0)
    model = build_distiller(
        Config(dict(model=dict(type='ToyBEVHost'), class_names=CLASSES, distiller=distiller))
    )
    return model.train()


def train(model: Distiller, optimizer: torch.optim.Optimizer, steps: range, accumulate: int = 1) -> None:
    """Some steps; chance depends on their numbers only."""
    for number in steps:
        torch.manual_seed(number)
        sum(model(**toy_batch(seed=number)).values()).backward()
        if (number + 1) % accumulate == 0:
            optimizer.step()
            model.after_update()
            optimizer.zero_grad()


def test_the_average_is_the_formulas() -> None:
    """First a copy, then the plain mean until 1 / n falls below 1 - m; whole numbers are copied."""
    model = nn.BatchNorm1d(1).double()
    average = RunningAverage(model, momentum=0.75)
    wanted = 0.0
    for n in range(6):
        with torch.no_grad():
            model.weight.fill_(n * n + 1.0)
            model.running_mean.fill_(-n * n - 1.0)
            model.num_batches_tracked.fill_(n)
        average.follow(model)
        share = max(1 / (n + 1), 0.25)
        wanted += share * (n * n + 1.0 - wanted)
        assert average.model.weight.item() == pytest.approx(wanted, rel=1e-12)
        assert average.model.running_mean.item() == pytest.approx(-wanted, rel=1e-12)
        assert average.model.num_batches_tracked == n
    assert average.updates == 6
    assert not average.train().model.training


def test_it_starts_as_the_student_and_follows_its_updates() -> None:
    model = averaged(momentum=0.5)
    model.init_weights()  # after the teacher was built
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = model(**toy_batch())
    average, student = model.teacher.model.encoder, model.student.encoder
    assert torch.equal(average.weight, student.weight)
    before = student.weight.detach().clone()
    losses['loss_toy'].backward()
    optimizer.step()
    model.after_update()
    assert not torch.equal(student.weight, before)
    assert torch.allclose(average.weight, (before + student.weight) / 2, atol=1e-8)
    assert not any(p.requires_grad for p in model.teacher.model.parameters())
    assert model.teacher._average.updates == 2


def test_no_update_of_the_student_is_none_of_the_average() -> None:
    """Steps of one accumulated gradient, and looking at the distiller in ``eval()``, leave it where it is."""
    model = averaged()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), range(4), accumulate=2)
    model.eval()(**toy_batch())
    assert model.teacher._average.updates == 3  # the copy, and two updates


def test_a_loop_that_never_tells_of_updates_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    model = averaged()
    with caplog.at_level('WARNING', logger='focaldistiller'):
        for _ in range(STEPS_UNMOVED + 2):
            model.teacher.observe(toy_batch(batch_size=1, frames=1), [], torch.device('cpu'))
    assert [record.message.count('after_update()') for record in caplog.records] == [1]


def test_our_own_training_loop_tells_of_every_update() -> None:
    """Once per update of the weights, not per step."""
    model = averaged()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    hook = OptimizeHook(cumulative_iters=2)
    runner = SimpleNamespace(
        model=model, optimizer=optimizer, data_loader=range(4), precision=SimpleNamespace(scaler=None)
    )
    for runner.inner_iter in range(4):
        runner.outputs = dict(loss=sum(model(**toy_batch()).values()))
        hook.after_train_iter(runner)
    assert model.teacher._average.updates == 3  # the copy, and two updates


def test_a_resumed_run_goes_on_to_the_bit() -> None:
    """The checkpoint holds student, average and optimizer; nothing else is needed."""
    straight, first = averaged(0.9), averaged(0.9)
    optimizers = [torch.optim.Adam(m.parameters(), lr=0.02) for m in (straight, first)]
    train(straight, optimizers[0], range(6))
    train(first, optimizers[1], range(3))
    saved = {name: value.clone() for name, value in first.state_dict().items()}
    second = averaged(0.9)
    second.load_state_dict(saved, strict=True)
    again = torch.optim.Adam(second.parameters(), lr=0.02)
    again.load_state_dict(optimizers[1].state_dict())
    train(second, again, range(3, 6))
    wanted = straight.state_dict()
    assert any(name.startswith('distill.teacher.model.') for name in wanted)
    assert all(torch.equal(value, wanted[name]) for name, value in second.state_dict().items())


def test_a_student_is_what_is_left() -> None:
    model = averaged()
    plain = set(ToyBEVHost().state_dict())
    assert {name for name in model.state_dict() if not name.startswith('distill.')} == plain
    other = averaged()
    other.load_state_dict(model.student.state_dict(), strict=True)  # a plain checkpoint starts a new average
    assert other.teacher._average.updates == 0


def test_terms_teach_the_student_alone() -> None:
    model = averaged()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    train(model, optimizer, range(2))
    loss = model(**toy_batch())['loss_kd_bev']
    assert loss > 0
    loss.backward()
    assert model.student.encoder.weight.grad.any()
    assert all(p.grad is None for p in model.teacher.model.parameters())


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(DistillError, match=r'must lie in \[0, 1\)'):
        averaged(momentum=1.0)
    model = averaged(initialize=[dict(type='InheritHead')])
    with pytest.raises(DistillError, match='EMATeacher is none'):
        model.init_weights()
