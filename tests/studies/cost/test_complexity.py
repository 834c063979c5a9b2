"""Cost of the published models, against the tables of BEVFormer, PointDistiller and SparseKD."""

import functools
import importlib.util
import json
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.studies.cost.complexity import (
    Complexity,
    main,
    measure_complexity,
    measure_forward,
)

CONFIGS = Path('projects/configs/bevformer')
# GFLOPs by mmcv's rule and millions of parameters, PointDistiller's table
POINTDISTILLER = {
    'pointpillars_kitti.py': (34.3, 4.8),
    'pointpillars_kitti_4x.py': (9.0, 1.3),
    'pointpillars_kitti_16x.py': (2.5, 0.3),
}
# GFLOPs by SparseKD's rule, millions of activations and of parameters
SPARSEKD = {
    'centerpoint_pillar_waymo.py': (333.9, 303.0, 5.2),
    'centerpoint_pillar_v04_waymo.py': (212.9, 197.7, 5.2),
    'centerpoint_pillar_v048_waymo.py': (149.4, 142.3, 5.2),
    'centerpoint_pillar_v064_waymo.py': (85.1, 88.0, 5.2),
}
# GFLOPs by mmcv's rule and millions of trainable parameters of mmdet's detectors for an image of 1280x800
MMDET = {'retinanet_r50.py': (239.32, 37.74), 'faster_rcnn_r50.py': (207.07, 41.53)}
# millions of parameters
SPARSE = {
    'second_kitti.py': 5.3,
    'second_kitti_4x.py': 1.4,
    'second_kitti_16x.py': 0.4,
    'centerpoint_voxel_waymo.py': 7.8,
    'centerpoint_voxel_s_waymo.py': 4.0,
    'centerpoint_voxel_xs_waymo.py': 2.8,
    'centerpoint_voxel_xxs_waymo.py': 1.0,
}
HAS_SPCONV = importlib.util.find_spec('spconv') is not None


@functools.cache
def cost_of(name: str) -> Complexity:
    cfg = load_config(name)
    model = build_model(cfg.model)
    return measure_complexity(model, adapter_for(model).blank_batch(cfg))


@pytest.mark.parametrize(
    ('name', 'shape', 'published', 'trainable', 'total'),
    [
        ('bevformer_base.py', (928, 1600), 1323.41, 68.71, 69.03),
        ('bevformer_small.py', (464, 800), 416.46, 58.81, 58.92),
        ('detr3d_r101.py', (928, 1600), 1016.83, 53.34, 53.67),
        ('detr3d_r50.py', (928, 1600), 876.94, 32.59, 32.87),
        ('bevdepth_r50_256x704.py', (256, 704), 240.21, 75.74, 75.75),
        pytest.param(
            'bevdepth_r50_256x704_2key.py', (256, 704), 443.80, 76.38, 76.38, marks=pytest.mark.slow
        ),
        pytest.param(
            'bevdepth_r50_256x704_2key_da.py', (256, 704), 662.56, 76.61, 76.62, marks=pytest.mark.slow
        ),
    ],
)
def test_published_figures(name: str, shape: tuple, published: float, trainable: float, total: float) -> None:
    cost = cost_of(name)
    assert cost.inputs == {'images': 12 if '2key' in name else 6, 'image_shape': shape}
    assert cost.total.published / 1e9 == pytest.approx(published, rel=0.005)
    if not name.startswith('bevformer'):  # whose padded rows of attention depend on the rig
        assert round(cost.total.published / 1e9, 2) == published
    assert cost.total.trainable / 1e6 == pytest.approx(trainable, abs=0.006)
    assert cost.total.parameters / 1e6 == pytest.approx(total, abs=0.006)


def test_computed_contains_what_the_published_rule_leaves_out() -> None:
    cost = cost_of('bevformer_small.py')
    assert cost.operations['deformable convolution'] / 1e9 == pytest.approx(133.95, rel=1e-4)
    assert cost.operations['deformable attention'] > 0
    assert cost.total.computed == sum(cost.operations.values())
    assert cost.total.computed == sum(part.computed for part in cost.parts.values())
    assert set(cost.parts) == {'backbone', 'neck', 'encoder', 'decoder', 'head'}
    assert cost.peak_bytes > 4 * cost.total.parameters


