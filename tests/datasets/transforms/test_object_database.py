import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.transforms.object_database import ObjectDatabase


def _database(root: Path, **changes: Any) -> ObjectDatabase:
    settings = dict(
        info_path=str(root / 'kitti_dbinfos_train.pkl'),
        data_root=str(root),
        rate=1.0,
        prepare=dict(filter_by_difficulty=[-1], filter_by_min_points=dict(Car=5, Pedestrian=5, Cyclist=5)),
        classes=['Pedestrian', 'Cyclist', 'Car'],
        sample_groups=dict(Car=8, Pedestrian=4, Cyclist=4),
        points_loader=dict(type='LoadPoints', coord_type='LIDAR', load_dim=4, use_dim=4),
    )
    return ObjectDatabase(**{**settings, **changes})


def test_what_is_drawn_depends_on_the_seed_alone(synthetic_kitti: Path) -> None:
    drawn = []
    for before in (0, 3):
        database = _database(synthetic_kitti)
        for _ in range(before):
            database.sample_all(np.zeros((0, 7)), np.zeros(0))
        np.random.seed(4)
        drawn.append(database.sample_all(np.zeros((0, 7)), np.zeros(0))['gt_bboxes_3d'])
    np.testing.assert_array_equal(*drawn)


def test_objects_are_drawn_once_and_lie_in_their_boxes(synthetic_kitti: Path) -> None:
    database = _database(synthetic_kitti)
    np.random.seed(0)
    sampled = database.sample_all(np.zeros((0, 7)), np.zeros(0))
    boxes, points = sampled['gt_bboxes_3d'], sampled['points'].tensor.numpy()
    assert len(np.unique(boxes, axis=0)) == len(boxes) > 5
    nearest = np.linalg.norm(points[:, None, :2] - boxes[None, :, :2], axis=-1).min(1)
    assert nearest.max() < 4
    assert set(sampled['gt_labels_3d']) == {0, 1, 2}


def test_what_is_there_counts(synthetic_kitti: Path) -> None:
    here = np.tile([100.0, 100, 0, 4, 2, 1.5, 0], (8, 1))  # far away, so that nothing collides
    sampled = _database(synthetic_kitti).sample_all(here, np.full(8, 2))
    assert 2 not in sampled['gt_labels_3d']


def test_few_points_or_none_of_a_class_are_no_mistake(synthetic_kitti: Path) -> None:
    database = _database(synthetic_kitti, prepare=dict(filter_by_min_points=dict(Car=10**9, Tram=1)))
    sampled = database.sample_all(np.zeros((0, 7)), np.zeros(0))
    assert set(sampled['gt_labels_3d']) == {0, 1}


def test_a_missing_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r'kitti_dbinfos_train.pkl; make it with: python tools/create_data'
    ):
        _database(tmp_path)


@pytest.mark.parametrize(
    ('change', 'wanted'),
    [
        (
            lambda objects: [objects],
            'is no database of objects, a list of objects by class; make it with: python',
        ),
        (lambda objects: dict(infos=3), 'is no database of objects, a list of objects by class'),
        (lambda objects: dict(Car=[1]), 'an object of Car lacks name, path'),
        (lambda objects: objects['Car'][0].pop('path') and objects, 'an object of Car lacks path'),
        (
            lambda objects: objects['Car'][0]['box3d_lidar'].__imul__(np.nan) is None or objects,
            'is not finite or has',
        ),
        (lambda objects: objects['Car'][0].update(box3d_lidar=['a'] * 7) or objects, 'no possible size'),
        (lambda objects: objects['Car'][0].update(path=None) or objects, 'path of an object of Car is None'),
        (
            lambda objects: objects['Car'][0].update(difficulty='easy') or objects,
            "difficulty of .* is 'easy'",
        ),
        (
            lambda objects: dict(Truck=objects['Car']),
            'has no object of Car, Pedestrian, Cyclist; its classes are Truck',
        ),
    ],
)
def test_a_damaged_database_is_named(
    synthetic_kitti: Path, tmp_path: Path, change: Callable, wanted: str
) -> None:
    objects = pickle.loads((synthetic_kitti / 'kitti_dbinfos_train.pkl').read_bytes())
    path = tmp_path / 'kitti_dbinfos_train.pkl'
    path.write_bytes(pickle.dumps(change(objects)))
    with pytest.raises(UserError, match=f'kitti_dbinfos_train.pkl.*{wanted}'):
        _database(synthetic_kitti, info_path=str(path))


class _Evil:
    def __reduce__(self) -> tuple:
        return exec, ("raise SystemExit('executed')",)


def test_no_code_of_a_stranger_runs(synthetic_kitti: Path, tmp_path: Path) -> None:
    path = tmp_path / 'kitti_dbinfos_train.pkl'
    path.write_bytes(pickle.dumps(dict(Car=[], evil=_Evil())))
    with pytest.raises(UserError, match=r'kitti_dbinfos_train.pkl is refused'):
        _database(synthetic_kitti, info_path=str(path))
    path.write_bytes(b'')
    with pytest.raises(UserError, match=r'kitti_dbinfos_train.pkl is empty'):
        _database(synthetic_kitti, info_path=str(path))


def test_a_missing_object_is_named(synthetic_kitti: Path, tmp_path: Path) -> None:
    database = _database(synthetic_kitti, data_root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r'kitti_gt_database/\d+_.*.bin'):
        database.sample_all(np.zeros((0, 7)), np.zeros(0))


def test_groups_need_a_label(synthetic_kitti: Path) -> None:
    with pytest.raises(UserError, match="sample_groups has 'Van', which is not among classes"):
        _database(synthetic_kitti, sample_groups=dict(Van=3))
