"""Pictures and page of a recipe's samples, and the numbers in them."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.engine.build import build_split
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.studies.pictures.inspection import BEV, Comparison, Inspection
from projects.mmdet3d_plugin.studies.pictures.visualize_distill import (
    add_gap_table,
    gap_row,
    main,
    one_sample,
    without_chance,
)
from projects.mmdet3d_plugin.visualization.report import Report

FD3D = 'projects/configs/synthetic/distill_fd3d.py'
DETR3D = 'projects/configs/synthetic/detr3d_distill_fd3d.py'
HEATMAP = 'projects/configs/synthetic/distill_heatmap.py'
TEACHER = {'distiller.teacher.random_weights': True, 'distiller.teacher.checkpoint': None}
ONE_LEVEL = {'distiller.terms.pv_generation.on': 'img_neck.fpn_convs.1.conv'}
RANDOM_TEACHER = [f'{key}={value}' for key, value in TEACHER.items()]
# a teacher of random weights is sure of nothing; one level of image features is quicker than two
SHORT_FD3D = [
    *(f'{key}={value}' for key, value in ONE_LEVEL.items()),
    'distiller.terms.bev_focal.min_score=0.0',
    'distiller.terms.pv_generation.region.min_score=0.0',
]


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A distiller's checkpoint with initial weights, and the student alone."""
    folder = tmp_path_factory.mktemp('weights')
    state = build_distiller(load_config(FD3D, TEACHER | ONE_LEVEL)).state_dict()
    exported = {key: value for key, value in state.items() if not key.startswith('distill.')}
    for name, content in (('distiller', state), ('exported', exported)):
        torch.save({'state_dict': content, 'meta': {}}, folder / f'{name}.pth')
    return {path.stem: path for path in folder.iterdir()}


def run(recipe: str, checkpoint: Path, root: Path, out: Path, *options: str) -> dict[str, np.ndarray]:
    main([recipe, str(checkpoint), '--data-root', str(root), '--out', str(out), '--index', '2', *options])
    return {path.stem: cv2.imread(str(path)) for path in sorted(out.glob('*.jpg'))}


