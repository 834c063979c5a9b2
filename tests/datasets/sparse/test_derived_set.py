"""A training set is a function of split and bank: what it holds, and what training makes of it."""

import copy
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from mmdet3d.datasets.pipelines import Compose

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import points_in_boxes
from projects.mmdet3d_plugin.datasets.info_files import AMBIGUOUS, BANK
from projects.mmdet3d_plugin.datasets.kitti_dataset import KittiFrames
from projects.mmdet3d_plugin.datasets.sparse.derived_set import DATABASE, INFOS, derive_training_set
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import FATES, VERSION, InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import (
    SparseOptions,
    SparseSplit,
    create_sparse_split,
)
from projects.mmdet3d_plugin.datasets.transforms.remove_points import RemovePoints
from projects.mmdet3d_plugin.evaluation.rotated_iou import rectangle_iou

CLASSES = list(KittiFrames.CLASSES)
LOAD = dict(type='LoadPoints', coord_type='LIDAR', load_dim=4, use_dim=4)
LABELS = dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True)


@pytest.fixture(scope='module')
def root(synthetic_kitti: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a sparse split, its clouds linked."""
    root = tmp_path_factory.mktemp('sparse')
    for path in synthetic_kitti.glob('*.pkl'):
        shutil.copy(path, root)
    for name in ('training', 'kitti_gt_database'):
        (root / name).symlink_to(synthetic_kitti / name)
    create_sparse_split(root, 'kitti', SparseOptions())
    return root


@pytest.fixture(scope='module')
def split(root: Path) -> SparseSplit:
    return SparseSplit.read(root / 'kitti_sparse1_s0.json')


def hand_made_bank(root: Path, split: SparseSplit, empty: bool = False) -> InstanceBank:
    """Of every frame: the first hidden object of a class is accepted, the second is unsure."""
    layout, rows = split.layout, []
    for info in layout.infos(layout.read(root / 'kitti_infos_train.pkl')):
        frame, names = layout.frame(info), layout.names(info)
        hidden = [i for i in range(len(names)) if i not in split.kept[frame] and names[i] in CLASSES]
        for fate, i in zip((0, 1), hidden, strict=False):
            rows.append(
                (frame, layout.boxes(info)[i], CLASSES.index(names[i]), fate, layout.point_counts(info)[i])
            )
    rows = [] if empty else rows
    count = len(rows)
    zeros = np.zeros(count, np.int64)
    return InstanceBank(
        dict(version=VERSION, iteration=1, classes=CLASSES, split=hash_file(root / split.frames_file)),
        frame=np.array([row[0] for row in rows], dtype='U6'),
        box=np.array([row[1] for row in rows], np.float32).reshape(-1, 7),
        label=np.array([row[2] for row in rows], np.int64),
        score=np.full(count, 0.5, np.float32),
        consistency=np.ones(count, np.float32),
        row=zeros,
        partner=zeros.copy(),
        born=zeros.copy(),
        points=np.array([row[4] for row in rows], np.int64),
        fate=np.array([row[3] for row in rows], np.uint8),
        reason=zeros.astype(np.uint8),
    )


@pytest.fixture(scope='module')
def bank(root: Path, split: SparseSplit) -> InstanceBank:
    return hand_made_bank(root, split)


@pytest.fixture(scope='module')
def derived(
    root: Path, split: SparseSplit, bank: InstanceBank, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp('derived')
    derive_training_set(root, split, bank, out)
    return out


def frames_of(root: Path, derived: Path, *steps: dict[str, Any]) -> KittiFrames:
    """The derived set through a pipeline without an end."""
    return KittiFrames(str(root), str(derived / INFOS), pipeline=[LOAD, LABELS, *steps])


def loaded(dataset: KittiFrames, index: int = 0) -> dict[str, Any]:
    results = dataset.get_data_info(index)
    dataset.pre_pipeline(results)
    return dataset.pipeline(results)


def sampler(derived: Path) -> dict[str, Any]:
    return dict(
        type='ObjectDatabase',
        data_root=str(derived),
        info_path=str(derived / DATABASE),
        rate=1.0,
        prepare=dict(filter_by_min_points=dict(Car=1, Pedestrian=1, Cyclist=1)),
        classes=CLASSES,
        sample_groups=dict(Car=5, Pedestrian=6, Cyclist=6),
        points_loader=LOAD,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_it_is_a_pure_function_and_goes_on_after_a_crash(
    root: Path, split: SparseSplit, bank: InstanceBank, derived: Path, tmp_path: Path
) -> None:
    before, given = contents(root), copy.deepcopy(bank.columns())
    (tmp_path / INFOS).write_bytes(b'half of a file that a killed run left')
    (tmp_path / 'orphan.bin').write_bytes(b'')
    counts = derive_training_set(root, split, bank, tmp_path)
    again = contents(tmp_path)
    again.pop('orphan.bin')
    assert again == contents(derived)
    assert contents(root) == before
    for name, array in bank.columns().items():
        np.testing.assert_array_equal(array, given[name])
    assert (counts.frames, counts.labels) == (9, 9)
    assert (counts.mined, counts.ambiguous) == (bank.accepted.sum(), bank.unsure.sum())


def test_mined_objects_are_labels_of_their_own_scenes(
    root: Path, split: SparseSplit, bank: InstanceBank, derived: Path, tmp_path: Path
) -> None:
    dataset = frames_of(root, derived)
    for index, frame in enumerate(split.kept):
        rows = bank.in_frame(frame)
        mined = rows[bank.accepted[rows]]
        annos = dataset.get_ann_info(index)
        assert len(annos['gt_names']) == 1 + len(mined)
        np.testing.assert_allclose(annos['gt_bboxes_3d'].tensor[1:], bank.box[mined], atol=1e-4)
        assert annos['gt_names'][1:].tolist() == bank.names[mined].tolist()
        info = dataset.get_data_info(index)
        np.testing.assert_array_equal(info[BANK], bank.box[mined])
        np.testing.assert_array_equal(info[AMBIGUOUS], bank.box[rows[bank.unsure[rows]]])
    derive_training_set(root, split, bank, tmp_path, own_scene=False)
    assert [len(info['annos']['name']) for info in pickle.loads((tmp_path / INFOS).read_bytes())] == [1] * 9
    objects = [pickle.loads((folder / DATABASE).read_bytes()) for folder in (derived, tmp_path)]
    for databases in objects:
        assert sum(len(items) for items in databases.values()) == 9 + bank.accepted.sum()


def test_the_database_has_the_points_that_were_counted(derived: Path) -> None:
    for items in pickle.loads((derived / DATABASE).read_bytes()).values():
        for item in items:
            points = np.fromfile(derived / item['path'], np.float32).reshape(-1, 4)
            assert len(points) == item['num_points_in_gt']


def test_removal_leaves_no_point_above_ground_and_all_others_as_they_were(root: Path, derived: Path) -> None:
    whole = loaded(frames_of(root, derived))['points'].tensor.numpy()
    rest = loaded(frames_of(root, derived, dict(type='RemovePoints')))
    boxes, left = rest[AMBIGUOUS], rest['points'].tensor.numpy()
    assert len(boxes) == 1
    inner = boxes + np.array([0, 0, 0.2, 0, 0, -0.2, 0], np.float32)
    assert points_in_boxes(np.ascontiguousarray(whole[:, :3]), inner).any()
    assert not points_in_boxes(np.ascontiguousarray(left[:, :3]), inner).any()
    gone = RemovePoints().inside(whole[:, :3], boxes)
    np.testing.assert_array_equal(whole[~gone], left)
    far = np.linalg.norm(whole[gone, :2] - boxes[0, :2], axis=1)
    assert far.max() < np.hypot(*boxes[0, 3:5]) / 2 + 0.2
    assert whole[gone, 2].min() > boxes[0, 2] + 0.149  # the ground stays


def test_pasted_objects_keep_clear_of_labels_of_the_bank_and_of_what_is_unsure(
    root: Path, split: SparseSplit, bank: InstanceBank, tmp_path: Path
) -> None:
    derive_training_set(root, split, bank, tmp_path, own_scene=False)
    paste = Compose([dict(type='AvoidingObjectSample', db_sampler=sampler(tmp_path))])
    dataset = frames_of(root, tmp_path)
    frame, pasted = loaded(dataset, 2), 0
    fixed = np.concatenate([frame['gt_bboxes_3d'].tensor.numpy(), frame[BANK], frame[AMBIGUOUS]])
    plane = [0, 1, 3, 4, 6]
    for seed in range(25):
        with drawn_from(seed):
            results = paste(copy.deepcopy(frame))
        boxes = results['gt_bboxes_3d'].tensor.numpy()[1:]
        pasted += len(boxes)
        assert not (rectangle_iou(boxes[:, None, plane], fixed[None][..., plane]) > 0).any()
    assert pasted > 100


def test_holes_are_filled_with_whole_objects(root: Path, derived: Path) -> None:
    dataset = frames_of(root, derived, dict(type='RemovePoints'))
    fill = Compose([dict(type='FillHoles', db_sampler=sampler(derived), largest=100.0)])
    items = {
        tuple(np.round(item['box3d_lidar'][3:6], 4)): item['num_points_in_gt']
        for items in pickle.loads((derived / DATABASE).read_bytes()).values()
        for item in items
    }
    for index in range(9):
        before = loaded(dataset, index)
        count, labels = len(before['points']), len(before['gt_labels_3d'])
        with drawn_from(index):
            after = fill(before)
        for box in after['gt_bboxes_3d'].tensor.numpy()[labels:]:
            np.testing.assert_array_equal(box[:3], before[AMBIGUOUS][0][:3])
            assert len(after['points']) - count == items[tuple(np.round(box[3:6], 4))]
            moved = after['points'].tensor.numpy()[count:, :3] - box[:3]
            assert np.abs(moved).max() < box[3:6].max() + 0.1
        assert len(after['gt_labels_3d']) == len(after['gt_bboxes_3d']) <= labels + len(before[AMBIGUOUS])


def test_holes_are_not_filled_over_what_was_mined(root: Path, derived: Path) -> None:
    """Also where what was mined is no label of its own scene."""
    fill = Compose([dict(type='FillHoles', db_sampler=sampler(derived), largest=100.0)])
    before = next(
        frame for i in range(9) if len((frame := loaded(frames_of(root, derived), i))[AMBIGUOUS]) == 1
    )
    count = len(before['gt_labels_3d'])
    for mined, pasted in ((before[AMBIGUOUS] + np.float32(50), 1), (before[AMBIGUOUS], 0)):
        with drawn_from(0):
            after = fill(copy.deepcopy({**before, BANK: mined}))
        assert len(after['gt_labels_3d']) == count + pasted


@pytest.mark.parametrize('kind', ['RemovePoints', 'IgnoreAmbiguous'])
def test_frames_of_no_derived_set_are_refused(root: Path, derived: Path, kind: str) -> None:
    frame = loaded(frames_of(root, derived))
    del frame[AMBIGUOUS]
    with pytest.raises(UserError, match='derive_training_set'):
        Compose([dict(type=kind)])(frame)


def test_ignored_boxes_move_with_the_points(root: Path, derived: Path) -> None:
    """A label is given as ambiguous box too: after flip, turn and scale both are the same."""
    steps = [
        dict(type='RandomFlip3D', flip_ratio_bev_horizontal=0.5),
        dict(
            type='GlobalRotScaleTrans',
            rot_range=[-0.4, 0.4],
            scale_ratio_range=[0.9, 1.1],
            translation_std=[1] * 3,
        ),
        dict(type='IgnoreAmbiguous'),
    ]
    frame = loaded(frames_of(root, derived))
    frame[AMBIGUOUS] = frame['gt_bboxes_3d'].tensor.numpy().copy()
    for seed in range(4):
        with drawn_from(seed):
            results = Compose(steps)(copy.deepcopy(frame))
        torch.testing.assert_close(results['gt_bboxes_ignore'], results['gt_bboxes_3d'].tensor)
    none = Compose(steps)({**frame, AMBIGUOUS: np.zeros((0, 7), np.float32)})
    assert none['gt_bboxes_ignore'].shape == (0, 7)
    twice = dict(box_type_3d=LiDARInstance3DBoxes, transformation_3d_flow=['R', 'S', 'T'] * 2)
    with pytest.raises(UserError, match='R-S-T-R-S-T'):
        Compose(steps[2:])({**twice, AMBIGUOUS: np.zeros((0, 7), np.float32)})


def test_an_empty_bank_changes_nothing(root: Path, split: SparseSplit, tmp_path: Path) -> None:
    """Training on it is training on the labels: the same points, boxes and chance, but for the last digit of places that
    are turned into the LiDAR's frame one by one or together.
    """
    derive_training_set(root, split, hand_made_bank(root, split, empty=True), tmp_path)
    kept = {**sampler(root), 'info_path': str(root / split.database_file)}
    turn = dict(type='GlobalRotScaleTrans', rot_range=[-0.4, 0.4], scale_ratio_range=[0.9, 1.1])
    plain = KittiFrames(
        str(root), split.labelled_file, [LOAD, LABELS, dict(type='ObjectSample', db_sampler=kept), turn]
    )
    avoiding = dict(type='AvoidingObjectSample', db_sampler=sampler(tmp_path))
    ours = frames_of(root, tmp_path, dict(type='RemovePoints'), avoiding, turn)
    for index in range(0, 9, 4):
        with drawn_from(index):
            one = loaded(plain, index)
        with drawn_from(index):
            other = loaded(ours, index)
        torch.testing.assert_close(one['points'].tensor, other['points'].tensor, rtol=0, atol=1e-6)
        assert len(one['gt_bboxes_3d']) > 1
        torch.testing.assert_close(
            one['gt_bboxes_3d'].tensor, other['gt_bboxes_3d'].tensor, rtol=0, atol=1e-5
        )


def test_a_bank_of_another_split_is_refused(root: Path, bank: InstanceBank, tmp_path: Path) -> None:
    other = create_sparse_split(root, 'kitti', SparseOptions(seed=9))
    with pytest.raises(UserError, match='other labels'):
        derive_training_set(root, other, bank, tmp_path)
    assert FATES[0] == 'accepted'
