"""One label per frame: who keeps it, and that nothing else is written down."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.converters.create_data import main as create_data
from projects.mmdet3d_plugin.datasets.info_files import load_infos
from projects.mmdet3d_plugin.datasets.kitti_dataset import KittiFrames
from projects.mmdet3d_plugin.datasets.sparse.info_layout import LAYOUTS
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import (
    SparseOptions,
    SparseSplit,
    create_sparse_split,
)


def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())


def _infos_only(root: Path, to: Path) -> Path:
    """The info files of a world, without its clouds."""
    to.mkdir(exist_ok=True)
    for name in root.glob('*.pkl'):
        shutil.copy(name, to)
    return to


def _files(folder: Path, split: SparseSplit) -> dict[str, bytes]:
    names = (split.record_file, split.labelled_file, split.frames_file, split.database_file)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_choice(
    synthetic_kitti: Path, tmp_path: Path
) -> None:
    first, second = (_infos_only(synthetic_kitti, tmp_path / name) for name in 'ab')
    one, two = (create_sparse_split(folder, 'kitti', SparseOptions(seed=4)) for folder in (first, second))
    assert _files(first, one) == _files(second, two)
    assert len(_files(first, one)) == 4
    assert SparseSplit.read(first / one.record_file) == SparseSplit.read(second / two.record_file)
    assert create_sparse_split(first, 'kitti', SparseOptions(seed=5)).kept != one.kept


def test_a_frame_keeps_one_object_that_points_hit(synthetic_kitti: Path, tmp_path: Path) -> None:
    folder = _infos_only(synthetic_kitti, tmp_path)
    split = create_sparse_split(folder, 'kitti', SparseOptions(area=(0, -18, 36, 18)))
    full = {LAYOUTS['kitti'].frame(info): info for info in _load(folder / 'kitti_infos_train.pkl')}
    frames = _load(folder / split.frames_file)
    assert [LAYOUTS['kitti'].frame(info) for info in frames] == list(full)
    for info in frames:
        frame = LAYOUTS['kitti'].frame(info)
        (row,) = split.kept[frame]
        for key, value in info['annos'].items():
            np.testing.assert_array_equal(value, full[frame]['annos'][key][[row]])
        assert info['annos']['num_points_in_gt'] > 0
        (box,) = LAYOUTS['kitti'].boxes(info)
        assert 0 < box[0] < 36
        assert -18 < box[1] < 18
    objects = [item for items in _load(folder / split.database_file).values() for item in items]
    assert {(f'{item["image_idx"]:06d}', item['gt_idx']) for item in objects} == {
        (frame, row) for frame, (row,) in split.kept.items()
    }
    assert sum(own for own, _ in split.record['counts'].values()) == len(full)
    assert sum(total for _, total in split.record['counts'].values()) > len(full)


def test_a_split_of_the_same_name_that_was_chosen_elsewhere_is_kept(
    synthetic_kitti: Path, tmp_path: Path
) -> None:
    folder = _infos_only(synthetic_kitti, tmp_path)
    split = create_sparse_split(folder, 'kitti', SparseOptions(area=(0, -18, 36, 18)))
    before = _files(folder, split)
    with pytest.raises(UserError, match=r'area = \[0, -18, 36, 18\]; one with area = None has the same name'):
        create_sparse_split(folder, 'kitti', SparseOptions())
    assert _files(folder, split) == before
    create_sparse_split(folder, 'kitti', SparseOptions(area=(0, -18, 36, 18)))  # the same once more
    assert _files(folder, split) == before
    (folder / split.record_file).write_text('damaged')
    create_sparse_split(folder, 'kitti', SparseOptions())  # nothing is lost that could be used


def test_every_third_frame_keeps_labels(synthetic_kitti: Path, tmp_path: Path) -> None:
    folder = _infos_only(synthetic_kitti, tmp_path)
    options = SparseOptions(per_frame=2, every=3)
    split = create_sparse_split(folder, 'kitti', options)
    assert split.tag == options.tag == 'sparse2_every3_s0'
    assert [len(rows) for rows in split.kept.values()] == [2, 0, 0] * 3
    assert len(_load(folder / split.labelled_file)) == 3
    assert len(_load(folder / split.frames_file)) == 9
    chosen = create_sparse_split(folder, 'kitti', SparseOptions(per_frame=2)).kept
    assert {frame: rows for frame, rows in split.kept.items() if rows}.items() <= chosen.items()


def test_a_hidden_label_decides_nothing(synthetic_kitti: Path, tmp_path: Path) -> None:
    """Places and sizes of the objects that were not chosen are garbage: every file but the record's hash is the same."""
    first, second = (_infos_only(synthetic_kitti, tmp_path / name) for name in 'ab')
    split = create_sparse_split(first, 'kitti', SparseOptions())
    infos = _load(second / 'kitti_infos_train.pkl')
    for info in infos:
        annos, kept = info['annos'], split.kept[LAYOUTS['kitti'].frame(info)]
        hidden = np.setdiff1d(np.arange(len(annos['name'])), kept)
        for key in ('location', 'dimensions', 'rotation_y', 'bbox', 'alpha'):
            annos[key][hidden] = np.random.default_rng(0).uniform(0.1, 1, annos[key][hidden].shape)
    (second / 'kitti_infos_train.pkl').write_bytes(pickle.dumps(infos))
    create_sparse_split(second, 'kitti', SparseOptions())
    same, other = _files(first, split), _files(second, split)
    assert same.pop(split.record_file) != other.pop(
        split.record_file
    )  # it names the file that it was made from
    assert same == other


