"""Cost of the published LiDAR models, against the tables of PointDistiller and SparseKD."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.studies.complexity import main
from projects.mmdet3d_plugin.studies.lidar_complexity import (
    LayerTally,
    LidarCost,
    measure_lidar_complexity,
    read_points,
    street_scan,
)
from projects.mmdet3d_plugin.studies.op_counter import OpCounter

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


def cost_of(name: str) -> LidarCost:
    cfg = load_config(name)
    return measure_lidar_complexity(build_model(cfg.model), read_points(cfg, None)).total


@pytest.mark.parametrize('name', POINTDISTILLER)
def test_pillars_of_pointdistiller(name: str) -> None:
    flops, parameters = POINTDISTILLER[name]
    cost = cost_of(name)
    assert cost.mmcv_rule / 1e9 == pytest.approx(flops, rel=0.03)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.09)  # the table has one decimal
    assert cost.computed < cost.mmcv_rule


@pytest.mark.parametrize('name', SPARSEKD)
def test_pillars_of_sparsekd(name: str) -> None:
    flops, activations, parameters = SPARSEKD[name]
    cost = cost_of(name)
    assert cost.sparsekd_rule / 1e9 == pytest.approx(flops, rel=0.03)
    # pillar encoders return as much as there are pillars, and the paper's street is not ours
    assert cost.activations / 1e6 == pytest.approx(activations, rel=0.07)
    assert cost.parameters / 1e6 == pytest.approx(parameters, abs=0.05)


@pytest.mark.parametrize('name', SPARSE)
@pytest.mark.skipif(not HAS_SPCONV, reason='needs spconv (requirements/runtime.txt): run make setup')
def test_parameters_of_sparse_detectors(name: str) -> None:
    model = build_model(load_config(name).model)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(SPARSE[name], abs=0.06)


@pytest.mark.skipif(not HAS_SPCONV, reason='needs spconv (requirements/runtime.txt): run make setup')
def test_sparse_convolutions_are_counted_by_their_pairs() -> None:
    """Two voxels side by side under a 3x3x3 kernel: each meets itself and the other, four pairs."""
    from spconv.pytorch import SparseConvTensor, SubMConv3d

    layer = nn.Sequential(SubMConv3d(3, 5, 3, padding=1, bias=False))
    counter = OpCounter(layer)
    tally = LayerTally(layer, counter)
    coors = torch.tensor([[0, 2, 2, 2], [0, 2, 2, 3]], dtype=torch.int32)
    with counter.counting():
        layer[0](SparseConvTensor(torch.rand(2, 3), coors, [6, 6, 6], 1))
    assert counter.macs['other'].total() == 4 * 3 * 5
    assert tally.activations['other'] == 2 * 5


def test_a_transposed_convolution_costs_more_by_sparsekds_rule() -> None:
    layer = nn.Sequential(nn.ConvTranspose2d(3, 5, 2, stride=2, bias=False))
    counter = OpCounter(layer)
    tally = LayerTally(layer, counter)
    layer(torch.rand(2, 3, 4, 4))
    assert tally.surcharge['other'] == 2 * (64 - 16) * 3 * 5 * 4
    tally.remove()
    layer(torch.rand(2, 3, 4, 4))
    assert tally.activations['other'] == 2 * 5 * 64


def test_the_street_is_a_street() -> None:
    points = street_scan(5)
    assert points.shape[1] == 5
    assert len(points) > 100_000
    assert points[:, 2].min() > -2.5
    assert points[:, 1].abs().max() < 15.5
    assert points[:, :2].norm(dim=1).max() < 75


def test_a_cloud_is_read_as_the_config_reads_it(tmp_path: Path) -> None:
    cfg = load_config('centerpoint_pillar_waymo.py')
    np.arange(12, dtype=np.float32).tofile(tmp_path / 'a.bin')
    assert read_points(cfg, str(tmp_path / 'a.bin')).tolist() == [[0, 1, 2, 3, 4], [6, 7, 8, 9, 10]]
    np.arange(13, dtype=np.float32).tofile(tmp_path / 'a.bin')
    with pytest.raises(UserError, match=r'a.bin does not hold whole points \(6 32-bit'):
        read_points(cfg, str(tmp_path / 'a.bin'))


def test_the_command_line_counts_lidar_detectors_too(capsys: pytest.CaptureFixture) -> None:
    main(['pointpillars_kitti_16x.py', '--json'])
    content = json.loads(capsys.readouterr().out)
    assert content['total']['parameters'] == 308_680
    assert set(content['parts']) == {'voxel_encoder', 'backbone', 'neck', 'bbox_head'}
    main(['pointpillars_kitti_16x.py'])
    assert 'made-up street' in capsys.readouterr().out
