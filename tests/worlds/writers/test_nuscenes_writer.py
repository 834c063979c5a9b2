"""What the official devkit makes of a synthetic world."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.utils import quaternion_yaw
from nuscenes.eval.detection.config import config_factory
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from nuscenes.utils.splits import create_splits_scenes
from pyquaternion import Quaternion

from projects.mmdet3d_plugin.worlds.catalog import OBJECT_CLASSES

VERSION = 'v1.0-trainval'


@pytest.fixture(scope='module')
def nusc(world: Path) -> NuScenes:
    return NuScenes(VERSION, str(world), verbose=False)


def _perfect(nusc: NuScenes, split: str) -> dict[str, list[dict]]:
    """The annotations of a split as if they were predictions; what no LiDAR point hits is no truth for the devkit."""
    names, results = set(create_splits_scenes()[split]), {}
    for sample in nusc.sample:
        if nusc.get('scene', sample['scene_token'])['name'] in names:
            annotations = [nusc.get('sample_annotation', token) for token in sample['anns']]
            hit = [annotation for annotation in annotations if annotation['num_lidar_pts'] > 0]
            results[sample['token']] = [_prediction(nusc, annotation) for annotation in hit]
    return results


def _prediction(nusc: NuScenes, annotation: dict) -> dict:
    attributes = [nusc.get('attribute', token)['name'] for token in annotation['attribute_tokens']]
    return {
        'sample_token': annotation['sample_token'],
        'translation': annotation['translation'],
        'size': annotation['size'],
        'rotation': annotation['rotation'],
        'velocity': np.nan_to_num(nusc.box_velocity(annotation['token'])[:2]).tolist(),
        'detection_name': category_to_detection_name(annotation['category_name']),
        'detection_score': 0.9,
        'attribute_name': attributes[0] if attributes else '',
    }


@pytest.mark.parametrize(('split', 'samples'), [('train', 8), ('val', 4)])
def test_perfect_predictions_score_one(nusc: NuScenes, split: str, samples: int, tmp_path: Path) -> None:
    results = _perfect(nusc, split)
    assert len(results) == samples
    sensors = {f'use_{name}': name == 'camera' for name in ('camera', 'lidar', 'radar', 'map', 'external')}
    path = tmp_path / 'results.json'
    path.write_text(json.dumps({'meta': sensors, 'results': results}))
    evaluation = DetectionEval(
        nusc, config_factory('detection_cvpr_2019'), str(path), split, str(tmp_path), verbose=False
    )
    metrics = evaluation.evaluate()[0].serialize()
    present = {box.detection_name for box in evaluation.gt_boxes.all}
    assert len(present) >= 8
    for name in present:
        assert metrics['mean_dist_aps'][name] == pytest.approx(1.0), name
    for error in ('trans_err', 'scale_err', 'orient_err', 'vel_err', 'attr_err'):
        known = [
            value
            for name, row in metrics['label_tp_errors'].items()
            if name in present and (value := row[error]) == value
        ]
        assert max(known) < 1e-6, error


def test_links_run_through_every_scene(nusc: NuScenes) -> None:
    assert len(nusc.scene) == 3
    for scene in nusc.scene:
        token, count, times = scene['first_sample_token'], 0, []
        while token:
            sample = nusc.get('sample', token)
            assert set(sample['data']) == {sensor['channel'] for sensor in nusc.sensor}
            times.append(sample['timestamp'])
            token, count = sample['next'], count + 1
        assert count == scene['nbr_samples'] == 4
        np.testing.assert_array_equal(np.diff(times), 500_000)
    for instance in nusc.instance:
        token, count = instance['first_annotation_token'], 0
        while token:
            annotation = nusc.get('sample_annotation', token)
            assert annotation['instance_token'] == instance['token']
            token, count = annotation['next'], count + 1
        assert count == instance['nbr_annotations']


def test_sweeps_lie_between_keyframes(nusc: NuScenes, world: Path) -> None:
    row = nusc.get('sample_data', nusc.sample[0]['data']['LIDAR_TOP'])
    kinds, times = [], []
    while True:
        kinds.append(row['is_key_frame'])
        times.append(row['timestamp'])
        assert (world / row['filename']).exists()
        if not row['next']:
            break
        row = nusc.get('sample_data', row['next'])
    assert kinds == [True, False, True, False, True, False, True]
    np.testing.assert_array_equal(np.diff(times), 250_000)


def test_files_are_what_the_tables_say(nusc: NuScenes, world: Path) -> None:
    for row in nusc.sample_data:
        path = world / row['filename']
        if row['fileformat'] == 'jpg':
            assert cv2.imread(str(path)).shape == (row['height'], row['width'], 3)
        else:
            assert path.stat().st_size % (5 * 4) == 0
    assert all((world / row['filename']).exists() for row in nusc.map)


def test_attributes_and_velocity_agree(nusc: NuScenes) -> None:
    categories = {spec.category: spec for spec in OBJECT_CLASSES.values()}
    seen = Counter()
    for annotation in nusc.sample_annotation:
        names = [nusc.get('attribute', token)['name'] for token in annotation['attribute_tokens']]
        moving, still = categories[annotation['category_name']].attributes
        velocity = nusc.box_velocity(annotation['token'])[:2]
        if np.isnan(velocity).any():
            continue
        speed = np.linalg.norm(velocity)
        assert names == ([] if not moving else [moving if speed > 0.3 else still])
        if speed > 0.3:
            yaw = quaternion_yaw(Quaternion(annotation['rotation']))
            assert abs((np.arctan2(velocity[1], velocity[0]) - yaw + np.pi) % (2 * np.pi) - np.pi) < 0.1
            seen['moving'] += 1
    assert seen['moving'] > 10


def test_points_counted_are_points_in_the_box(nusc: NuScenes) -> None:
    """LiDAR calibration, ego pose and annotations fit together, by the devkit's own geometry."""
    compared = 0
    for sample in nusc.sample[::3]:
        path, boxes, _ = nusc.get_sample_data(sample['data']['LIDAR_TOP'])
        cloud = LidarPointCloud.from_file(path).points[:3]
        for box in boxes:
            counted = nusc.get('sample_annotation', box.token)['num_lidar_pts']
            if counted > 30:
                # Range noise pushes some surface points out of the box.
                inside = points_in_box(box, cloud, wlh_factor=1.04).sum()
                assert 0.8 * counted <= inside <= 1.3 * counted + 10
                compared += 1
    assert compared > 10


