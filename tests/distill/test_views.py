"""The teacher's view of a batch and of a pipeline."""

import copy
from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.views import add_teacher_view, split_views, with_teacher_view

STUDENT = [
    dict(type='LoadMultiViewImages'),
    dict(type='PhotoMetricDistortionMultiView'),
    dict(type='ImageView', scale=0.5, mean=[1, 2, 3], pad_divisor=32),
    dict(type='FormatFrame'),
]
TEACHER = [
    dict(type='LoadMultiViewImages'),
    dict(type='ImageView', scale=1.0, mean=[4, 5, 6], to_rgb=True, pad_divisor=64),
    dict(type='FormatFrame'),
]


def test_batch_is_parted() -> None:
    batch = dict(img=1, img_metas=2, gt_labels_3d=3, teacher_img=4, teacher_img_metas=5)
    student, teacher = split_views(batch, 'native')
    assert student == dict(img=1, img_metas=2, gt_labels_3d=3)
    assert teacher == dict(img=4, img_metas=5, gt_labels_3d=3)
    assert split_views(batch, 'same')[1] == student


def test_batch_without_view_is_an_error_unless_same_is_meant() -> None:
    student, teacher = split_views(dict(img=1), 'same')
    assert student == teacher == dict(img=1)
    with pytest.raises(DistillError, match="'native' but the batch has no 'teacher_img'"):
        split_views(dict(img=1), 'native')


def test_native_view_is_the_teachers_own_and_shares_the_jitter() -> None:
    before = copy.deepcopy((STUDENT, TEACHER))
    pipeline = add_teacher_view(STUDENT, TEACHER)
    assert [step['type'] for step in pipeline] == [
        'LoadMultiViewImages', 'PhotoMetricDistortionMultiView', 'ImageView', 'ImageView', 'FormatFrame',
    ]  # fmt: skip
    assert pipeline[2] == STUDENT[2]
    assert pipeline[3] == {**TEACHER[1], 'name': 'teacher'}
    assert before == (STUDENT, TEACHER)


def test_upsampled_view_knows_its_factor() -> None:
    view = add_teacher_view(STUDENT, TEACHER, 'upsampled')[3]
    assert view == dict(type='UpsampledView', name='teacher', factor=2.0, pad_divisor=64)
    small, large = [dict(type='ImageView', size=(400, 225))], [dict(type='ImageView', size=(800, 450))]
    assert add_teacher_view(small, large, 'upsampled')[1]['factor'] == 2.0
    assert add_teacher_view(STUDENT, TEACHER, 'same') == STUDENT


@pytest.mark.parametrize(
    ('student', 'teacher', 'message'),
    [
        ([], TEACHER, "the student's pipeline has 0 main ImageView steps"),
        (STUDENT, [*TEACHER, dict(type='ImageView')], "the teacher's pipeline has 2 main ImageView steps"),
        ([dict(type='ImageView', size=(2, 2))], [dict(type='ImageView', size=(4, 6))], 'has two'),
        ([dict(type='ImageView', size=(2, 2))], [dict(type='ImageView', scale=1.0)], "both 'size'"),
    ],
)
def test_mistakes_are_clear(student: list, teacher: list, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        add_teacher_view(student, teacher, 'upsampled')


def test_unknown_view_is_clear() -> None:
    with pytest.raises(DistillError, match='must be one of'):
        add_teacher_view(STUDENT, TEACHER, 'big')


@pytest.mark.parametrize('wrapped', [False, True])
def test_recipe_gets_the_view_of_its_teachers_config(wrapped: bool) -> None:
    train: dict[str, Any] = dict(type='D', pipeline=STUDENT)
    train = dict(type='RepeatDataset', dataset=train) if wrapped else train
    cfg = Config(dict(data=dict(train=train), distiller=dict(teacher=dict(view='native'))))
    seen = with_teacher_view(cfg, Config(dict(data=dict(test=dict(pipeline=TEACHER)))))
    inner = seen.data.train.dataset if wrapped else seen.data.train
    assert inner.pipeline[3]['name'] == 'teacher'
    own = cfg.data.train.dataset if wrapped else cfg.data.train
    assert len(own.pipeline) == len(STUDENT), "the caller's config must stay as it was"


@pytest.mark.parametrize('kind', ['list', 'ConcatDataset'])
def test_every_part_of_a_joined_training_set_gets_the_view(kind: str) -> None:
    parts = [
        dict(type='D', pipeline=STUDENT),
        dict(type='RepeatDataset', dataset=dict(type='D', pipeline=STUDENT)),
    ]
    train: Any = parts if kind == 'list' else dict(type='ConcatDataset', datasets=parts)
    cfg = Config(dict(data=dict(train=train), distiller=dict(teacher=dict(view='native'))))
    seen = with_teacher_view(cfg, Config(dict(data=dict(test=dict(pipeline=TEACHER)))))
    inner = list(innermost_datasets(seen.data.train))
    assert [part['pipeline'][3]['name'] for part in inner] == ['teacher', 'teacher']


@pytest.mark.parametrize('mode', ['native', 'upsampled'])
def test_the_real_transforms_make_both_views(mode: str) -> None:
    """Same decoded image, two sizes, each with matrices of its own that agree on where a point is."""
    transforms = pytest.importorskip(
        'projects.mmdet3d_plugin.datasets.transforms', reason='no datasets room yet'
    )
    import numpy as np
    from mmdet.datasets.builder import PIPELINES

    assert transforms is not None
    steps = add_teacher_view(STUDENT, TEACHER, mode)[2:4]
    intrinsic = np.array([[100.0, 0, 64], [0, 100.0, 32], [0, 0, 1]])
    results: dict[str, Any] = dict(
        images=[np.random.default_rng(0).random((64, 128, 3), dtype=np.float32)],
        cam_intrinsic=[intrinsic],
        cam2lidar=np.eye(4)[None],
    )
    for step in steps:
        results = PIPELINES.build(step)(results)
    views = results['views']
    assert set(views) == {'', 'teacher'}
    point = torch.tensor([0.3, 0.2, 5.0, 1.0], dtype=torch.float64)
    pixel = {name: torch.as_tensor(view['lidar2img'][0]) @ point for name, view in views.items()}
    torch.testing.assert_close(pixel['teacher'][:2], 2 * pixel[''][:2], rtol=1e-6, atol=1e-6)


def test_data_without_a_pipeline_have_one_view() -> None:
    """A dataset of somebody's own may make its frames itself."""
    bare = dict(data=dict(train=dict(type='BlankFrames'), test=dict(type='BlankFrames')))
    cfg = Config(dict(bare, distiller=dict(teacher=dict())))
    with pytest.raises(DistillError, match=r"data \(BlankFrames\) have no pipeline .*; set view='same'"):
        with_teacher_view(cfg, Config(bare))
    cfg.distiller.teacher.view = 'same'
    assert with_teacher_view(cfg, Config(bare)) is cfg


def test_teacher_without_data_is_clear() -> None:
    cfg = Config(dict(data=dict(train=dict(pipeline=STUDENT)), distiller=dict(teacher=dict(view='native'))))
    with pytest.raises(DistillError, match="teacher's config has no 'data'"):
        with_teacher_view(cfg, Config(dict(model=dict())))
