"""Pictures of a dataset's samples, with and without a detector."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmcv.parallel import DataContainer
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.geometry import transform_points
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import lidar_boxes
from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.engine.build import build_split
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.studies.pictures.visualize import (
    choose_samples,
    detect,
    heatmap_of,
    load_detector,
    main,
    read_scene,
)
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from tests.distill.test_bev_grid import LIDAR_TO_EGO, delta
from tests.distill.toy_host import ToyAdapter, ToyBEVHost

STUDENT = 'projects/configs/synthetic/bevformer_student.py'
PILLARS = 'projects/configs/synthetic/kitti_pointpillars_student_4x.py'
PC_RANGE = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student with initial weights."""
    model = build_model(load_config(STUDENT).model)
    path = tmp_path_factory.mktemp('weights') / 'student.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    return path


def test_true_boxes_are_drawn_without_a_detector(tiny_nuscenes: Path, tmp_path: Path) -> None:
    main([STUDENT, '--data-root', str(tiny_nuscenes), '--out', str(tmp_path), '--samples', '2'])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f'{index:05d}_{kind}.jpg' for index in (1, 3) for kind in ('bev', 'cameras', 'overview')
    ]


def test_detector_and_its_feature_are_drawn(tiny_nuscenes: Path, checkpoint: Path, tmp_path: Path) -> None:
    options = ['--split', 'train', '--index', '6', '--kinds', 'heatmap', 'overview', '--score-thr', '0']
    main([STUDENT, str(checkpoint), '--data-root', str(tiny_nuscenes), '--out', str(tmp_path), *options])
    for kind in ('heatmap', 'overview'):
        assert cv2.imread(str(tmp_path / f'00006_{kind}.jpg')).std() > 5


def test_heatmap_needs_a_detector(tiny_nuscenes: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match='give a checkpoint'):
        main([STUDENT, '--data-root', str(tiny_nuscenes), '--out', str(tmp_path), '--kinds', 'heatmap'])


