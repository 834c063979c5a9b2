import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.mmdet3d_plugin.datasets.converters.kitti_files import read_calibration, read_labels
from projects.mmdet3d_plugin.datasets.point_files import read_points
from projects.mmdet3d_plugin.worlds.catalog import KITTI
from projects.mmdet3d_plugin.worlds.create import create_world, main
from projects.mmdet3d_plugin.worlds.lidar import DENSE, Lidar
from projects.mmdet3d_plugin.worlds.renderer import Picture, Renderer
from projects.mmdet3d_plugin.worlds.rig import make_kitti_rig
from projects.mmdet3d_plugin.worlds.scene import Scene, build_scene
from projects.mmdet3d_plugin.worlds.worlds import STAMP, WorldError
from projects.mmdet3d_plugin.worlds.writers.kitti_writer import (
    calibration,
    create_kitti_world,
    label_rows,
    lidar_boxes,
)


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def street() -> Scene:
    return build_scene('000005', np.random.SeedSequence(3), 1, (1242, 375), KITTI, make_kitti_rig)


@pytest.fixture(scope='module')
def picture(street: Scene) -> Picture:
    return Renderer(street).render(street.rig.cameras[0], 0.0)


def test_same_bytes_whatever_the_workers_and_the_number_of_frames(tmp_path: Path) -> None:
    for count, workers in ((2, 1), (3, 2)):
        create_kitti_world(tmp_path / str(workers), count, 4, workers=workers, progress=False)
    few, many = (_digests(tmp_path / workers / 'training') for workers in '12')
    assert few.items() <= many.items()
    assert (len(few), len(many)) == (8, 12)
    create_kitti_world(tmp_path / 'other', 2, 5, workers=1, progress=False)
    other = _digests(tmp_path / 'other' / 'training')
    assert not set(few.values()) & set(other.values())


def test_the_layout_is_kittis(synthetic_kitti: Path) -> None:
    split = {path.stem: path.read_text().split() for path in (synthetic_kitti / 'ImageSets').glob('*.txt')}
    assert split['train'] == [f'{i:06d}' for i in range(9)]
    assert split['val'] == [f'{i:06d}' for i in range(9, 12)]
    assert split['trainval'] == split['train'] + split['val']
    assert split['test'] == []
    assert cv2.imread(str(synthetic_kitti / 'training/image_2/000004.png')).shape == (375, 1242, 3)
    points = read_points(synthetic_kitti / 'training/velodyne/000004.bin')
    assert 15_000 < len(points) < 40_000
    assert 0 <= points[:, 3].min() <= points[:, 3].max() <= 1
    assert points[:, 0].min() > 0  # it looks ahead


def test_boxes_project_onto_what_the_picture_shows(street: Scene, picture: Picture) -> None:
    """The label's way through calibration and yaw ends where the renderer, which knows neither, painted the thing."""
    calib = calibration(street.rig)
    rows = [
        row.split()
        for row in label_rows(
            street, calib, picture, Lidar(street, DENSE).cast(0.0, np.random.default_rng(0))
        )
    ]
    labels = [row for row in rows if row[0] != 'DontCare' and float(row[1]) == 0]
    things = [i for i, thing in enumerate(street.things) if thing.labelled]
    alone = 0
    for row in labels:
        box = np.array([float(value) for value in row[4:8]])
        centre = np.array([float(value) for value in row[11:14]])
        feet = lidar_boxes(street, things)[:, :3]
        lidar2rectified = calib['R0_rect'] @ calib['Tr_velo_to_cam']
        camera = feet @ lidar2rectified[:3, :3].T + lidar2rectified[:3, 3]
        index = things[np.linalg.norm(camera - centre, axis=1).argmin()]
        if picture.seen[index] < 0.97 * picture.whole[index]:
            continue
        v, u = np.nonzero(picture.owner == index)
        np.testing.assert_allclose(box[[1, 3]], [v.min(), v.max() + 1], atol=4)
        # Shapes reach the ends of their boxes, but not all corners.
        assert box[0] - 2 <= u.min() < u.max() <= box[2] + 2
        assert u.max() - u.min() > 0.6 * (box[2] - box[0])
        assert abs((u.max() + u.min() - box[0] - box[2]) / 2) < 0.1 * (box[2] - box[0]) + 2
        alone += 1
    assert alone >= 2


