"""Real frames with one label each: what is kept, derived and removed agrees with what is known of them."""

import pickle
import shutil
from pathlib import Path

import numpy as np

from projects.mmdet3d_plugin.common.files import hash_file
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import points_in_boxes
from projects.mmdet3d_plugin.datasets.point_files import read_points
from projects.mmdet3d_plugin.datasets.sparse.derived_set import DATABASE, INFOS, derive_training_set
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import VERSION, InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import (
    SparseOptions,
    SparseSplit,
    create_sparse_split,
)
from projects.mmdet3d_plugin.datasets.transforms.remove_points import RemovePoints

POINTS = [1325, 1900, 881, 659, 55, 162]  # in the six cars of KITTI's frame 000008, as mmdet3d counts them


def everything_hidden(folder: Path, split: SparseSplit, accepted: bool) -> InstanceBank:
    """A bank of all that one frame hides, all of it accepted or all of it unsure."""
    layout = split.layout
    (info,) = layout.infos(layout.read(folder / layout.file_name('train')))
    frame, names, boxes = layout.frame(info), layout.names(info), layout.boxes(info)
    classes = sorted(set(names.tolist()))
    hidden = np.setdiff1d(np.arange(len(names)), split.kept[frame])
    count, zeros = len(hidden), np.zeros(len(hidden), np.int64)
    return InstanceBank(
        dict(version=VERSION, classes=classes, split=hash_file(folder / split.frames_file)),
        frame=np.full(count, frame),
        box=boxes[hidden],
        label=np.array([classes.index(name) for name in names[hidden]], np.int64),
        score=np.ones(count, np.float32),
        consistency=np.ones(count, np.float32),
        row=zeros,
        partner=zeros.copy(),
        born=zeros.copy(),
        points=layout.point_counts(info)[hidden].astype(np.int64),
        fate=np.full(count, 0 if accepted else 1, np.uint8),
        reason=zeros.astype(np.uint8),
    )


def test_kitti(kitti_one_frame: Path, tmp_path: Path) -> None:
    root = tmp_path / 'data'
    root.mkdir()
    for path in (*kitti_one_frame.glob('*.pkl'), kitti_one_frame / 'training'):
        (root / path.name).symlink_to(path)
    split = create_sparse_split(root, 'kitti', SparseOptions())
    (kept,) = split.kept['000008']
    assert split.record['counts']['Car'] == (1, 6)

    counts = derive_training_set(root, split, everything_hidden(root, split, True), tmp_path / 'mined')
    assert (counts.labels, counts.mined, counts.ambiguous) == (1, 5, 0)
    (info,) = pickle.loads((tmp_path / 'mined' / INFOS).read_bytes())
    others = [POINTS[i] for i in range(6) if i != kept]
    assert info['annos']['num_points_in_gt'].tolist() == [POINTS[kept], *others]
    objects = pickle.loads((tmp_path / 'mined' / DATABASE).read_bytes())['Car']
    assert [item['num_points_in_gt'] for item in objects] == [POINTS[kept], *others]

    points = read_points(root / 'training/velodyne_reduced/000008.bin')[:, :3]
    boxes = everything_hidden(root, split, False).box
    gone = RemovePoints().inside(points, boxes)
    above = boxes + np.array([0, 0, 0.15, 0, 0, -0.15, 0], np.float32)
    inner = points_in_boxes(points, above).any(1)
    assert not (inner & ~gone).sum() > 2  # one ulp from a face may count either way
    wide = boxes + np.array([0, 0, 0, 0.2, 0.2, 0.1, 0], np.float32)
    assert not (gone & ~points_in_boxes(points, wide).any(1)).any()
    assert sum(others) > inner.sum() > 0.7 * sum(others)


def test_nuscenes(one_frame_root: Path, tmp_path: Path) -> None:
    """68 boxes: one is kept, and 67 come back."""
    name = 'nuscenes_infos_temporal_train.pkl'
    shutil.copy(one_frame_root / name, tmp_path)
    split = create_sparse_split(tmp_path, 'nuscenes', SparseOptions())
    counts = derive_training_set(
        tmp_path, split, everything_hidden(tmp_path, split, True), tmp_path / 'mined'
    )
    assert (counts.frames, counts.labels, counts.mined) == (1, 1, 67)
    layout = split.layout
    whole, mined = (
        layout.infos(layout.read(path))[0] for path in (tmp_path / name, tmp_path / 'mined' / INFOS)
    )
    ((kept,),) = split.kept.values()
    order = [kept, *(i for i in range(68) if i != kept)]
    np.testing.assert_allclose(mined['gt_boxes'], whole['gt_boxes'][order], atol=1e-5)
    assert mined['gt_names'].tolist() == whole['gt_names'][order].tolist()
    assert mined['num_lidar_pts'].tolist() == whole['num_lidar_pts'][order].tolist()
    assert not (tmp_path / 'mined' / DATABASE).exists()
