import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config
from mmdet3d.datasets import build_dataset

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.datasets.builder import build_dataloader
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import lidar_boxes
from projects.mmdet3d_plugin.datasets.kitti_dataset import KittiFrames
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex

LABELLED = ['Pedestrian', 'Cyclist', 'Car']


def _config(root: Path) -> Config:
    """The base config without ``ObjectNoise``, whose loops take a minute to compile."""
    cfg = load_config('projects/configs/_base_/datasets/kitti.py', data_root=root)
    cfg.data.train.pipeline = [t for t in cfg.data.train.pipeline if t['type'] != 'ObjectNoise']
    return cfg


def _truth(dataset: KittiFrames, order: slice = slice(None)) -> list[dict[str, Any]]:
    """The labels of every frame as predictions."""
    results = []
    rng = np.random.default_rng(0)
    for index in range(len(dataset)):
        labels = dataset.get_ann_info(index)
        known = labels['gt_labels_3d'] >= 0
        boxes = labels['gt_bboxes_3d'][torch.from_numpy(known)]
        scores = torch.from_numpy(rng.random(int(known.sum())))
        results.append(
            dict(boxes_3d=boxes, scores_3d=scores, labels_3d=torch.from_numpy(labels['gt_labels_3d'][known]))
        )
    return results


@pytest.fixture(scope='module')
def everything(synthetic_kitti: Path) -> KittiFrames:
    """All frames of the synthetic world, to predict in."""
    cfg = _config(synthetic_kitti)
    return build_dataset(dict(cfg.data.test, ann_file='kitti_infos_trainval.pkl'))


def test_a_batch_holds_points_and_boxes(synthetic_kitti: Path) -> None:
    cfg = _config(synthetic_kitti)
    dataset = build_dataset(cfg.data.train)
    batch = next(iter(build_dataloader(dataset, samples_per_gpu=2, workers_per_gpu=0)))
    points, boxes, labels, metas = (
        batch[key].data[0] for key in ('points', 'gt_bboxes_3d', 'gt_labels_3d', 'img_metas')
    )
    assert [cloud.shape[1] for cloud in points] == [4, 4]
    assert all(len(own) == len(found) > 0 for own, found in zip(boxes, labels, strict=True))
    assert all(((found >= 0) & (found < 3)).all() for found in labels)
    assert metas[0]['pc_range'] == cfg.point_cloud_range
    low, high = np.array(cfg.point_cloud_range).reshape(2, 3)
    assert ((points[0][:, :3].numpy() >= low) & (points[0][:, :3].numpy() <= high)).all()


def test_a_seed_decides_all_chance_in_a_sample(synthetic_kitti: Path) -> None:
    pipeline = _config(synthetic_kitti).data.train
    first, second = build_dataset(pipeline), build_dataset(pipeline)
    second[SeededIndex(1, 5)]  # what was loaded before does not matter
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    one, same, other = first[SeededIndex(0, 7)], second[SeededIndex(0, 7)], first[SeededIndex(0, 8)]
    torch.testing.assert_close(one['points'].data, same['points'].data, rtol=0, atol=0)
    torch.testing.assert_close(
        one['gt_bboxes_3d'].data.tensor, same['gt_bboxes_3d'].data.tensor, rtol=0, atol=0
    )
    assert one['points'].data.shape != other['points'].data.shape
    np.testing.assert_array_equal(np.random.get_state()[1], state[0])
    assert torch.equal(torch.get_rng_state(), state[1])


def test_a_repeated_dataset_keeps_the_seed(synthetic_kitti: Path) -> None:
    pipeline = _config(synthetic_kitti).data.train
    plain, repeated = (
        build_dataset(pipeline),
        build_dataset(dict(type='RepeatDataset', times=2, dataset=pipeline)),
    )
    assert len(repeated) == 2 * len(plain)
    one, again = plain[SeededIndex(3, 7)], repeated[SeededIndex(3 + len(plain), 7)]
    torch.testing.assert_close(one['points'].data, again['points'].data, rtol=0, atol=0)


def test_frames_without_objects_are_replaced_or_refused(synthetic_kitti: Path) -> None:
    cfg = _config(synthetic_kitti)
    pipeline = [t for t in cfg.data.train.pipeline if t['type'] != 'ObjectSample']
    dataset = build_dataset(dict(cfg.data.train, pipeline=pipeline))
    empty = dataset.data_infos[0]['annos']
    dataset.data_infos[0] = dict(
        dataset.data_infos[0], annos={key: value[:0] for key, value in empty.items()}
    )
    assert dataset[SeededIndex(0, 1)]['img_metas'].data['sample_idx'] != 0
    dataset.data_infos = dataset.data_infos[:1]
    with pytest.raises(ValueError, match='filter_empty=False'):
        dataset[SeededIndex(0, 1)]