def test_camera_boxes_cover_what_is_drawn(nusc: NuScenes) -> None:
    """An orange cone is orange inside its projected box: intrinsics, mounting and ego pose as the devkit reads them."""
    checked = 0
    for sample in nusc.sample:
        for channel in ('CAM_FRONT', 'CAM_BACK', 'CAM_FRONT_LEFT', 'CAM_BACK_RIGHT'):
            path, boxes, intrinsic = nusc.get_sample_data(sample['data'][channel])
            image = cv2.imread(path).astype(int)
            for box in boxes:
                near = box.name == 'movable_object.trafficcone' and 2 < box.center[2] < 14
                if not near or nusc.get('sample_annotation', box.token)['visibility_token'] != '4':
                    continue
                column, row, _ = np.rint(intrinsic @ (box.center / box.center[2])).astype(int)
                patch = image[max(row - 2, 0) : row + 3, max(column - 1, 0) : column + 2].reshape(-1, 3)
                if len(patch) == 15:
                    assert ((patch[:, 2] - patch[:, 0]) > 60).any(), (path, box.name, column, row)
                    checked += 1
    assert checked >= 3


def test_visibility_spans_all_levels(nusc: NuScenes) -> None:
    levels = Counter(row['visibility_token'] for row in nusc.sample_annotation)
    assert set(levels) == {'1', '2', '3', '4'}
    assert levels['4'] > len(nusc.sample_annotation) / 2
