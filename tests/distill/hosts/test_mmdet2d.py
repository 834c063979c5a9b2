"""mmdet's 2D detectors as hosts: taps, areas, boxes, and a step with every kind of term."""

import copy

import pytest
import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.inherit_head import InheritHead
from projects.mmdet3d_plugin.distill.recipe import build_terms
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from tests.image_factories import detector_config, image_batch, make_detector
from tests.lidar_factories import pillar_config

KINDS = ('retinanet', 'gfl', 'fcos', 'faster_rcnn')
EVERY = pytest.mark.parametrize('kind', KINDS)
TERMS = dict(
    cwd=dict(type='ChannelWiseDivergence', on='pv', tau=1.0),
    pkd=dict(type='PearsonCorrelation', on='pv', over_batch=True),
    generation=dict(
        type='MaskedGeneration', on='pv', region=dict(type='BoxArea', source='both', min_score=0.0)
    ),
    foreground=dict(type='FeatureL2', on='pv', region=dict(type='BoxArea', balance=True, attention=0.5)),
    background=dict(type='FeatureL2', on='pv', region=dict(type='BoxArea', outside=True, attention=0.5)),
)


def distiller(kind: str, terms: dict | None = None) -> Distiller:
    teacher = FrozenTeacher.from_model(make_detector(kind, seed=1, base=16), ['a', 'b'])
    student = make_detector(kind)
    return Distiller(student, teacher, build_terms(TERMS if terms is None else terms, student, teacher))


@EVERY
def test_every_term_teaches(kind: str) -> None:
    model = distiller(kind).train()
    losses = model(**image_batch())
    names = [f'loss_kd_{name}_{level}' for name in TERMS for level in range(5)]
    assert set(names) <= set(losses)
    weights = list(model.student.backbone.parameters())
    for name in names:
        assert losses[name].isfinite()
        # the smallest maps have one cell, which is no distribution, and which a box may cover
        assert losses[name] > 0 or name[-1] > '1', name
    total = sum(losses[name] for name in names)
    assert sum(
        grad.abs().sum()
        for grad in torch.autograd.grad(total, weights, allow_unused=True)
        if grad is not None
    )


@pytest.mark.parametrize('kind', ['retinanet', 'faster_rcnn'])
def test_a_student_like_its_teacher_learns_nothing(kind: str) -> None:
    student = make_detector(kind).eval()
    teacher = FrozenTeacher.from_model(copy.deepcopy(student), ['a', 'b'])
    terms = {name: TERMS[name] for name in ('cwd', 'pkd', 'foreground', 'background')}
    model = Distiller(student, teacher, build_terms(terms, student, teacher)).eval()
    losses = model(**image_batch())
    assert all(abs(losses[f'loss_kd_{name}_{level}'].item()) < 1e-5 for name in terms for level in range(5))


@EVERY
def test_taps_say_what_they_give(kind: str) -> None:
    model, batch = make_detector(kind).eval(), image_batch()
    adapter = adapter_for(model)
    taps = [tap for group in adapter.aliases(model).values() for tap in group]
    prepared = adapter.prepare(model, {key: batch[key] for key in ('img', 'img_metas')})
    with torch.no_grad(), Recorder(model, taps) as recorder:
        adapter.infer(model, prepared)
    records = recorder.pop()
    for tap in taps:
        feature = tap.convert(records[tap.path])
        assert feature.shape[:2] == (2, tap.channels), tap
    assert 'batch_input_shape' not in batch['img_metas'][0]
    widths = [tap.convert(records[tap.path]).shape[-1] for tap in adapter.aliases(model)['pv']]
    assert widths == ([24, 12, 6, 3, 2] if kind == 'faster_rcnn' else [12, 6, 3, 2, 1])


@pytest.mark.parametrize('kind', [*KINDS, 'cascade_rcnn'])
def test_detect_equals_the_hosts_own_test(kind: str) -> None:
    model, batch = make_detector(kind).eval(), image_batch()
    adapter = adapter_for(model)
    prepared = adapter.prepare(model, {key: batch[key] for key in ('img', 'img_metas')})
    with torch.no_grad():
        found = adapter.detect(model, prepared)
        results = adapter.predict(model, prepared)
    assert len(found) == len(results) == 2
    for mine, by_class in zip(found, results, strict=True):
        assert len(mine.boxes) == sum(map(len, by_class)) > 0
        for label, own in enumerate(by_class):
            rows = torch.cat([mine.boxes, mine.scores[:, None]], 1)[mine.labels == label]
            torch.testing.assert_close(rows.sort(0).values, torch.as_tensor(own).sort(0).values)


def test_response_terms_compare_class_scores() -> None:
    terms = dict(cwd=dict(type='ChannelWiseDivergence', on='logits', tau=1.0))
    losses = distiller('gfl', terms)(**image_batch())
    assert all(losses[f'loss_kd_cwd_{level}'] >= 0 for level in range(5))
    assert losses['loss_kd_cwd_0'] > 0
    with pytest.raises(DistillError, match="no module 'logits'"):
        distiller('faster_rcnn', terms)


def test_the_head_is_inherited_and_the_students_keys_are_mmdets_own() -> None:
    model = distiller('retinanet')
    report = InheritHead()(model.student, model.adapter, model.teacher)
    assert not report.left
    saved = {
        key.removeprefix('student.'): value
        for key, value in model.state_dict().items()
        if 'distill' not in key
    }
    plain = build_model(Config(dict(model=detector_config('retinanet'))).model)
    plain.load_state_dict(saved)
    assert torch.equal(plain.bbox_head.retina_cls.weight, model.teacher.model.bbox_head.retina_cls.weight)


def test_levels_of_one_size_do_not_share_a_resized_feature() -> None:
    """P6 and P7 of a small image may be alike in size, and are tapped at one module."""
    terms = dict(l2=dict(type='FeatureL2', on='pv', connector='resize'))
    model = distiller('retinanet', terms).eval()
    batch = image_batch()
    batch['img'] = batch['img'][..., :32, :32]
    losses, step = model.run_models(batch)
    values = [model.distill[f'l2_{level}'](step) for level in range(5)]
    sizes = [model.distill[f'l2_{level}'].features(step)[1].shape[-1] for level in range(5)]
    assert sizes == [4, 2, 1, 1, 1]
    assert len({value.item() for value in values}) == 5
    assert losses


def test_boxes_in_space_are_refused_in_one_line() -> None:
    model = distiller('retinanet', dict(l2=dict(type='FeatureL2', on='pv', region=dict(type='PVArea'))))
    with pytest.raises(DistillError, match=r"'l2_0' needs 3D boxes.*'gt_bboxes_3d'.*BoxArea"):
        model(**image_batch())


def test_detectors_in_space_are_not_taken_for_flat_ones() -> None:
    """PartA2 of mmdet3d has a 2D detector among its bases."""
    base_3d, base_2d = type('Base3DDetector', (nn.Module,), {}), type('TwoStageDetector', (nn.Module,), {})
    with pytest.raises(DistillError, match='no adapter'):
        adapter_for(type('Other', (base_3d, base_2d), {})())
    assert adapter_for(build_model(Config(dict(model=pillar_config())).model)).cost_columns
