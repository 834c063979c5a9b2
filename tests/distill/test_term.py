"""Terms: names, weights, schedules, pairs of places, and what is an error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv import Config
from torch import Tensor

from projects.mmdet3d_plugin.distill.connectors import Identity
from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss
from projects.mmdet3d_plugin.distill.losses.feature_l2 import FeatureL2
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import LOSSES, DistillError
from projects.mmdet3d_plugin.distill.step import Step
from projects.mmdet3d_plugin.distill.taps import Tap, stop_gradient
from projects.mmdet3d_plugin.distill.term import ZERO_STEPS, Term
from tests.distill.conftest import BEV_TERM, PV_TERM
from tests.distill.toy_host import toy_batch

Recipe = Callable[..., Config]


def names(recipe: Recipe, *terms: dict[str, Any]) -> list[str]:
    return list(build_distiller(recipe(terms=list(terms))).terms)


def test_names_come_from_the_loss_and_count_the_places(recipe: Recipe) -> None:
    unnamed = {key: value for key, value in PV_TERM.items() if key != 'name'}
    assert names(recipe, unnamed) == ['channel_wise_divergence_0', 'channel_wise_divergence_1']
    assert names(recipe, {**unnamed, 'on': 'encoder'}) == ['channel_wise_divergence']
    assert names(recipe, {**unnamed, 'on': 'stages', 'name': 'x'}) == ['x_0', 'x_1']


def test_terms_may_be_given_by_name(recipe: Recipe) -> None:
    by_name = dict(pv={k: v for k, v in PV_TERM.items() if k != 'name'}, bev={**BEV_TERM, 'weight': 0.0})
    assert list(build_distiller(recipe(terms=by_name)).distill) == ['pv_0', 'pv_1']


def test_student_and_teacher_may_be_tapped_at_different_places(recipe: Recipe) -> None:
    term = {
        **PV_TERM,
        'on': dict(student='backbone.0', teacher='backbone.2'),
        'connector': dict(type='Conv1x1', out_channels=6),
    }
    distiller = build_distiller(recipe(terms=[term]))
    assert distiller(**toy_batch())['loss_kd_pv'].item() > 0


def test_term_of_weight_zero_has_no_parts(recipe: Recipe) -> None:
    distiller = build_distiller(recipe(terms=[{**PV_TERM, 'weight': 0}, BEV_TERM]))
    assert list(distiller.distill) == ['bev']
    assert not any('pv' in name for name in distiller.state_dict())


def test_clone_is_handed_to_the_tap(recipe: Recipe) -> None:
    distiller = build_distiller(recipe(terms=[BEV_TERM, {**PV_TERM, 'clone': True}]))
    assert [term.student.clone for term in distiller.distill.values()] == [False, True, True]


def test_weight_scales_the_loss(recipe: Recipe) -> None:
    values = []
    for weight in (0.5, 2.0):
        torch.manual_seed(0)
        distiller = build_distiller(recipe(terms=[{**BEV_TERM, 'weight': weight}])).eval()
        values.append(distiller(**toy_batch())['loss_kd_bev'].item())
    assert values[1] == pytest.approx(4 * values[0], rel=1e-5)


@pytest.mark.parametrize(
    ('term', 'message'),
    [
        ({'weight': -1}, "the weight of the term 'bev' must be a finite number >= 0, got -1"),
        ({'weight': float('nan')}, "the weight of the term 'bev' must be"),
        ({'schedule': [(2, 1.0), (1, 0.0)]}, "the schedule of the term 'bev' must be"),
        ({'on': 'encodr'}, "no module 'encodr' among its .* did you mean 'encoder'"),
        ({'on': None}, "the term 'bev' has no 'on'"),
        ({'on': dict(student='bev')}, "'on' of the term 'bev' needs 'student' and 'teacher'"),
        ({'on': dict(student='bev', teacher='stages')}, 'taps 1 places of the student, 2 of the teacher'),
        (
            {'connector': 'deconvv'},
            "the connector of the term 'bev': unknown connector 'deconvv'; did you mean 'Deconv'",
        ),
        (
            {'region': dict(type='BEVFootprint', source='qt')},
            "the region of the term 'bev': BEVFootprint: source must be one of",
        ),
        (
            {'region': dict(type='GTHeatmap', min_overlap='x')},
            "the region of the term 'bev': GTHeatmap: min_overlap is 'x': it must be a finite number",
        ),
        ({'region': 'GTHeatmaps'}, "the region of the term 'bev': unknown region 'GTHeatmaps'; did you mean"),
        ({'tau': 1.0}, "the term 'bev': FeatureL2 takes no 'tau'"),
        ({'schedule': [(float('nan'), 1.0)]}, "the schedule of the term 'bev' must be"),
        ({'name': 3}, '3 cannot name a term'),
        ({'name': 'a.b'}, "'a.b' cannot name a term"),
        ({'name': 'keys'}, "'keys' cannot name a term"),
        ({'type': 'FeatureL1'}, "unknown distillation loss 'FeatureL1'; did you mean 'FeatureL2'"),
    ],
)
def test_mistakes_are_told_when_the_recipe_is_built(
    recipe: Recipe, term: dict[str, Any], message: str
) -> None:
    broken = {key: value for key, value in {**BEV_TERM, **term}.items() if value is not None}
    with pytest.raises(DistillError, match=message):
        build_distiller(recipe(terms=[broken]))


def test_doubled_name_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(DistillError, match="two terms are called 'bev'"):
        build_distiller(recipe(terms=[BEV_TERM, BEV_TERM]))


def test_region_for_a_loss_that_takes_none_is_an_error(recipe: Recipe) -> None:
    with pytest.raises(DistillError, match='ChannelWiseDivergence takes no region'):
        build_distiller(recipe(terms=[{**PV_TERM, 'region': 'GTHeatmap'}]))


@pytest.mark.parametrize(
    ('epoch', 'factor'), [(-1, 0.2), (0, 0.2), (1, 0.6), (2, 1.0), (5, 1.0), (6, 0.5), (7, 0.0), (99, 0.0)]
)
def test_schedule_is_piecewise_linear(epoch: float, factor: float) -> None:
    schedule = [(0, 0.2), (2, 1.0), (5, 1.0), (7, 0.0)]
    scheduled = Term(Tap('a'), Tap('a'), FeatureL2(), Identity(), weight=3.0, schedule=schedule)
    assert scheduled.weight_at(epoch) == pytest.approx(3 * factor)
    assert Term(Tap('a'), Tap('a'), FeatureL2(), Identity(), weight=3.0).weight_at(epoch) == 3.0


def test_a_loss_may_ask_for_the_whole_step(recipe: Recipe) -> None:
    """What terms on predictions and ground truth need; the loss owns a trainable part, which is saved."""

    class CountsBoxes(DistillLoss):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(channels))

        def forward(self, student: Tensor, teacher: Tensor, *, step: Step) -> Tensor:
            boxes = sum(len(item) for item in step.batch['gt_bboxes_3d'])
            assert step.predictions.shape == (2, 1, 16, 16)
            return boxes * (student.mean() ** 2 + self.scale.mean())

    LOSSES.register_module(module=CountsBoxes)
    try:
        distiller = build_distiller(recipe(terms=[dict(type='CountsBoxes', name='count', on='bev')]))
    finally:
        LOSSES.module_dict.pop('CountsBoxes')
    assert distiller.state_dict()['distill.count.loss.scale'].shape == (6,)
    batch = toy_batch(boxes=3)
    many = distiller.eval()(**batch)['loss_kd_count']
    few = distiller(**{**batch, 'gt_bboxes_3d': [boxes[:1] for boxes in batch['gt_bboxes_3d']]})[
        'loss_kd_count'
    ]
    assert many.item() == pytest.approx(3 * few.item(), rel=1e-5)


def test_a_loss_may_read_more_than_maps() -> None:
    """Dataclasses and lists of dicts arrive as they are, floats in fp32."""
    seen: list[Any] = []

    class Reads(DistillLoss):
        takes_connector = False

        def forward(self, student: Any, teacher: Any) -> Tensor:
            seen.extend([student, teacher])
            return student[0]['heatmap'].sum()

    leaf = torch.ones(2, dtype=torch.float16, requires_grad=True)
    heads = [{'heatmap': leaf * 1, 'index': torch.arange(3)}]
    term = Term(Tap('a'), Tap('a'), Reads(), Identity())
    assert term(Step({}, {'a': heads}, {'a': stop_gradient(heads)})).requires_grad
    student, teacher = seen
    assert (student[0]['heatmap'].dtype, student[0]['index'].dtype) == (torch.float32, torch.int64)
    assert not teacher[0]['heatmap'].requires_grad
    with pytest.raises(DistillError, match="FeatureL2 compares maps, but 'a' of the teacher gives a list"):
        Term(Tap('a'), Tap('a'), FeatureL2(), Identity())(Step({}, {'a': heads}, {'a': heads}))


def test_connector_for_a_loss_that_takes_none_is_an_error(recipe: Recipe) -> None:
    term = dict(type='LocalGraph', on='encoder', connector='conv1x1')
    with pytest.raises(DistillError, match="'local_graph': LocalGraph takes no connector"):
        build_distiller(recipe(terms=[term]))


def test_channels_of_both_sides_are_known_to_the_loss(recipe: Recipe) -> None:
    term = dict(type='LocalGraph', on=dict(student='backbone.0', teacher='backbone.0'), k=4, num_query=6)
    distiller = build_distiller(recipe(terms=[term]))
    loss = distiller.distill['local_graph'].loss
    assert (loss.student_adapter.linear.in_features, loss.teacher_adapter.linear.in_features) == (8, 12)
    assert distiller(**toy_batch())['loss_kd_local_graph'].item() > 0


def test_a_term_that_finds_nothing_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    term = Term(Tap('a'), Tap('a'), FeatureL2(), Identity(), name='bev')
    same = torch.ones(1, 2, 3, 3, requires_grad=True)
    other = Step({}, {'a': same}, {'a': same + 1})
    nothing = Step({}, {'a': same}, {'a': same.detach()})
    with caplog.at_level('WARNING', logger='focaldistiller'):
        for step in [other, *[nothing] * (ZERO_STEPS - 1)]:
            term(step)
        assert not caplog.records
        for _ in range(3 * ZERO_STEPS):
            term(nothing)
    assert [r.message.partition(':')[0] for r in caplog.records] == [
        f"the term 'bev' was exactly 0 in {ZERO_STEPS} steps in a row"
    ]
