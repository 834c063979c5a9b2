"""Cars with other cameras than nuScenes': one to seven, of any name and size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.parallel import collate
from mmdet.datasets import RepeatDataset

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import create_nuscenes_infos
from projects.mmdet3d_plugin.datasets.info_files import load_infos, save_infos
from projects.mmdet3d_plugin.engine.build import require_cameras
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.camera_view import camera_rows, draw_cameras
from projects.mmdet3d_plugin.visualization.overview import draw_overview
from tests.datasets.test_nuscenes_temporal_dataset import make
from tests.factories import pint_bevformer, pint_bevformer_config
from tests.nuscenes_tables import SIX, write_nuscenes

RIGS = {
    1: {'front': (64, 36)},
    4: dict.fromkeys(('north', 'east', 'south', 'west'), (48, 48)),
    5: {'cam_c': (64, 36), 'cam_a': (96, 54), 'cam_b': (48, 64), 'cam_e': (64, 36), 'cam_d': (64, 36)},
    7: {**SIX, 'CAM_TELE': (128, 72)},
}


@pytest.mark.parametrize('count', RIGS)
def test_it_is_converted_trained_tested_and_drawn(tmp_path: Path, count: int) -> None:
    rig = RIGS[count]
    write_nuscenes(tmp_path, 'v1.0-trainval', {'scene-0001': 3, 'scene-0003': 2}, rig)
    create_nuscenes_infos(tmp_path, 'v1.0-trainval', progress=False)
    train, val = make(tmp_path), make(tmp_path, 'val')
    assert set(train.cameras) == set(rig)
    assert train.cameras == val.cameras == (*(n for n in SIX if n in rig), *sorted(set(rig) - set(SIX)))
    model = pint_bevformer()
    if count != 6:
        with pytest.raises(
            ValueError, match=rf'the data have {count} cameras .* set num_cams={count} in its Perception'
        ):
            require_cameras(model, RepeatDataset(train, 2))
    model = make_model(count)
    require_cameras(model, train)
    batch = collate([train[2]], samples_per_gpu=1)
    img, metas = batch['img'].data[0], batch['img_metas'].data[0]
    assert img.shape[2] == count
    losses = model.forward_train(img, metas, batch['gt_bboxes_3d'].data[0], batch['gt_labels_3d'].data[0])
    assert all(torch.isfinite(value) for value in losses.values())
    sizes = [rig[name] for name in val.cameras]
    meta = collate([val[1]], samples_per_gpu=1)['img_metas'].data[0][0][0]
    assert meta['cam_names'] == list(val.cameras)
    assert [(w, h) for h, w, _ in meta['valid_shape']] == [(w // 2, h // 2) for w, h in sizes]
    assert np.allclose(
        meta['cam_intrinsic'][:, :2, 2], [((w / 2 - 1) / 2, (h / 2 - 1) / 2) for w, h in sizes]
    )
    found = model.forward_test(collate([val[1]], samples_per_gpu=1)['img'].data[0], [[meta]])
    assert len(found) == 1
    images = {
        n: (np.zeros((h, w, 3), np.uint8), meta['lidar2img'][i])
        for i, (n, (w, h)) in enumerate(zip(val.cameras, sizes, strict=True))
    }
    truth = BoxSet(np.array([[10.0, 5, 0, 4, 2, 2, 0]]), np.zeros(1, dtype=int))
    for figure in (
        draw_cameras(images, ['car'], truth=truth, width=400),
        draw_overview(images, ['car'], truth=truth, width=500),
    ):
        assert len(figure.axes) >= count


def make_model(count: int) -> torch.nn.Module:
    """The scaled-down BEVFormer for a number of cameras."""
    from mmdet.models import DETECTORS

    config = pint_bevformer_config()
    config['pts_bbox_head']['transformer']['num_cams'] = count
    model = DETECTORS.build(config)
    model.init_weights()
    return model.eval()


def test_rows_of_pictures() -> None:
    assert camera_rows(list(SIX))[0] == ('CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT')
    assert [len(row) for row in camera_rows('abcdefg')] == [4, 3]
    assert camera_rows(['a']) == (('a',),)


def test_samples_with_other_cameras_than_the_rest_are_named(tiny_nuscenes: Path, tmp_path: Path) -> None:
    content = load_infos(tiny_nuscenes / 'nuscenes_infos_temporal_train.pkl', 'v1.0')
    del content['infos'][3]['cams']['CAM_BACK']
    save_infos(content, tmp_path / 'a.pkl')
    with pytest.raises(
        ValueError, match='sample scene-0001-3 has no camera CAM_BACK, which other samples have'
    ):
        load_infos(tmp_path / 'a.pkl', 'v1.0')


def test_published_weights_may_be_told_the_real_part_four_times() -> None:
    """The originals assign a quaternion object to four numbers, which makes each of them its real part."""
    state = torch.arange(18.0)[None]
    assert pint_bevformer().pts_bbox_head.transformer._ego_state(state)[0, 3:7].tolist() == [3, 4, 5, 6]
    config = pint_bevformer_config()
    config['pts_bbox_head']['transformer']['legacy'] = ['can_bus']
    from mmdet.models import DETECTORS

    told = DETECTORS.build(config).pts_bbox_head.transformer._ego_state(state)[0]
    assert told.tolist() == [0, 1, 2, 3, 3, 3, 3, *range(7, 18)]


@pytest.mark.parametrize('name', ['bevformer_base', 'bevformer_small', 'bevformer_tiny'])
def test_official_configs_see_what_published_weights_saw(name: str) -> None:
    cfg = load_config(f'{name}.py')
    assert {'shift', 'nearest', 'can_bus'} <= set(cfg.model.pts_bbox_head.transformer.legacy)
    for split in ('train', 'val', 'test'):
        assert cfg.data[split].pipeline[0].to_float32 is True
    ours = load_config('bevformer_student.py')
    assert ours.data.train.pipeline[0].to_float32 is False
    assert 'can_bus' not in ours.model.pts_bbox_head.transformer.get('legacy', ())
