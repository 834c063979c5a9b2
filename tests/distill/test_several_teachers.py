"""A recipe with several teachers by name."""

from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import TARGETS, DistillError
from projects.mmdet3d_plugin.distill.views import named_teachers, seen_by, with_teacher_view
from tests.distill.conftest import BEV_TERM
from tests.distill.toy_host import CLASSES, ToyAdapter, ToyBEVHost, toy_batch


def one(channels: int, bev_size: int, **more: Any) -> dict[str, Any]:
    """A toy teacher with random weights."""
    config = dict(model=dict(type='ToyBEVHost', channels=channels, bev_size=bev_size), class_names=CLASSES)
    return dict(config=config, random_weights=True, view='same') | more


def pair(terms: Any = (), **changes: Any) -> Config:
    """A recipe with a big and a small teacher."""
    teacher = dict(big=one(6, 16), small=one(5, 4))
    distiller = dict(type='Distiller', teacher=teacher, terms=list(terms)) | changes
    return Config(dict(model=dict(type='ToyBEVHost'), class_names=CLASSES, distiller=distiller))


TWO_TERMS = (BEV_TERM, BEV_TERM | dict(name='other', teacher='small', connector='resize_conv'))


@pytest.fixture
def both() -> Distiller:
    """One term under each teacher; the first takes the first."""
    torch.manual_seed(0)
    distiller = build_distiller(pair(TWO_TERMS))
    for number, teacher in enumerate(distiller.teachers.values()):
        torch.manual_seed(number)
        for parameter in teacher.model.parameters():
            parameter.copy_(torch.rand_like(parameter))
        teacher._loaded = {}
        teacher._guard_every = 0
    return distiller


def alone(distiller: Distiller, term: str) -> torch.Tensor:
    """The loss of a term of a distiller that has but its own teacher."""
    part = distiller.terms[term]
    part.taught_by = ''
    teacher = distiller.teachers['small' if term == 'other' else 'big']
    single = Distiller(distiller.student, teacher, {term: part})
    torch.manual_seed(3)
    return single(**toy_batch())[f'loss_kd_{term}']


def test_terms_take_the_word_of_the_teacher_they_name(both: Distiller) -> None:
    assert {name: term.taught_by for name, term in both.terms.items()} == {'bev': 'big', 'other': 'small'}
    torch.manual_seed(3)
    losses = both(**toy_batch())
    assert losses['loss_kd_bev'] != losses['loss_kd_other']
    for term in ('bev', 'other'):
        assert torch.equal(losses[f'loss_kd_{term}'], alone(both, term)), term


def test_teachers_share_no_features_though_their_modules_are_called_alike(both: Distiller) -> None:
    _, step = both.run_models(toy_batch())
    shapes = {name: one.teacher['encoder'].shape[1:] for name, one in step.by_teacher.items()}
    assert shapes == {'big': (6, 16, 16), 'small': (5, 4, 4)}
    assert step.seen_by('big').generated is step.seen_by('small').generated


def test_nobody_runs_a_teacher_who_is_not_asked(both: Distiller) -> None:
    del both.distill['other']
    both.teachers['small'].observe = None  # would fail when called
    assert 'loss_kd_bev' in both(**toy_batch())


def test_checkpoints_name_all_teachers_and_hold_none(both: Distiller) -> None:
    assert list(both.meta()['teacher']) == ['big', 'small']
    assert set(both.meta()['teacher']['big']) == {'type', 'checkpoint', 'sha256', 'view'}
    assert not [key for key in both.state_dict() if 'big' in key or 'small' in key]


