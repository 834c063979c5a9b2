from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import CameraInstance3DBoxes, LiDARInstance3DBoxes
from mmdet3d.datasets import KittiDataset

from projects.mmdet3d_plugin.datasets.converters.kitti_files import read_labels
from projects.mmdet3d_plugin.evaluation.kitti_format import (
    camera_corners,
    frame_annotations,
    image_boxes,
    projected_extents,
    to_camera,
    write_results,
)

CLASSES = ('Pedestrian', 'Cyclist', 'Car')
LIMIT = [0, -40, -3, 70.4, 40, 1]


def _info() -> dict:
    projection = np.eye(4)
    projection[:3] = [[700.0, 0, 600, 44], [0, 700, 180, 0.2], [0, 0, 1, 0.003]]
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(0.01), -np.sin(0.01), 0], [np.sin(0.01), np.cos(0.01), 0], [0, 0, 1]]
    mount = np.array([[0, -1, 0, 0.02], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
    return dict(
        image=dict(image_idx=12, image_shape=np.array([375, 1242])),
        calib=dict(P2=projection, R0_rect=turn, Tr_velo_to_cam=mount),
    )


def _result(count: int = 60, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    low, high = [3, -30, -2.5, 0.5, 0.5, 1, -7], [80, 30, 0, 5, 2.5, 2, 7]
    boxes = torch.tensor(rng.uniform(low, high, (count, 7)), dtype=torch.float32)
    return dict(
        boxes_3d=LiDARInstance3DBoxes(boxes),
        scores_3d=torch.tensor(rng.random(count)),
        labels_3d=torch.tensor(rng.integers(0, 3, count)),
    )


def test_equals_mmdet3d_ahead_of_the_camera() -> None:
    theirs = KittiDataset.__new__(KittiDataset)
    theirs.pcd_limit_range = LIMIT
    wanted = theirs.convert_valid_bboxes(_result(), _info())
    ours = frame_annotations(_result(), _info(), CLASSES, LIMIT)
    assert 10 < len(ours['name']) == len(wanted['scores']) < 60
    np.testing.assert_allclose(ours['score'], wanted['scores'])
    np.testing.assert_allclose(ours['location'], wanted['box3d_camera'][:, :3], atol=1e-4)
    np.testing.assert_allclose(ours['dimensions'], wanted['box3d_camera'][:, 3:6], atol=1e-5)
    np.testing.assert_allclose(np.cos(ours['rotation_y'] - wanted['box3d_camera'][:, 6]), 1, atol=1e-6)
    np.testing.assert_allclose(ours['bbox'], wanted['bbox'].clip(0, [1242, 375] * 2), atol=0.05)
    assert ours['name'].tolist() == [CLASSES[i] for i in wanted['label_preds']]
    assert (np.abs(ours['rotation_y']) <= np.pi).all()


def test_alpha_is_what_kitti_wrote(kitti_one_frame: Path) -> None:
    labels = read_labels(kitti_one_frame / 'training/label_2/000008.txt')
    cars = labels['name'] == 'Car'
    camera = np.column_stack([labels['location'], labels['dimensions'], labels['rotation_y']])[cars]
    from projects.mmdet3d_plugin.evaluation.kitti_format import observation_angle

    # two decimals of angles and of positions as near as 4 m
    np.testing.assert_allclose(observation_angle(camera), labels['alpha'][cars], atol=0.04)


def test_corners_are_mmdet3ds() -> None:
    camera = to_camera(_result().get('boxes_3d').tensor.numpy().astype(np.float64), _info())
    wanted = CameraInstance3DBoxes(torch.tensor(camera)).corners.numpy()
    ours = camera_corners(camera)
    for own, their in zip(ours, wanted, strict=True):
        order = [np.lexsort(corners.round(3).T) for corners in (own, their)]
        np.testing.assert_allclose(own[order[0]], their[order[1]], atol=1e-4)


def test_a_box_beside_the_camera_is_cut_and_not_mirrored() -> None:
    projection = _info()['calib']['P2']
    beside = np.array(
        [[2.0, 1, 0.5, 4, 1.5, 1, np.pi / 2]]
    )  # from 1.5 m behind the camera to 2.5 m ahead, to its right
    (extent,) = projected_extents(beside, projection)
    assert extent[0] == pytest.approx(
        (700 * 1.5 + 600 * 2.5 + 44) / 2.503, abs=1
    )  # the far end of its near side
    assert extent[2] > 10000  # the near end runs out of the image
    bbox, seen = image_boxes(beside, projection, (375, 1242))
    assert seen.tolist() == [True]
    assert bbox[0, 2] == 1242
    behind = np.array([[0.0, 1, -10, 4, 1.5, 1, 0]])
    bbox, seen = image_boxes(behind, projection, (375, 1242))
    assert seen.tolist() == [False]
    assert bbox.tolist() == [[0, 0, 0, 0]]


def test_nothing_found_is_fine() -> None:
    annotations = frame_annotations(_result(0), _info(), CLASSES, LIMIT)
    assert {len(value) for value in annotations.values()} == {0}
    assert annotations['bbox'].shape == (0, 4)


def test_what_is_not_finite_is_named() -> None:
    result = _result(3)
    result['boxes_3d'].tensor[1, 2] = float('nan')
    with pytest.raises(ValueError, match='frame 000012 are not finite'):
        frame_annotations(result, _info(), CLASSES)


def test_result_files_read_back_as_labels(tmp_path: Path) -> None:
    annotations = frame_annotations(_result(), _info(), CLASSES, LIMIT)
    (path,) = write_results([annotations], [_info()], tmp_path / 'results')
    assert path.name == '000012.txt'
    back = read_labels(path)
    assert back['name'].tolist() == annotations['name'].tolist()
    for key in ('alpha', 'bbox', 'dimensions', 'location', 'rotation_y', 'score'):
        np.testing.assert_allclose(back[key], annotations[key], atol=1e-4)
