"""The camera recipes build as they stand, with the taps and shapes of the paper's pair; their scaled-down twins learn."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from mmcv import Config
from mmcv.cnn.utils import weight_init
from torch import nn
from torch.nn import init

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller, build_terms
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from projects.mmdet3d_plugin.distill.views import named_teachers, with_teacher_view
from projects.mmdet3d_plugin.hosts.detr import detr_head
from tests.distill.bevformer_pair import paired_batch

VIEWS = ('ImageView', 'UpsampledView')
RECIPES = sorted(Path('projects/configs/distiller').glob('*.py'))
LIDAR = [
    path for path in RECIPES if path.stem.startswith(('centerpoint', 'lidarformer', 'two_stage', 'base_and'))
]
FD3D = [path for path in RECIPES if 'small_fd3d' in path.stem and 'centerpoint' not in path.stem]
WORLD = Path('projects/configs/synthetic')
FREE = ('background', 'training', 'name')
DRAWS = ('kaiming_uniform_', 'kaiming_normal_', 'xavier_uniform_', 'uniform_', 'normal_')


def untrained(path: Path) -> tuple[Config, Distiller]:
    """A recipe and its distiller, without trained weights."""
    cfg = load_config(str(path))
    cfg.distiller.teacher.pop('checkpoint')
    cfg.distiller.teacher.random_weights = True
    return cfg, build_distiller(cfg)


@contextmanager
def undrawn() -> Iterator[None]:
    """Weights that nobody looks at are neither drawn nor, as mmcv does it for its log, averaged."""

    def left(weight: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return weight

    with (
        mock.patch.multiple(init, **dict.fromkeys(DRAWS, left)),
        mock.patch.object(torch.Tensor, 'uniform_', left),  # of deformable convolutions
        mock.patch.object(weight_init, 'update_init_info'),
    ):
        yield


@cache
def build(path: Path) -> tuple[Config, Distiller]:
    """The same for the full size, whose weights nobody looks at: they take neither the time nor the memory."""
    with undrawn():
        cfg, distiller = untrained(path)
    for weight in (*distiller.parameters(), *distiller.teacher.model.parameters()):
        weight.data = weight.new_zeros(()).expand_as(weight)
    return cfg, distiller


def settings(part: object) -> dict[str, object]:
    """The plain values that a loss or a region was built with, but what image size decides."""
    plain = {key: value for key, value in vars(part).items() if isinstance(value, str | int | float | None)}
    return {key: value for key, value in plain.items() if key not in FREE and key[0] != '_'}


def parts(distiller: Distiller) -> dict[str, tuple]:
    """What each term is made of, by name without the level."""
    return {
        re.sub(r'(?<=pv_generation)_\d$', '', name): (
            type(term.loss),
            settings(term.loss),
            len(term.loss.consumers),
            type(term.region),
            None if term.region is None else settings(getattr(term.region, 'instances', term.region)),
        )
        for name, term in distiller.terms.items()
    }


@pytest.mark.parametrize('path', [p for p in RECIPES if p not in LIDAR], ids=lambda path: path.stem)
def test_recipe_builds_and_gets_its_teachers_view(path: Path) -> None:
    cfg, distiller = build(path)
    assert distiller.distill
    assert distiller.teacher.classes == list(cfg.class_names)
    cfg = with_teacher_view(cfg, distiller.teacher.cfg)
    views = [step.get('name', '') for step in cfg.data.train.pipeline if step['type'] in VIEWS]
    assert views == ([''] if distiller.teacher.view == 'same' else ['', 'teacher'])


@cache
def student_of(path: str) -> nn.Module:
    """The full-size student of recipes that inherit a config, built once for all of them."""
    return build_model(load_config(path).model)


@cache
def teacher_of(path: str) -> FrozenTeacher:
    return FrozenTeacher(path, random_weights=True, view='native')


@pytest.mark.parametrize('path', LIDAR, ids=lambda path: path.stem)
def test_recipe_with_a_lidar_teacher_builds_and_gets_every_teachers_view(path: Path) -> None:
    cfg = load_config(str(path))
    base = {'small': 'bevformer_small', 'bevdepth': 'bevdepth_r50_256x704', 'detr3d': 'detr3d_r50'}
    base = next(f'{file}.py' for name, file in base.items() if name in path.stem)
    assert load_config(base).model == cfg.model
    configs = {name: one['config'] for name, one in named_teachers(cfg.distiller.teacher).items()}
    with undrawn():
        teachers = {name: teacher_of(config) for name, config in configs.items() if 'lidar/' in config}
        terms = {
            name: term
            for name, term in cfg.distiller.terms.items()
            if set(configs) == {''} or term.get('teacher') in teachers
        }
        assert build_terms(terms, student_of(base), teachers).keys() == terms.keys()
    steps = with_teacher_view(cfg, {name: load_config(config) for name, config in configs.items()})
    made = {step['name']: step['type'] for step in steps.data.train.pipeline if step.get('name')}
    expected = {
        '': {'teacher': 'PointsView'},
        'lidar': {'teacher_camera': 'ImageView', 'teacher_lidar': 'PointsView'},
    }
    assert made == ({} if cfg.distiller.teacher.get('view') == 'same' else expected[next(iter(teachers))])


def test_heatmap_recipe_has_the_published_terms() -> None:
    _, distiller = build(Path('projects/configs/distiller/base_distill_small_with_pv-cwd_bev-l2-heatmap.py'))
    assert list(distiller.distill) == [*(f'pv_cwd_{i}' for i in range(4)), 'bev_l2']
    paths = [term.student.path for term in distiller.distill.values()]
    assert paths[:4] == [f'img_neck.fpn_convs.{i}.conv' for i in range(4)]
    bev = distiller.distill['bev_l2']
    assert (bev.student.size, bev.teacher.size) == ((100, 100), (200, 200))
    kinds = [type(layer).__name__ for layer in bev.connector.layers]
    assert kinds == ['ConvTranspose2d', 'BatchNorm2d', 'ReLU', 'Conv2d']
    assert (distiller.distill['pv_cwd_0'].weight, distiller.distill['pv_cwd_0'].loss.tau) == (0.25, 2.0)


def test_legacy_twin_differs_by_the_published_switches_alone() -> None:
    _, distiller = build(
        Path('projects/configs/distiller/base_distill_small_with_pv-cwd_bev-l2-heatmap_legacy.py')
    )
    assert all(term.loss.legacy for term in distiller.distill.values())
    bev = distiller.distill['bev_l2']
    assert bev.region.legacy
    assert (bev.weight, bev.region.min_overlap) == (0.1, 0.1)
    assert distiller.teacher.view == 'upsampled'


@pytest.mark.parametrize('path', FD3D, ids=lambda path: path.stem)
def test_every_fd3d_row_teaches_as_its_pint_sized_twin_does(path: Path) -> None:
    """Weights, connectors and numbers of levels may differ, the method may not."""
    row = path.stem.partition('fd3d')[2]
    file = 'cross_near_distill_lidarformer_fd3d' if 'lidarformer' in path.stem else f'distill_fd3d{row}'
    twin, full = untrained(WORLD / f'{file}.py')[1], build(path)[1]
    assert parts(twin) == parts(full)
    assert twin.distill['head'].init == full.distill['head'].init


def test_ablation_rows_differ_from_the_recipe_where_their_names_say() -> None:
    def terms(row: str) -> list[str]:
        return list(build(Path(f'projects/configs/distiller/base_distill_small_fd3d{row}.py'))[1].terms)

    levels = [f'pv_generation_{i}' for i in range(4)]
    assert terms('') == [*levels, 'bev_generation', 'bev_focal']
    assert terms('_pv') == levels
    assert terms('_bev') == ['bev_generation']
    assert terms('_focal') == ['bev_focal']
    assert terms('_heatmap') == [*levels, 'bev_generation', 'bev_focal', 'bev_l2']
    _, drawn = build(Path('projects/configs/distiller/base_distill_small_fd3d_generated.py'))
    assert drawn.distill['bev_generation'].loss.consumers == (drawn.distill['bev_focal'].loss,)
    assert drawn.distill['pv_generation_0'].loss.consumers == ()


@pytest.mark.parametrize('name', ['distill_fd3d_heatmap', 'distill_fd3d_generated', 'detr3d_distill_fd3d'])
def test_every_term_of_a_pint_sized_twin_teaches_the_student(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A fresh teacher is sure of nothing, and then there are no queries to look at.
    monkeypatch.setattr(detr_head, 'bias_init_with_prob', lambda _: 0.0)
    torch.manual_seed(0)
    _, distiller = untrained(WORLD / f'{name}.py')
    distiller.init_weights()
    losses = distiller.train()(**paired_batch([0, 1]))
    weights = [p for p in distiller.student.parameters() if p.requires_grad]
    for term in distiller.terms:
        loss = losses[f'loss_kd_{term}']
        assert loss.isfinite()
        assert loss > 0, term
        grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        size = sum(grad.abs().sum() for grad in grads if grad is not None)
        assert 0 < size < float('inf'), term
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    assert not [key for key, p in distiller.named_parameters() if p.requires_grad and p.grad is None]