def test_all_pictures_of_an_fd3d_recipe(
    tiny_nuscenes: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    options = ['--cfg-options', *RANDOM_TEACHER, *SHORT_FD3D]
    pictures = run(FD3D, checkpoints['distiller'], tiny_nuscenes, tmp_path, *options)
    names = [
        'bev_focal', 'bev_generation', 'bev_generation_maps', 'positions', 'pv_generation', 'pv_generation_region', 'queries',
    ]  # fmt: skip
    assert list(pictures) == [f'00002_{name}' for name in names]
    assert all(picture.std() > 5 for picture in pictures.values())
    page = (tmp_path / 'index.html').read_text()
    assert page.count('<img ') == len(names)
    assert 'untrained' not in page


def test_pictures_of_a_recipe_without_bev(tiny_nuscenes: Path, tmp_path: Path) -> None:
    """Areas and positions of DETR3D's queries lie on the images."""
    level = {
        f'distiller.terms.{name}.on': 'img_neck.fpn_convs.1.conv' for name in ('pv_generation', 'pv_focal')
    }
    sure = {'distiller.terms.pv_focal.min_score': 0.0, 'distiller.terms.pv_generation.region.min_score': 0.0}
    cfg = load_config(DETR3D, TEACHER | level | sure)
    torch.save({'state_dict': build_distiller(cfg).state_dict(), 'meta': {}}, tmp_path / 'last.pth')
    options = ['--cfg-options', *(f'{key}={value}' for key, value in (TEACHER | level | sure).items())]
    pictures = run(DETR3D, tmp_path / 'last.pth', tiny_nuscenes, tmp_path / 'out', *options)
    names = ['pv_focal', 'pv_focal_region', 'pv_generation', 'pv_generation_region', 'queries']
    assert list(pictures) == [f'00002_{name}' for name in names]
    assert all(picture.std() > 5 for picture in pictures.values())


def test_what_is_untrained_in_an_exported_student_is_left_out(
    tiny_nuscenes: Path, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ['--cfg-options', *RANDOM_TEACHER]
    pictures = run(HEATMAP, checkpoints['exported'], tiny_nuscenes, tmp_path, *options)
    assert list(pictures) == ['00002_bev_l2', '00002_bev_l2_maps', '00002_pv_cwd_0', '00002_pv_cwd_1']
    assert 'untrained' in capsys.readouterr().out
    assert 'untrained' in (tmp_path / 'index.html').read_text()
    height, width = pictures['00002_bev_l2'].shape[:2]
    assert height > 1.5 * width  # one column: the teacher


@pytest.mark.parametrize(
    ('recipe', 'term', 'names'),
    [
        ('distill_pointdistiller_pillars', 'local', ['local']),
        ('distill_sparsekd', 'logit', ['logit']),
        ('self_all', 'sub_head', ['second_stage', 'sub_head']),
    ],
)
def test_lidar_recipe_shows_what_it_weighs(
    synthetic_kitti: Path, tmp_path: Path, recipe: str, term: str, names: list[str]
) -> None:
    config, frozen = f'projects/configs/synthetic/kitti_{recipe}.py', recipe != 'self_all'
    weights = build_distiller(load_config(config, TEACHER if frozen else None)).state_dict()
    torch.save({'state_dict': weights, 'meta': {}}, tmp_path / 'pair.pth')
    out, options = tmp_path / 'out', ['--cfg-options', *RANDOM_TEACHER] if frozen else []
    pictures = run(config, tmp_path / 'pair.pth', synthetic_kitti, out, *options)
    assert list(pictures) == [f'00002_{name}' for name in names]
    assert all(picture.std() > 5 for picture in pictures.values())
    assert f'<td>{term}</td><td>elsewhere</td><td>-</td>' in (out / 'index.html').read_text()


def test_samples_are_neither_jittered_nor_replaced(tiny_nuscenes: Path) -> None:
    recipe = load_config(HEATMAP, data_root=tiny_nuscenes)
    jitter = dict(type='PhotoMetricDistortionMultiView')
    recipe.data.train.pipeline = [*recipe.data.train.pipeline[:1], jitter, *recipe.data.train.pipeline[1:]]
    dataset = build_split(without_chance(recipe, 'val'), 'train', test_mode=False)
    assert len(dataset) == 4
    assert not dataset.filter_empty
    launch = start('none', 'cpu')
    first, again = (one_sample(dataset, 1, launch) for _ in range(2))
    assert first['img_metas'][0][-1]['sample_token'] == dataset.infos[1]['token']
    assert len(first['gt_bboxes_3d'][0]) > 0
    assert torch.equal(first['img'], again['img'])


def comparison(**changes: Any) -> Comparison:
    teacher = np.zeros((1, 2, 1, 4))
    region = np.array([[[1.0, 1.0, 0.0, 0.0]]])
    return Comparison(**{'name': 'term', 'place': BEV, 'teacher': teacher, 'region': region, **changes})


def test_row_holds_gaps_and_their_ratio() -> None:
    student = np.array([2.0, 2.0, 1.0, 1.0]) * np.ones((1, 2, 1, 1))
    row = gap_row(comparison(student=student, loss=4.0))
    np.testing.assert_allclose(row, [50, 4, 1, 4, np.nan, np.nan, np.nan, 2.5, 4])


def test_table_averages_over_samples_that_have_a_figure() -> None:
    empty = comparison(region=np.zeros((1, 1, 4)), loss=0.0, student=np.ones((1, 2, 1, 4)))
    full = comparison(student=np.full((1, 2, 1, 4), 3.0), loss=9.0)
    report = Report('t')
    add_gap_table(report, [Inspection([c], [0] * 6) for c in (empty, full)])
    page = report.html()
    assert '<td>25.0 %</td><td>9</td><td>5</td>' in page  # inside: one sample; outside: the mean of 1 and 9
    assert '<td>4.5</td></tr>' in page
