"""FD3D on a shrunken DETR3D: what its queries look at, the whole step, and what does not apply is refused."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv import Config

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import Step
from tests.distill.bevformer_pair import CLASSES, paired_batch
from tests.factories import pint_detr3d, pint_detr3d_config

TERMS = dict(
    pv_generation=dict(
        type='MaskedGeneration',
        on='pv',
        connector='resize',
        region=dict(type='PVArea', source='both', min_score=0.0, top_k=5),
        residual=True,
    ),
    pv_focal=dict(type='FocalPositions', on='pv', connector='resize', min_score=0.0),
)
Build = Callable[..., Distiller]


def build_pair(folder: Path, **changes: Any) -> Distiller:
    """A teacher with random weights and a student that starts from its head; ``changes`` of the recipe."""
    torch.save({'state_dict': pint_detr3d(seed=3).state_dict()}, folder / 'teacher.pth')
    config = dict(model=pint_detr3d_config(), class_names=CLASSES)
    teacher = dict(config=config, checkpoint=str(folder / 'teacher.pth'))
    recipe = dict(
        type='Distiller',
        teacher=teacher,
        head=dict(init='teacher'),
        initialize=[dict(type='InheritHead')],
        terms=TERMS,
    )
    torch.manual_seed(0)
    distiller = build_distiller(Config(dict(config, distiller=recipe | changes)))
    distiller.init_weights()
    return distiller


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """A function that builds the pair."""
    return partial(build_pair, tmp_path)


def observe(distiller: Distiller, batch: dict) -> Step:
    """The step of a batch as far as the head needs it."""
    records, predictions, _ = distiller.teacher.observe(batch, distiller.taps('teacher'), torch.device('cpu'))
    return Step(batch, {}, records, predictions)


def test_full_step_teaches_and_inherits(build: Build) -> None:
    distiller = build(debug=True).train()
    head = distiller.teacher.model.pts_bbox_head.state_dict()
    assert all(torch.equal(head[k], v) for k, v in distiller.student.pts_bbox_head.state_dict().items())
    out = distiller.train_step(paired_batch([0, 1]), None)
    terms = {f'loss_kd_{name}_{level}' for name in TERMS for level in range(2)}
    assert terms <= set(out['log_vars'])
    assert all(np.isfinite(out['log_vars'][term]) and out['log_vars'][term] > 0 for term in terms)
    out['loss'].backward()
    silent = [name for name, p in distiller.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_reading_says_which_map_where_and_how_much(build: Build) -> None:
    """Sampling the teacher's levels there, summing by weight and projecting gives what a layer's attention returns."""
    distiller, batch = build(), paired_batch([0, 1])
    attention = distiller.teacher.model.pts_bbox_head.transformer.decoder.layers[1].attentions[1]
    seen = []
    handle = attention.output_proj.register_forward_hook(lambda *call: seen.append(call[-1]))
    step = observe(distiller, batch)
    handle.remove()
    found, _ = distiller.distill['head'](step)
    assert list(found.samplings) == [f'img_neck.fpn_convs.{i}.conv' for i in range(2)]
    total = 0
    for path, looks in found.samplings.items():
        assert looks.locations.shape == (2, 2, 20, 1, 6, 1, 2)
        where = looks.locations[1, :, :, 0, :, 0].transpose(1, 2).flatten(0, 1)[:, None]
        shown = F.grid_sample(step.teacher[path], where * 2 - 1, align_corners=False)[:, :, 0]
        shown = shown.unflatten(0, (2, 6)) * looks.weights[1, :, :, 0, :, 0].transpose(1, 2)[:, :, None]
        total = total + shown.sum(1).transpose(1, 2) @ looks.projections[1].t()
    assert total.abs().max() > 0
    torch.testing.assert_close(seen[0], total + attention.output_proj.bias, rtol=1e-4, atol=1e-5)


def test_equal_detectors_have_nothing_to_teach(build: Build) -> None:
    terms = {name: dict(term, **(dict(ratio=0.0) if 'gen' in name else {})) for name, term in TERMS.items()}
    distiller = build(terms=terms).eval()
    distiller.student.load_state_dict(distiller.teacher.model.state_dict())
    batch = paired_batch([0])
    batch |= {f'teacher_{key}': batch[key] for key in ('img', 'img_metas')}
    losses = distiller(**batch)
    focal = [value.item() for name, value in losses.items() if 'pv_focal' in name]
    assert focal == [0.0, 0.0]


def test_a_head_of_its_own_is_trained_on_image_features(build: Build) -> None:
    distiller = build(head=dict(init='scratch')).train()
    losses = distiller(**paired_batch([0]))
    assert {'loss_head_cls', 'loss_head_d0_bbox'} <= set(losses)
    sum(v for k, v in losses.items() if k.startswith('loss_head')).backward()
    assert distiller.distill['head'].decoder.query_embedding.weight.grad.any()
    assert all(p.grad is None for p in distiller.student.parameters())


def test_there_is_no_bev(build: Build) -> None:
    with pytest.raises(DistillError, match=r"no module 'bev'.*short names: .*pv, queries"):
        build(terms=[dict(type='FeatureL2', on='bev')])


def test_a_head_is_not_taken_over_into_another_range(tmp_path: Path) -> None:
    torch.save({'state_dict': pint_detr3d(seed=3).state_dict()}, tmp_path / 'teacher.pth')
    near = dict(model=pint_detr3d_config(pc_range=[-40.0, -40, -5, 40, 40, 3]), class_names=CLASSES)
    with pytest.raises(DistillError, match=r'places as parts of .*51\.2.* the teacher.s of .*-40'):
        build_pair(tmp_path, teacher=dict(config=near, checkpoint=str(tmp_path / 'teacher.pth')))


def test_full_size_recipe_and_twin_fit_together() -> None:
    for name in ('distiller/detr3d_r101_distill_r50_fd3d', 'synthetic/detr3d_distill_fd3d'):
        cfg = Config.fromfile(f'projects/configs/{name}.py')
        cfg.distiller.teacher |= dict(checkpoint=None, random_weights=True)
        with torch.device('meta'):
            assert build_model(cfg.model).pts_bbox_head.box_convention
        assert set(cfg.distiller.terms) == {'pv_generation', 'pv_focal'}
