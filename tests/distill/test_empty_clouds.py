"""Clouds without a point in range under every distillation term: finite losses with a live graph, no crash."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from tests.hosts.lidar.test_empty_clouds import BATCHES
from tests.hosts.lidar.test_voxel_detectors import HAS_SPCONV
from tests.lidar_factories import (
    RANGE,
    centerpoint_config,
    emptied,
    fresh,
    lidar_batch,
    mvx_config,
    pillar_config,
    second_config,
)

CLASSES = ['Pedestrian', 'Cyclist', 'Car']
HOSTS: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any], int]] = {
    'PointPillars': (pillar_config, {}, 7),
    'PointPillars with FPN': (mvx_config, {}, 7),
    'SECOND': (second_config, {}, 7),
    'CenterPoint-pillar': (centerpoint_config, {}, 9),
    'CenterPoint-voxel': (centerpoint_config, dict(sparse=True), 9),
}
LOCAL = dict(type='LocalGraph', num_query=50, k=4, width=4)
TERMS = {
    'LocalGraph on voxels': dict(terms=[dict(LOCAL, on='voxels')]),
    'LocalGraph on a map': dict(terms=[dict(LOCAL, on='bev')]),
    'FeatureL2': dict(terms=[dict(type='FeatureL2', on='bev', region=dict(type='GTHeatmap'))]),
    'PivotalLogit': dict(terms=[dict(type='PivotalLogit', on='heads', min_radius=1)]),
    'CenterRegression': dict(terms=[dict(type='CenterRegression', on='heads')]),
    'TeacherLabels': dict(
        terms=[dict(type='FeatureL2', on='bev')], targets=[dict(type='TeacherLabels', score_thr=0.0)]
    ),
    'TGI': dict(terms=[dict(type='FeatureL2', on='bev')], initialize=[dict(type='TeacherGuidedInit')]),
}
# Voxel encoders of sparse hosts take means and have nothing to learn; only centre heads have heatmaps.
SPARSE, CENTRES = ('SECOND', 'CenterPoint-voxel'), ('CenterPoint-pillar', 'CenterPoint-voxel')
CASES = [
    (host, term)
    for host in HOSTS
    for term in TERMS
    if not (term == 'LocalGraph on voxels' and host in SPARSE)
    and not (term in ('PivotalLogit', 'CenterRegression') and host not in CENTRES)
]


@pytest.fixture(scope='module')
def distiller(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Distiller]:
    """A function that makes the distiller of a host and a term; teachers are written once."""
    folder = tmp_path_factory.mktemp('teachers')

    def make(host: str, term: str) -> Distiller:
        factory, settings, _ = HOSTS[host]
        cfg, path = fresh(factory(**settings)), Path(folder) / f'{host}.pth'
        if not path.exists():
            torch.manual_seed(1)
            torch.save(
                {'state_dict': build_model(Config(dict(model=fresh(cfg))).model).state_dict(), 'meta': {}},
                path,
            )
        teacher = dict(config=dict(model=fresh(cfg), class_names=CLASSES), checkpoint=str(path), view='same')
        recipe = dict(type='Distiller', teacher=teacher, **fresh(TERMS[term]))
        torch.manual_seed(0)
        return build_distiller(Config(dict(model=cfg, class_names=CLASSES, distiller=recipe))).train()

    return make


@pytest.mark.parametrize(('host', 'term'), CASES)
def test_every_batch_trains(host: str, term: str, distiller: Callable[[str, str], Distiller]) -> None:
    if not HAS_SPCONV and host in SPARSE:
        pytest.skip('needs spconv (requirements/runtime.txt): run make setup')
    model = distiller(host, term)
    for size, empty in BATCHES.values():
        batch = emptied(lidar_batch(list(range(size)), HOSTS[host][2]), empty, outside=True)
        for meta in batch['img_metas']:
            meta['pc_range'] = RANGE
        model.zero_grad()
        outputs = model.train_step(batch)
        outputs['loss'].backward()
        distilled = [value for name, value in outputs['log_vars'].items() if name.startswith('loss_kd')]
        assert len(distilled) > 0
        assert torch.tensor(distilled).isfinite().all()
        trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        assert [name for name, weight in trained if weight.grad is None] == []
        assert all(weight.grad.isfinite().all() for _, weight in trained)
    assert all(value.isfinite().all() for value in model.state_dict().values())