def test_in_testing_a_frame_has_points_alone(everything: KittiFrames) -> None:
    sample = everything[3]
    assert sorted(sample) == ['img_metas', 'points']
    assert sample['points'][0].data.shape[1] == 4
    assert everything.scene_tokens[3] == '000003'


def test_the_truth_scores_one_where_there_is_enough_of_it(everything: KittiFrames, tmp_path: Path) -> None:
    metrics = everything.evaluate(_truth(everything), out_dir=str(tmp_path))
    assert len(metrics) == 4 * 2 * 3 * 2 * 4
    annos = [info['annos'] for info in everything.data_infos]
    for name in LABELLED:
        counted = sum(((a['name'] == name) & (a['difficulty'] >= 0)).sum() for a in annos)
        for metric in ('bbox', 'aos', 'bev', '3d'):
            wanted = min((counted - 1) / 40, 1)  # KITTI's rule for thresholds gives no more
            assert metrics[f'AP_{metric}_R40_hard/{name}'] == pytest.approx(wanted, abs=1e-4)
    assert len(list(tmp_path.glob('kitti_results/*.txt'))) == 12


def test_between_epochs_the_headlines_are_given(everything: KittiFrames) -> None:
    metrics = everything.evaluate(_truth(everything))
    assert 'mAP_3d_R40_moderate' in metrics
    assert len(metrics) == 12 + 3
    assert not [key for key in metrics if 'R11' in key or 'loose' in key]


def test_worse_predictions_score_less(everything: KittiFrames) -> None:
    results = _truth(everything)
    for result in results:
        result['boxes_3d'].tensor[:, 0] += 0.4
    shifted = everything.evaluate(results)
    assert shifted['mAP_3d_R40_hard'] < 0.7 * everything.evaluate(_truth(everything))['mAP_3d_R40_hard']
    none = [
        dict(boxes_3d=r['boxes_3d'][:0], scores_3d=r['scores_3d'][:0], labels_3d=r['labels_3d'][:0])
        for r in results
    ]
    assert everything.evaluate(none)['mAP_3d_R40_hard'] == 0


def test_a_short_range_need_not_find_what_lies_beyond(synthetic_kitti: Path) -> None:
    settings = dict(_config(synthetic_kitti).data.test, ann_file='kitti_infos_trainval.pkl')
    settings['point_cloud_range'] = [0, -18, -3, 36, 18, 1]
    cars = {}
    for within in (False, True):
        dataset = build_dataset(dict(settings, truth_in_range=within))
        cars[within] = dataset.evaluate(_truth(dataset), full=True)['AP_3d_R40_hard/Car']
    counted = 0
    for info in dataset.data_infos:
        x, y = lidar_boxes(info)[:, :2].T
        near = (x < 36) & (abs(y) < 18)
        easy, car = (info['annos'][key][: len(near)] for key in ('difficulty', 'name'))
        counted += (near & (easy >= 0) & (car == 'Car')).sum()
    assert cars[True] == pytest.approx(
        min((counted - 1) / 40, 1)
    )  # KITTI's rule for thresholds gives no more
    assert cars[False] < cars[True]


def test_results_of_a_two_stage_wrapper_are_understood(everything: KittiFrames) -> None:
    plain = _truth(everything)
    assert everything.evaluate([dict(pts_bbox=r) for r in plain]) == everything.evaluate(plain)


def test_the_real_frame_evaluates(kitti_one_frame: Path) -> None:
    cfg = _config(kitti_one_frame)
    dataset = build_dataset(cfg.data.test)
    metrics = dataset.evaluate(_truth(dataset))
    assert metrics['AP_3d_R40_moderate/Car'] == pytest.approx(3 / 40)  # of four cars that count
    assert math.isnan(metrics['AP_3d_R40_moderate/Cyclist'])
    sample = build_dataset(cfg.data.train)[SeededIndex(0, 3)]
    assert len(sample['gt_labels_3d'].data) > 6  # pasted cars are among them


def test_mistakes_are_named(synthetic_kitti: Path, everything: KittiFrames, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='1 predictions for 12 frames'):
        everything.evaluate(_truth(everything)[:1])
    with pytest.raises(ValueError, match="'Tram' is no class of KITTI"):
        KittiFrames(str(synthetic_kitti), 'kitti_infos_train.pkl', [], classes=['Tram'])
    with pytest.raises(FileNotFoundError, match=f'create_data.py kitti --root-path {tmp_path}$'):
        KittiFrames(str(tmp_path), 'kitti_infos_train.pkl', [])
