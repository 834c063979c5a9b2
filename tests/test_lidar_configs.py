"""LiDAR configs fit together: model, classes, ranges and grids."""

from pathlib import Path

import pytest
from mmcv import Config
from mmdet3d.datasets.pipelines import Compose

from projects.mmdet3d_plugin.common.config import CONFIG_ROOT, innermost_datasets, load_config

FILES = sorted(
    path
    for pattern in ('lidar/*', 'synthetic/kitti_*', 'synthetic/centerpoint_*', 'synthetic/lidarformer_*')
    for path in CONFIG_ROOT.glob(f'{pattern}.py')
)
VOXELS = [path for path in FILES if not any(name in path.name for name in ('point_rcnn', 'ia_ssd'))]


def part(cfg: Config, name: str) -> dict:
    """A module's config, whatever the host calls it."""
    return cfg.model.get(name) or cfg.model[f'pts_{name}']


@pytest.mark.parametrize('path', VOXELS, ids=lambda path: path.stem)
def test_every_part_of_a_voxel_detector_has_one_grid(path: Path) -> None:
    cfg = load_config(path)
    layer, encoder = part(cfg, 'voxel_layer'), part(cfg, 'voxel_encoder')
    low, high = layer.point_cloud_range[:3], layer.point_cloud_range[3:]
    cells = [(b - a) / size for a, b, size in zip(low, high, layer.voxel_size, strict=True)]
    assert cells == pytest.approx([round(n) for n in cells], abs=1e-4)
    x, y, z = (round(n) for n in cells)
    middle = part(cfg, 'middle_encoder')
    if 'sparse_shape' in middle:
        assert middle.sparse_shape == [z + 1, y, x]
    else:
        assert list(middle.output_shape) == [y, x]
        assert encoder.voxel_size == layer.voxel_size
        assert encoder.point_cloud_range == layer.point_cloud_range
    steps = next(innermost_datasets(cfg.data.train)).pipeline
    kept = next(step for step in steps if step['type'] == 'PointsRangeFilter')['point_cloud_range']
    assert all(a <= b for a, b in zip(kept[:3], low, strict=True)), 'points of the grid are cut off'
    assert all(a >= b for a, b in zip(kept[3:], high, strict=True)), 'points of the grid are cut off'
    widths = part(cfg, 'backbone').out_channels
    assert part(cfg, 'neck').in_channels == widths
    _check_head(cfg, part(cfg, 'bbox_head'), layer)


def _check_head(cfg: Config, head: dict, layer: dict) -> None:
    """The head decodes into the range and the cells that voxels have."""
    if head.type == 'BEVDecoderHead':
        assert head.pc_range == layer.point_cloud_range
        assert head.num_classes == len(cfg.class_names)
        return
    if head.type != 'CenterPointHead':
        assert all(box[:2] == layer.point_cloud_range[:2] for box in head.anchor_generator.ranges)
        assert head.num_classes == len(cfg.class_names)
        return
    assert [name for task in head.tasks for name in task['class_names']] == list(cfg.class_names)
    for settings in (head.bbox_coder, cfg.model.train_cfg.pts, cfg.model.test_cfg.pts):
        assert settings.voxel_size == layer.voxel_size
    assert head.bbox_coder.pc_range == cfg.model.test_cfg.pts.pc_range == layer.point_cloud_range[:2]
    assert cfg.model.train_cfg.pts.point_cloud_range == layer.point_cloud_range


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_pipelines_and_classes_fit(path: Path) -> None:
    cfg = load_config(path)
    dataset = next(innermost_datasets(cfg.data.train))
    assert list(dataset.classes) == list(cfg.class_names)
    # what pastes objects reads its database when it is built
    steps = [step for step in dataset.pipeline if step['type'] != 'ObjectSample']
    Compose(steps)
    for split in ('val', 'test'):
        if split in cfg.data:
            assert cfg.data[split].test_mode
            Compose(cfg.data[split].pipeline)