def test_the_dataset_trains_on_it_from_the_command_line(synthetic_kitti: Path, tmp_path: Path) -> None:
    folder = _infos_only(synthetic_kitti, tmp_path)
    command = ['kitti', '--root-path', str(folder), '--sparse', '1', '--every', '2', '--seed', '7']
    before = {path: path.read_bytes() for path in folder.glob('*.pkl')}
    assert create_data(command) == 0
    split = SparseSplit.read(folder / 'kitti_sparse1_every2_s7.json')
    assert {path: path.read_bytes() for path in before} == before  # the full files were there
    dataset = KittiFrames(str(folder), split.labelled_file, pipeline=[])
    assert len(dataset) == 5
    assert all(len(dataset.get_ann_info(i)['gt_names']) == 1 for i in range(5))


def test_nuscenes_keeps_one_box_per_sample(tiny_nuscenes: Path, tmp_path: Path) -> None:
    folder = _infos_only(tiny_nuscenes, tmp_path)
    split = create_sparse_split(folder, 'nuscenes', SparseOptions(every=2))
    assert split.frames_file == 'nuscenes_infos_temporal_train_sparse1_every2_s0_frames.pkl'
    content = load_infos(folder / split.frames_file, 'v1.0')
    full = load_infos(folder / 'nuscenes_infos_temporal_train.pkl', 'v1.0')['infos']
    assert [len(info['gt_boxes']) for info in content['infos']] == [1, 0] * 4
    for info, whole in zip(content['infos'], full, strict=True):
        rows = split.kept[info['token']]
        for key in ('gt_boxes', 'gt_names', 'gt_velocity', 'num_lidar_pts', 'valid_flag'):
            np.testing.assert_array_equal(info[key], whole[key][rows])


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(per_frame=0), '--sparse is 0'),
        (dict(every=0), '--every is 0'),
        (dict(area=(5.0, 5.0, 1.0, 9.0)), '--area is 5 5 1 9: give X0 Y0 X1 Y1'),
        (dict(area=(float('nan'), 0.0, 1.0, 1.0)), '--area is nan 0 1 1'),
        (dict(classes=('Tram',)), 'no object of Pedestrian, Cyclist, Car'),
    ],
)
def test_what_cannot_be_is_said(
    synthetic_kitti: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    folder = _infos_only(synthetic_kitti, tmp_path)
    with pytest.raises(UserError, match=said):
        create_sparse_split(folder, 'kitti', SparseOptions(**options))
    with pytest.raises(UserError, match='there is no file'):
        SparseSplit.read(tmp_path / 'kitti_sparse1_s0.json')
    with pytest.raises(
        UserError, match=r'make it with tools/create_data\.py kitti --sparse 2 --every 3 --seed 7$'
    ):
        SparseSplit.read(tmp_path / 'kitti_sparse2_every3_s7.json')


def test_mined_objects_join_the_labels(synthetic_kitti: Path, tiny_nuscenes: Path) -> None:
    for dataset, root in (('kitti', synthetic_kitti), ('nuscenes', tiny_nuscenes)):
        layout = LAYOUTS[dataset]
        info = layout.infos(layout.read(root / layout.file_name('train')))[0]
        kept, rest = layout.keep(info, [1]), layout.keep(info, [0, 2])
        joined = layout.add(kept, layout.boxes(rest), layout.names(rest), layout.point_counts(rest))
        assert layout.names(joined).tolist() == layout.names(info)[[1, 0, 2]].tolist()
        np.testing.assert_allclose(layout.boxes(joined), layout.boxes(info)[[1, 0, 2]], atol=1e-5)
        np.testing.assert_array_equal(layout.point_counts(joined), layout.point_counts(info)[[1, 0, 2]])