def small_model_options() -> dict:
    """A model small enough to be run for real."""
    return {
        'model.img_backbone.depth': 18,
        'model.img_backbone.stage_with_dcn': (False, False, False, False),
        'model.img_backbone.style': 'pytorch',
        'model.img_neck.in_channels': [64, 128, 256, 512],
        'model.pts_bbox_head.bev_h': 20,
        'model.pts_bbox_head.bev_w': 20,
        'model.pts_bbox_head.num_query': 50,
        'data.test.pipeline.1.scale': 0.05,
    }


def test_real_forward_gives_the_memory_it_needs() -> None:
    cfg = load_config(CONFIGS / 'bevformer_small.py', small_model_options())
    model = build_model(cfg.model)
    batch = adapter_for(model).blank_batch(cfg)
    assert batch['img'].shape[-3:] == (3, 48, 80)
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert measure_forward(model, batch, 'cpu') >= weights


def test_command_line_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = [f'{key}={value}'.replace(' ', '') for key, value in small_model_options().items()]
    main(
        [
            str(CONFIGS / 'bevformer_small.py'),
            '--json',
            str(tmp_path / 'cost.json'),
            '--cfg-options',
            *options,
        ]
    )
    content = json.loads((tmp_path / 'cost.json').read_text())
    assert content['config'] == 'bevformer_small.py'
    assert content['total']['published'] > 0
    assert content['measured_peak_bytes'] is None
    said = capsys.readouterr().out
    assert 'peak memory' in said
    assert 'backbone' in said


def test_what_a_backbone_remembers_is_counted_as_computed(tmp_path: Path) -> None:
    kept, out = tmp_path / 'kept', tmp_path / 'cost.json'
    config = 'projects/configs/synthetic/bevformer_near_teacher.py'
    main([config, '--json', str(out), '--cfg-options', f'model.img_backbone.cache_dir={kept}'])
    assert json.loads(out.read_text())['parts']['backbone']['computed'] > 1e8
    assert not kept.exists()


@pytest.mark.parametrize('name', POINTDISTILLER)
def test_pillars_of_pointdistiller(name: str) -> None:
    flops, parameters = POINTDISTILLER[name]
    cost = cost_of(name).total
    assert cost.published / 1e9 == pytest.approx(flops, rel=0.03)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.09)  # the table has one decimal
    assert cost.computed < cost.published


@pytest.mark.parametrize('name', SPARSEKD)
def test_pillars_of_sparsekd(name: str) -> None:
    flops, activations, parameters = SPARSEKD[name]
    cost = cost_of(name).total
    assert cost.sparsekd / 1e9 == pytest.approx(flops, rel=0.03)
    # pillar encoders return as much as there are pillars, and the paper's street is not ours
    assert cost.activations / 1e6 == pytest.approx(activations, rel=0.07)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.05)


@pytest.mark.parametrize('name', SPARSE)
@pytest.mark.skipif(not HAS_SPCONV, reason='needs spconv (requirements/runtime.txt): run make setup')
def test_parameters_of_sparse_detectors(name: str) -> None:
    model = build_model(load_config(name).model)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(SPARSE[name], abs=0.06)


def test_the_command_line_counts_lidar_detectors_too(capsys: pytest.CaptureFixture) -> None:
    main(['pointpillars_kitti_16x.py', '--json'])
    content = json.loads(capsys.readouterr().out)
    assert content['total']['parameters'] == 308_680
    assert content['points'] > 100_000
    assert set(content['parts']) == {'voxel_encoder', 'backbone', 'neck', 'bbox_head'}
    main(['pointpillars_kitti_16x.py'])
    assert 'made-up street' in capsys.readouterr().out


@pytest.mark.parametrize('name', MMDET)
def test_flat_detectors_cost_what_mmdet_counts(name: str) -> None:
    cfg = load_config(f'projects/configs/coco/{name}')
    model = build_model(cfg.model)
    adapter = adapter_for(model)
    result = measure_complexity(model, adapter.blank_batch(cfg))
    assert result.inputs['image_shape'] == (800, 1280)
    assert result.total.published / 1e9 == pytest.approx(MMDET[name][0], abs=0.005)
    assert result.total.trainable / 1e6 == pytest.approx(MMDET[name][1], abs=0.005)
    assert 'other' not in result.parts