def test_points_on_objects_lie_in_their_boxes(street: Scene) -> None:
    sweep = Lidar(street, DENSE).cast(0.0, np.random.default_rng(0))
    things = [i for i, thing in enumerate(street.things) if thing.labelled and sweep.hits[i] > 20]
    assert len(things) >= 3
    for box, thing in zip(lidar_boxes(street, things), things, strict=True):
        c, s = np.cos(box[6]), np.sin(box[6])
        local = sweep.points[:, :3] - box[:3]
        turned = np.column_stack(
            [c * local[:, 0] + s * local[:, 1], c * local[:, 1] - s * local[:, 0], local[:, 2]]
        )
        inside = (
            (np.abs(turned[:, :2]) < box[3:5] / 2 + 0.06).all(1)
            & (turned[:, 2] > 0.08)
            & (turned[:, 2] < box[5] + 0.06)
        )
        assert abs(inside.sum() - sweep.hits[thing]) <= max(8, 0.2 * sweep.hits[thing])


def test_every_class_and_kind_of_label_occurs(synthetic_kitti: Path) -> None:
    frames = [read_labels(path) for path in sorted((synthetic_kitti / 'training/label_2').glob('*.txt'))]
    names = np.concatenate([frame['name'] for frame in frames])
    assert set(names) == {'Car', 'Pedestrian', 'Cyclist', 'DontCare'}
    occluded = np.concatenate([frame['occluded'] for frame in frames])
    truncated = np.concatenate([frame['truncated'] for frame in frames])
    assert set(occluded) == {-1, 0, 1, 2}
    assert truncated.max() > 0.2
    difficulty = np.concatenate([frame['difficulty'] for frame in frames])
    assert set(difficulty) == {-1, 0, 1, 2}
    for name, length in (('Car', 3.9), ('Pedestrian', 0.8), ('Cyclist', 1.76)):
        sizes = np.concatenate([frame['dimensions'][frame['name'] == name] for frame in frames])
        assert len(sizes) > 10
        assert sizes[:, 0].mean() == pytest.approx(length, rel=0.1)


def test_calibration_reads_back(street: Scene, tmp_path: Path, synthetic_kitti: Path) -> None:
    calib = read_calibration(synthetic_kitti / 'training/calib/000000.txt')
    lidar2camera = calib['R0_rect'] @ calib['Tr_velo_to_cam']
    np.testing.assert_allclose(lidar2camera[:3, :3] @ lidar2camera[:3, :3].T, np.eye(3), atol=1e-9)
    ahead = calib['P2'] @ lidar2camera @ [30, 0, 0, 1]
    assert ahead[2] == pytest.approx(30, abs=0.6)
    np.testing.assert_allclose(ahead[:2] / ahead[2], [610, 175], atol=25)


def test_an_interrupted_world_is_completed_and_another_format_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from projects.mmdet3d_plugin.worlds.writers import kitti_writer

    write_frame, made = kitti_writer.write_frame, []

    def write_one(root: Path, scene: Scene, *rest: object) -> None:
        if made:
            raise KeyboardInterrupt
        made.append(scene.name)
        write_frame(root, scene, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(kitti_writer, 'write_frame', write_one)
        assert main(['--format', 'kitti', '--out', str(tmp_path), '--scenes', '2', '--workers', '1']) == 130
    assert not (tmp_path / STAMP).exists()
    assert main(['--format', 'kitti', '--out', str(tmp_path), '--scenes', '2', '--workers', '1']) == 0
    assert json.loads((tmp_path / STAMP).read_text())['format'] == 'kitti'
    with pytest.raises(WorldError, match='in the format kitti'):
        create_world(tmp_path, 1, 0, (64, 64), frames=1, progress=False, workers=1)
    (tmp_path / 'kitti_gt_database').mkdir()
    (tmp_path / 'kitti_infos_train.pkl').touch()
    assert create_kitti_world(tmp_path, 1, 1, progress=False, workers=1, force=True)
    assert not list(tmp_path.glob('kitti_*'))
    assert len(list((tmp_path / 'training/calib').iterdir())) == 1
    capsys.readouterr()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--scenes', '0'], '--scenes is 0: it must be at least 1'),
        (['--scenes', '2', '--size', '200x100'], '--size is for --format nuscenes'),
        (['--scenes', '2', '--frames', '3'], '--frames is for --format nuscenes'),
        (['--scenes', '2', '--seed', '-3'], '--seed is -3'),
    ],
)
def test_a_bad_wish_is_one_clear_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(['--format', 'kitti', '--out', str(tmp_path / 'world'), *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count('\n') == 1
    assert not (tmp_path / 'world').exists()
