"""Every code block of CONTRIBUTING.md works as it stands."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.datasets import DATASETS
from mmdet.models import DETECTORS

from projects.mmdet3d_plugin.datasets.builder import build_dataloader
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_terms
from projects.mmdet3d_plugin.distill.registry import ADAPTERS, LOSSES, REGIONS
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher

DRAWERS = (LOSSES, REGIONS, ADAPTERS, DETECTORS, DATASETS)


@pytest.fixture(scope='module')
def page() -> dict[str, Any]:
    """The names of all files that the page writes; what they registered is forgotten afterwards."""
    before = [dict(drawer.module_dict) for drawer in DRAWERS]
    names: dict[str, Any] = {}
    modules = []
    for path, block in re.findall(
        r'```python\n# (\S+)\.py\n(.*?)```', Path('CONTRIBUTING.md').read_text(), re.DOTALL
    ):
        module = types.ModuleType(path.replace('/', '.'))
        sys.modules[module.__name__] = module
        modules.append(module.__name__)
        exec(block, module.__dict__)
        names |= vars(module)
    assert len(modules) == Path('CONTRIBUTING.md').read_text().count('```python') == 5
    yield names
    for name in modules:
        del sys.modules[name]
    for drawer, kept in zip(DRAWERS, before, strict=True):
        drawer.module_dict.clear()
        drawer.module_dict.update(kept)


def test_the_page_s_parts_distil_together(page: dict[str, Any]) -> None:
    loader = build_dataloader(
        page['BlankFrames'](4), samples_per_gpu=2, workers_per_gpu=0, train=True, seed=0, rank=0, world_size=1
    )
    batch = {key: value.data[0] for key, value in next(iter(loader)).items()}
    terms = [
        dict(type='CosineDistance', on='bev', weight=1.0),
        dict(type='FeatureL2', on='bev', region=dict(type='NearField', metres=20), weight=1.0),
    ]
    student, teacher = page['Gist'](), FrozenTeacher.from_model(page['Gist']())
    distiller = Distiller(student, teacher, build_terms(terms, student, teacher))
    out = distiller.train_step(batch)
    assert {'loss_score', 'loss_kd_cosine_distance', 'loss_kd_feature_l2'} <= set(out['log_vars'])
    out['loss'].backward()
    assert distiller.student.backbone.weight.grad.abs().sum() > 0


def test_the_host_trains_and_answers_alone(page: dict[str, Any]) -> None:
    metas = [dict(pc_range=[0] * 6)] * 2
    batch = dict(img=torch.randn(2, 1, 6, 3, 8, 8), img_metas=metas, gt_labels_3d=[torch.zeros(1)] * 2)
    host = page['Gist']()
    host.train_step(batch, None)['loss'].backward()
    assert host.head.weight.grad.abs().sum() > 0
    assert len(host(**batch, return_loss=False)) == 2


def test_the_region_is_a_disc(page: dict[str, Any]) -> None:
    from projects.mmdet3d_plugin.distill.step import Step

    step = Step(dict(img_metas=[dict(pc_range=[-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])]), {}, {})
    weights = page['NearField'](20.0)(step, torch.zeros(1, 4, 200, 200))
    assert weights.shape == (1, 1, 200, 200)
    assert weights.sum().item() * 0.512**2 == pytest.approx(torch.pi * 20**2, rel=0.01)


def test_the_loss_is_zero_between_equals(page: dict[str, Any]) -> None:
    feature = torch.randn(2, 8, 5, 5, requires_grad=True)
    assert page['CosineDistance']()(feature, feature.detach()).abs() < 1e-6
    assert page['CosineDistance']()(feature[:0], feature[:0].detach()) == 0