def test_targets_and_initializers_name_their_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def detect(self: ToyAdapter, model: ToyBEVHost, batch: Any, predictions: Any = None) -> list[Detections]:
        asked.append(model.channels)
        return [None] * len(batch['img'])

    monkeypatch.setattr(ToyAdapter, 'detect', detect, raising=False)

    @TARGETS.register_module(force=True)
    class Listen:
        """Changes nothing."""

        def __call__(self, batch: Any, detections: Any) -> Any:
            return batch

    initialize = [dict(type='InheritHead', resize=True, exclude=['out'], teacher='small')]
    distiller = build_distiller(pair(targets=[dict(type='Listen', teacher='small')], initialize=initialize))
    distiller(**toy_batch())
    assert asked == [5]
    assert [name for name, _ in distiller.initializers] == ['small']
    TARGETS.module_dict.pop('Listen')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(terms=[BEV_TERM | dict(teacher='lidar')]), "the term 'bev' names the teacher 'lidar'"),
        (dict(teacher={'a_b': one(4, 8)}), 'cannot name a teacher; use letters and digits'),
        (dict(teacher=one(4, 8), terms=[BEV_TERM | dict(teacher='x')]), 'one teacher without a name'),
        (dict(teacher=dict(big=dict(config=1))), r"'distiller.teacher.big'"),
    ],
)
def test_mistakes_are_clear(changes: dict[str, Any], message: str) -> None:
    cfg = pair()
    cfg.distiller.update(dict.fromkeys(changes))
    for key, value in changes.items():
        cfg.distiller[key] = value
    with pytest.raises(DistillError, match=message):
        build_distiller(cfg)


def test_focal_terms_need_the_teacher_whose_queries_look(both: Distiller) -> None:
    term = both.terms['other']
    term.loss.needs_queries = True
    with pytest.raises(DistillError, match="features of the teacher 'small' where the queries of 'big' look"):
        Distiller(both.student, both.teachers, {'other': term}, head=torch.nn.Identity(), head_teacher='big')


def test_every_teacher_gets_its_own_view() -> None:
    view = dict(type='ImageView', scale=0.5)
    points = [
        dict(type='LoadPoints'),
        dict(type='LoadSweeps'),
        dict(type='PointsRangeFilter'),
        dict(type='Collect3D'),
    ]
    camera, lidar = (
        [dict(type='ImageView', scale=1.0)],
        [dict(type='MultiScaleFlipAug3D', transforms=points)],
    )
    teachers = dict(camera=dict(config='c'), lidar=dict(config='l'), other=dict(config='o', view='same'))
    cfg = Config(dict(data=dict(train=dict(type='D', pipeline=[view])), distiller=dict(teacher=teachers)))
    configs = {
        name: Config(dict(data=dict(test=dict(type='D', pipeline=pipeline))))
        for name, pipeline in dict(camera=camera, lidar=lidar).items()
    }
    steps = with_teacher_view(cfg, configs).data.train.pipeline
    made = {step['name']: step for step in steps if step.get('name')}
    assert {name: step['type'] for name, step in made.items()} == {
        'teacher_camera': 'ImageView',
        'teacher_lidar': 'PointsView',
    }
    assert [step['type'] for step in made['teacher_lidar']['transforms']] == [
        'LoadPoints', 'LoadSweeps', 'PointsRangeFilter',
    ]  # fmt: skip
    batch = dict(img=0, teacher_camera_img=1, teacher_lidar_points=2)
    assert seen_by(batch, 'camera') == dict(img=0, teacher_img=1)
    assert seen_by(batch, 'lidar') == dict(img=0, teacher_points=2)
    cfg.distiller.teacher.lidar.view = 'upsampled'
    with pytest.raises(DistillError, match="its view is 'native', not 'upsampled'"):
        with_teacher_view(cfg, configs)


def test_one_teacher_stays_without_a_name() -> None:
    assert list(named_teachers(one(4, 8))) == ['']
    assert list(named_teachers(dict(type='SomeTeacher'))) == ['']


def test_a_student_may_learn_from_a_frozen_one_its_average_and_itself() -> None:
    """One line of a config each; what the average owns is saved under its name."""
    teacher = dict(big=one(6, 16), mean=dict(type='EMATeacher', momentum=0.5), own=dict(type='SelfTeacher'))
    hint = dict(student='backbone.0', teacher='bev')
    terms = [
        BEV_TERM | dict(connector='resize_conv'),
        dict(type='FeatureL2', name='mean', on='bev', teacher='mean'),
        dict(type='FeatureL2', name='hint', on=hint, teacher='own', connector='resize_conv'),
    ]
    distiller = build_distiller(pair(terms, teacher=teacher, debug=True)).train()
    losses = distiller(**toy_batch())
    assert {'loss_kd_bev', 'loss_kd_mean', 'loss_kd_hint'} < set(losses)
    assert any(name.startswith('distill.teacher_mean.model.') for name in distiller.state_dict())
    distiller.after_update()
    assert distiller.distill['teacher_mean'].updates == 2
