"""Frames without data: black images of a rig and a made-up street."""

from pathlib import Path

import numpy as np
import pytest

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.blank_batch import blank_cloud, blank_images, street_scan


@pytest.mark.parametrize('num_cams', [1, 4, 7])
def test_a_rig_has_as_many_cameras_as_asked(num_cams: int) -> None:
    cfg = load_config('bevformer_small.py', {'data.test.pipeline.1.scale': 0.1})
    batch = blank_images(cfg, num_cams)
    assert batch['img'].shape == (1, 1, num_cams, 3, 96, 160)
    assert not batch['img'].isnan().any()
    meta = batch['img_metas'][0][0]
    assert meta['lidar2img'].shape == (num_cams, 4, 4)
    assert len(meta['img_shape']) == num_cams


def test_config_without_its_own_view_is_named() -> None:
    cfg = load_config('bevformer_small.py')
    cfg.data.test.pipeline = []
    with pytest.raises(UserError, match=r'bevformer_small\.py must have one ImageView'):
        blank_images(cfg)


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
    assert blank_cloud(cfg, str(tmp_path / 'a.bin'))['points'][0].tolist() == [
        [0, 1, 2, 3, 4],
        [6, 7, 8, 9, 10],
    ]
    np.arange(13, dtype=np.float32).tofile(tmp_path / 'a.bin')
    with pytest.raises(UserError, match=r'a.bin does not hold whole points \(6 32-bit'):
        blank_cloud(cfg, str(tmp_path / 'a.bin'))
    with pytest.raises(FileNotFoundError, match=r'b\.bin'):
        blank_cloud(cfg, str(tmp_path / 'b.bin'))