def test_lidar_detector_is_drawn_from_above_only(
    synthetic_kitti: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    weights = tmp_path / 'pillars.pth'
    torch.save({'state_dict': build_model(load_config(PILLARS).model).state_dict(), 'meta': {}}, weights)
    command = [PILLARS, str(weights), '--data-root', str(synthetic_kitti), '--out', str(tmp_path / 'out')]
    main([*command, '--samples', '1'])
    paths = sorted((tmp_path / 'out').iterdir())
    assert [path.stem.split('_')[1] for path in paths] == ['bev', 'heatmap']
    assert all(cv2.imread(str(path)).std() > 5 for path in paths)
    assert '2 pictures' in capsys.readouterr().out
    with pytest.raises(SystemExit, match='needs cameras, which this dataset has not'):
        main([*command, '--samples', '1', '--kinds', 'overview'])


def test_scene_of_kitti_has_the_labels_of_its_classes(synthetic_kitti: Path) -> None:
    dataset = build_split(load_config(PILLARS, data_root=synthetic_kitti), 'val', test_mode=True)
    scene = read_scene(dataset, 0)
    low, high = np.array(dataset.pc_range).reshape(2, 3)[:, :2]
    labels = lidar_boxes(dataset.data_infos[0])
    wanted = labels[((labels[:, :2] > low) & (labels[:, :2] < high)).all(1)]
    np.testing.assert_allclose(np.sort(scene.truth.boxes[:, 0]), np.sort(wanted[:, 0]), rtol=1e-5)
    assert scene.truth.labels.min() >= 0
    assert scene.points.shape[1] == 4
    assert np.abs(scene.points[:, :2]).max() < 200
    assert (scene.cameras, scene.forward) == ({}, 0.0)


def test_detector_sees_the_frames_before(
    tiny_nuscenes: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = load_config(STUDENT, data_root=tiny_nuscenes)
    dataset, launch = build_split(cfg, 'val', test_mode=True), start('none', 'cpu')
    model = load_detector(cfg, str(checkpoint), None, launch)
    tokens, forward = [], type(model).forward_test

    def spy(self: object, img: torch.Tensor, img_metas: list, **extra: object) -> list:
        tokens.append(img_metas[0][-1]['sample_token'])
        return forward(self, img, img_metas, **extra)

    monkeypatch.setattr(type(model), 'forward_test', spy)
    boxes, bev, stages = detect(model, dataset, 2, launch)
    assert stages is None
    assert tokens == [info['token'] for info in dataset.infos[:3]]
    assert bev.shape[1:] == model.pts_bbox_head.bev_shape
    assert boxes.boxes.shape[1] == 9
    assert boxes.scores.min() >= 0


def test_projection_of_true_boxes_is_that_of_the_dataset(one_frame_root: Path) -> None:
    """On the real frame: the truck ahead on the left is in CAM_FRONT, at full resolution."""
    cfg = load_config(STUDENT, {'data.val.ann_file': 'nuscenes_infos_temporal_train.pkl'}, one_frame_root)
    dataset = build_split(cfg, 'val', test_mode=True)
    scene = read_scene(dataset, 0)
    image, lidar2img = scene.cameras['CAM_FRONT']
    assert image.shape == (900, 1600, 3)
    trucks = scene.truth.boxes[scene.truth.labels == 1]
    nearest = trucks[np.argmin(np.linalg.norm(trucks[:, :2], axis=1))]
    u_d, v_d, depth = transform_points(nearest[:3], lidar2img)
    # read off the picture
    assert depth == pytest.approx(14.4, abs=1)
    assert 50 < u_d / depth < 650
    assert 150 < v_d / depth < 700
    assert np.abs(scene.truth.boxes[:, :2]).max() < 51.2
    assert scene.points.shape[1] == 5


def test_samples_are_spread_evenly() -> None:
    class Sized(list):
        ann_file = 'infos.pkl'

    assert choose_samples(Sized(range(20)), 2) == [5, 15]
    assert choose_samples(Sized(range(2)), 5) == [0, 1]
    with pytest.raises(UserError, match=r'infos\.pkl has no samples'):
        choose_samples(Sized(), 2)


def test_heatmap_peaks_at_the_boxes() -> None:
    truth = BoxSet(np.array([[10.0, -20, 0, 4, 2, 2, 0, 0, 0]]), np.array([0]))
    heatmap = heatmap_of(truth, (64, 32), PC_RANGE)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert heatmap.shape == (64, 32)
    assert row == int((-20 + 51.2) / 102.4 * 64)
    assert column == int((10 + 51.2) / 102.4 * 32)


def test_a_dataset_that_does_not_say_what_to_draw_is_named() -> None:
    with pytest.raises(UserError, match=r'list has no get_frame\(index\), which says what there is to draw'):
        read_scene([], 0)


class ToyDetector(ToyBEVHost):
    """Finds nothing, but has a BEV map."""

    def forward(self, img: torch.Tensor, **_: Any) -> list[dict[str, Any]]:
        """Images (B, T, 3, S, S) -> one result without boxes."""
        self.look(img[:, -1])
        none = torch.zeros(0)
        boxes = LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9)
        return [dict(boxes_3d=boxes, scores_3d=none, labels_3d=none.long())]


def test_a_map_of_the_cars_frame_is_turned_under_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As published BEVDepth's is, while boxes are drawn in the LiDAR's frame."""
    grid, here = BEVGrid([-8, -8, -5, 8, 8, 3], 'ego'), np.array([1.5, -2.5, 0, 1])
    monkeypatch.setattr(ToyAdapter, 'aliases', lambda *_: {'bev': [Tap('encoder', grid=grid)]})
    model = ToyDetector(4, 16).eval()
    seen = delta(grid, 1, *(LIDAR_TO_EGO @ here)[:2])
    monkeypatch.setattr(model.encoder, 'forward', lambda x: seen)
    meta = DataContainer([dict(lidar2ego=LIDAR_TO_EGO)], cpu_only=True)
    frames = [dict(img=torch.zeros(1, 3, 16, 16), img_metas=meta)]
    _, bev, _ = detect(model, frames, 0, start('none', 'cpu'))
    row, column = divmod(int(bev[0].argmax()), 16)
    assert (column - 7.5, row - 7.5) == tuple(here[:2])
