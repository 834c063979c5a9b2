"""The full-size recipes build as they stand, with the taps and shapes that the paper's pair has."""

from functools import cache
from pathlib import Path

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.views import with_teacher_view

VIEWS = ('ImageView', 'UpsampledView')
RECIPES = sorted(Path('projects/configs/distiller').glob('*.py'))


@cache
def build(path: Path) -> tuple[Config, Distiller]:
    """A recipe and its distiller, without the published weights."""
    cfg = load_config(str(path))
    cfg.distiller.teacher.pop('checkpoint')
    cfg.distiller.teacher.random_weights = True
    return cfg, build_distiller(cfg)


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_and_gets_its_teachers_view(path: Path) -> None:
    cfg, distiller = build(path)
    assert distiller.distill
    assert distiller.teacher.classes == list(cfg.class_names)
    cfg = with_teacher_view(cfg, distiller.teacher.cfg)
    views = [step.get('name', '') for step in cfg.data.train.pipeline if step['type'] in VIEWS]
    assert views == ['', 'teacher']


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


FD3D = [path for path in RECIPES if 'fd3d' in path.stem]


def test_fd3d_has_the_papers_parts() -> None:
    _, distiller = build(Path('projects/configs/distiller/base_distill_small_fd3d.py'))
    assert list(distiller.terms) == [*(f'pv_generation_{i}' for i in range(4)), 'bev_generation', 'bev_focal']
    assert distiller.distill['head'].init == 'teacher'
    assert all(
        distiller.distill[name].region.instances.source == 'both' for name in list(distiller.terms)[:5]
    )


@pytest.mark.parametrize('path', FD3D, ids=lambda path: path.stem)
def test_every_fd3d_row_has_a_pint_sized_twin_of_the_same_terms(path: Path) -> None:
    """Weights, also that of the background, and connectors may differ, the method may not."""
    row = path.stem.partition('fd3d')[2]
    twin = load_config(f'projects/configs/synthetic/distill_fd3d{row}.py').distiller
    full = build(path)[0].distiller
    assert twin.get('head') == full.get('head')
    assert twin.terms.keys() == full.terms.keys()
    free = ('weight', 'connector', 'background')
    for name, term in full.terms.items():
        ours = {key: value for key, value in term.items() if key not in free}
        assert ours == {key: value for key, value in twin.terms[name].items() if key not in free}, name
        assert (term.weight == 0) == (twin.terms[name].weight == 0)


def test_ablation_rows_differ_from_the_recipe_where_their_names_say() -> None:
    def terms(row: str) -> list[str]:
        return list(build(Path(f'projects/configs/distiller/base_distill_small_fd3d_{row}.py'))[1].terms)

    levels = [f'pv_generation_{i}' for i in range(4)]
    assert terms('pv') == levels
    assert terms('bev') == ['bev_generation']
    assert terms('focal') == ['bev_focal']
    _, drawn = build(Path('projects/configs/distiller/base_distill_small_fd3d_generated.py'))
    assert drawn.distill['bev_generation'].loss.consumers == (drawn.distill['bev_focal'].loss,)
    assert drawn.distill['pv_generation_0'].loss.consumers == ()
    assert terms('heatmap') == [*levels, 'bev_generation', 'bev_focal', 'bev_l2']


@pytest.mark.parametrize('row', ['heatmap', 'inherit', 'fd3d', 'fd3d_gate'])
def test_the_pair_for_near_objects_is_taught_by_the_same_terms(row: str) -> None:
    near = build(Path(f'projects/configs/synthetic/distill_near_{row}.py'))[1]
    pint = build(Path(f'projects/configs/synthetic/distill_{row}.py'))[1]
    assert list(near.terms) == list(pint.terms)
    assert (near.student.pts_bbox_head.bev_shape, near.teacher.model.pts_bbox_head.bev_shape) == (
        (20, 20),
        (40, 40),
    )
    assert near.student.dense_head is None
    assert near.student.pts_bbox_head.pc_range == near.teacher.model.pts_bbox_head.pc_range
