"""Five real frames, four of them full scans, from the files to pictures, as a person would use the command lines."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.mmdet3d_plugin.datasets.converters.create_data import main as create_data
from projects.mmdet3d_plugin.engine import test, train
from projects.mmdet3d_plugin.studies.pictures import visualize

CONFIG = 'projects/configs/synthetic/kitti_pointpillars_student_4x.py'
FRAMES = ('000000', '000001', '000002', '000003', '000008')


def _matrix(calib: str, name: str, shape: tuple[int, int]) -> np.ndarray:
    row = next(line for line in calib.splitlines() if line.startswith(name))
    return np.array(row.split()[1:], np.float64).reshape(shape)


def _by_hand(root: Path, frame: str) -> tuple[int, dict[tuple[str, int], int]]:
    """Points in the image, and per object (class, row) the points in its box, in the coordinates of the camera."""
    calib = (root / f'training/calib/{frame}.txt').read_text()
    projection, turn, mount = (
        _matrix(calib, *row) for row in (('P2', (3, 4)), ('R0_rect', (3, 3)), ('Tr_velo', (3, 4)))
    )
    scan = np.fromfile(root / f'training/velodyne/{frame}.bin', np.float32).reshape(-1, 4)[:, :3]
    camera = (np.c_[scan, np.ones(len(scan))] @ mount.T) @ turn.T
    u, v, w = (np.c_[camera, np.ones(len(camera))] @ projection.T).T
    width, height = Image.open(root / f'training/image_2/{frame}.png').size
    seen = (w > 0) & (u / w >= 0) & (u / w < width) & (v / w >= 0) & (v / w < height)
    counts = {}
    for row, line in enumerate((root / f'training/label_2/{frame}.txt').read_text().splitlines()):
        name, *numbers = line.split()
        h, wide, long, x, y, z, yaw = map(float, numbers[7:14])
        if name == 'DontCare':
            continue
        dx, dy, dz = (camera[seen] - [x, y, z]).T
        along, across = np.cos(yaw) * dx - np.sin(yaw) * dz, np.sin(yaw) * dx + np.cos(yaw) * dz
        inside = (abs(along) <= long / 2) & (abs(across) <= wide / 2) & (dy <= 0) & (dy >= -h)
        counts[name, row] = int(inside.sum())
    return int(seen.sum()), counts


def test_the_whole_path(kitti_five_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = kitti_five_frames
    assert create_data(['kitti', '--root-path', str(root), '--workers', '1']) == 0
    said = capsys.readouterr().out
    assert 'training: 5 frames; objects: DontCare 10, Car 9, Pedestrian 1, Truck 1, Cyclist 1, Misc 1' in said

    infos = pickle.loads((root / 'kitti_infos_trainval.pkl').read_bytes())
    assert [f'{info["image"]["image_idx"]:06d}' for info in infos] == list(FRAMES)
    for frame, info in zip(FRAMES, infos, strict=True):
        seen, counts = _by_hand(root, frame)
        reduced = root / f'training/velodyne_reduced/{frame}.bin'
        assert abs(reduced.stat().st_size // 16 - seen) <= 1  # at the image's border, rounding decides
        assert len(counts) == sum(info['annos']['name'] != 'DontCare')
        for (name, row), count in counts.items():
            assert info['annos']['name'][row] == name
            # boxes stand upright in the LiDAR's frame, which is tilted by a degree: the ground counts differently
            assert abs(info['annos']['num_points_in_gt'][row] - count) <= 2 + 0.08 * count
    assert infos[0]['annos']['num_points_in_gt'].tolist() == [377]  # as mmdet3d counts them
    assert infos[4]['annos']['num_points_in_gt'].tolist()[:6] == [1325, 1900, 881, 659, 55, 162]
    objects = pickle.loads((root / 'kitti_dbinfos_train.pkl').read_bytes())
    assert {name: len(items) for name, items in objects.items()} == dict(
        Pedestrian=1, Truck=1, Car=2, Cyclist=1, Misc=1
    )

    work, data = str(tmp_path / 'run'), ['--data-root', str(root), '--device', 'cpu', '--threads', '1']
    train.main([CONFIG, *data, '--work-dir', work, '--no-validate', '--cfg-options', 'runner.max_epochs=1'])
    checkpoint = f'{work}/epoch_1.pth'
    loose = ['--cfg-options', 'model.test_cfg.score_thr=0.0', 'model.test_cfg.max_num=5']
    test.main([CONFIG, checkpoint, '--eval', 'bbox', *data, '--out-dir', str(tmp_path / 'eval'), *loose])

    def refuse(constant: str) -> None:
        raise AssertionError(f'{constant} is no JSON')

    metrics = json.loads((tmp_path / 'eval/metrics.json').read_text(), parse_constant=refuse)
    assert 0 <= metrics['mAP_3d_R40_moderate'] <= 1
    assert not [key for key in metrics if 'Cyclist' in key or 'Pedestrian' in key]  # of frames 3 and 8
    assert sorted(path.stem for path in (tmp_path / 'eval/kitti_results').iterdir()) == ['000003', '000008']
    test.main([CONFIG, checkpoint, '--format-only', *data, '--out-dir', str(tmp_path / 'server'), *loose])
    for path in (tmp_path / 'eval/kitti_results').iterdir():
        assert path.read_text() == (tmp_path / 'server/kitti_results' / path.name).read_text()
    assert not (tmp_path / 'server/metrics.json').exists()

    visualize.main(
        [CONFIG, checkpoint, '--data-root', str(root), '--out', str(tmp_path / 'pictures'), '--samples', '1']
    )
    pictures = list((tmp_path / 'pictures').rglob('*.[jp]*g'))
    assert min(path.stat().st_size for path in pictures) > 10_000
