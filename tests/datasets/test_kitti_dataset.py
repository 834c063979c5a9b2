import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import Config
from mmdet3d.datasets import build_dataset

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.builder import build_dataloader
from projects.mmdet3d_plugin.datasets.builder import build_dataset as build_wrapped
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


@pytest.mark.parametrize(
    'wrapper', [dict(type='CBGSDataset'), dict(type='ClassBalancedDataset', oversample_thr=0.9)]
)
def test_a_balanced_dataset_meets_rare_classes_more_often(
    synthetic_kitti: Path, wrapper: dict[str, Any]
) -> None:
    pipeline = _config(synthetic_kitti).data.train
    plain, balanced = build_dataset(pipeline), build_wrapped(dict(wrapper, dataset=pipeline))
    labels = [plain.get_cat_ids(index) for index in range(len(plain))]
    assert labels == [sorted(set(plain.get_ann_info(i)['gt_labels_3d']) - {-1}) for i in range(len(plain))]
    count = sum(map(len, labels))
    assert (
        len(balanced) == count // 3 * 3 if wrapper['type'] == 'CBGSDataset' else len(balanced) >= len(plain)
    )
    np.random.seed(0)
    one = balanced[SeededIndex(len(balanced) - 1, 7)]['points'].data
    np.random.seed(1)
    torch.testing.assert_close(
        balanced[SeededIndex(len(balanced) - 1, 7)]['points'].data, one, rtol=0, atol=0
    )


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
    assert list(metrics) == everything.metric_names()
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
    assert 'AP_3d_R40_moderate/Cyclist' not in metrics  # there is none, and NaN is no JSON
    sample = build_dataset(cfg.data.train)[SeededIndex(0, 3)]
    assert len(sample['gt_labels_3d'].data) == 6  # of the database's six none is pasted onto itself


def test_mistakes_are_named(synthetic_kitti: Path, everything: KittiFrames, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='1 predictions for 12 frames'):
        everything.evaluate(_truth(everything)[:1])
    for settings, wanted in (
        (
            dict(classes=['Tram']),
            r'train.pkl has no object of Tram; its classes are Car, Cyclist, Pedestrian',
        ),
        (dict(classes='Car'), 'classes must be a list of names'),
        (dict(classes=['Car', 'car']), "'car' stands there twice"),
        (dict(classes=['Car', 'DontCare']), 'marks what does not count'),
        (dict(overlaps=dict(Van=0.5)), "overlaps names 'Van', which is no class"),
        (dict(overlaps=dict(Car=1.5)), r"overlaps\['Car'\] is 1.5; an overlap lies between"),
    ):
        with pytest.raises(UserError, match=wanted):
            KittiFrames(str(synthetic_kitti), 'kitti_infos_train.pkl', [], **settings)
    with pytest.raises(FileNotFoundError, match=f'create_data.py kitti --root-path {tmp_path}$'):
        KittiFrames(str(tmp_path), 'kitti_infos_train.pkl', [])


def _changed(root: Path, path: Path, change: Callable[[list[dict[str, Any]]], Any]) -> Path:
    """An info file of all frames, changed."""
    infos = pickle.loads((root / 'kitti_infos_trainval.pkl').read_bytes())
    path.write_bytes(pickle.dumps(change(infos) or infos))
    return path


def _dataset(root: Path, path: Path, test_mode: bool = True, **settings: Any) -> KittiFrames:
    return KittiFrames(str(root), str(path), [], test_mode=test_mode, **settings)


def _renamed(infos: list[dict[str, Any]]) -> None:
    for info in infos:
        info['annos']['name'] = np.where(info['annos']['name'] == 'Car', 'Truck', info['annos']['name'])


def test_other_classes_are_scored_with_a_stated_overlap(
    synthetic_kitti: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('INFO')
    path = _changed(synthetic_kitti, tmp_path / 'a.pkl', _renamed)
    names = ['Pedestrian', 'Cyclist', 'Truck']
    scores = {}
    for overlap in (None, 0.7, 0.2):
        overlaps = None if overlap is None else dict(Truck=overlap)
        dataset = _dataset(synthetic_kitti, path, classes=names, overlaps=overlaps)
        results = _truth(dataset)
        for result in results:
            result['boxes_3d'].tensor[:, 0] += 0.8
        scores[overlap] = dataset.evaluate(results, full=True)
    trucks = {overlap: metrics['AP_3d_R40_hard/Truck'] for overlap, metrics in scores.items()}
    assert trucks[0.7] < trucks[None] <= trucks[0.2]  # a car moved by 0.8 m keeps about 0.6
    assert 'AP_3d_R40_hard_loose/Truck' not in scores[None]
    assert 'scored at an overlap that is not of its protocol: Truck 0.5' in caplog.text
    cars = _dataset(synthetic_kitti, synthetic_kitti / 'kitti_infos_trainval.pkl')
    assert cars.evaluate(_truth(cars), full=True)['AP_3d_R40_hard/Car'] == pytest.approx(
        dataset.evaluate(_truth(dataset), full=True)['AP_3d_R40_hard/Truck']
    )


def test_means_say_over_which_classes(kitti_one_frame: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    dataset = _dataset(kitti_one_frame, kitti_one_frame / 'kitti_infos_val.pkl')
    metrics = dataset.evaluate(_truth(dataset), full=True)
    assert 'means are over Car; there is no Pedestrian or Cyclist to be found' in caplog.text
    assert metrics['mAP_3d_R40_hard'] == metrics['AP_3d_R40_hard/Car']
    json.dumps(metrics, allow_nan=False)


def test_without_images_two_metrics_are_left(synthetic_kitti: Path, tmp_path: Path) -> None:
    def without_images(infos: list[dict[str, Any]]) -> None:
        for info in infos:
            info['image'] = dict(image_idx=info['image']['image_idx'])
            info['annos']['bbox'] *= 0

    dataset = _dataset(synthetic_kitti, _changed(synthetic_kitti, tmp_path / 'a.pkl', without_images))
    dataset.check_evaluation()
    assert 'lidar2img' not in dataset.get_data_info(0)
    metrics = dataset.evaluate(_truth(dataset), out_dir=str(tmp_path))
    assert {key.split('_')[1] for key in metrics} == {'bev', '3d'}
    annos = [info['annos'] for info in dataset.data_infos]
    counted = sum(
        ((a['name'] == 'Car') & (a['occluded'] <= 2) & (a['truncated'] <= 0.5)).sum() for a in annos
    )
    assert metrics['AP_3d_R40_hard/Car'] == pytest.approx(min((counted - 1) / 40, 1), abs=1e-4)
    assert len(list(tmp_path.glob('kitti_results/*.txt'))) == 12


def test_frames_without_labels_are_predicted_and_not_scored(
    synthetic_kitti: Path, everything: KittiFrames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def unlabelled(infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in info.items() if key != 'annos'} for info in infos]

    path = _changed(synthetic_kitti, tmp_path / 'a.pkl', unlabelled)
    dataset, results = _dataset(synthetic_kitti, path), _truth(everything)
    assert dataset.format_results(results, tmp_path / 'one') == tmp_path / 'one/kitti_results'
    assert dataset.evaluate(results, out_dir=str(tmp_path / 'two')) == {}
    assert 'holds no labels' in caplog.text
    everything.evaluate(results, out_dir=str(tmp_path / 'three'))
    files = [sorted(tmp_path.glob(f'{name}/kitti_results/*.txt')) for name in ('one', 'two', 'three')]
    assert len(files[0]) == 12
    for same in zip(*files, strict=True):
        assert len({path.read_bytes() for path in same}) == 1
    with pytest.raises(UserError, match=r'holds no labels .*--format-only'):
        dataset.check_evaluation()
    with pytest.raises(UserError, match='holds no labels'):
        _dataset(synthetic_kitti, path, test_mode=False)


def test_evaluation_without_anything_to_find_is_refused(synthetic_kitti: Path, tmp_path: Path) -> None:
    def hide(infos: list[dict[str, Any]]) -> None:
        for info in infos:
            info['annos']['occluded'][:] = 3

    everything, none = synthetic_kitti / 'kitti_infos_trainval.pkl', tmp_path / 'none.pkl'
    none.write_bytes(pickle.dumps([]))
    hidden = _changed(synthetic_kitti, tmp_path / 'hidden.pkl', hide)
    _dataset(synthetic_kitti, everything).check_evaluation()
    far = dict(point_cloud_range=[500, 0, 0, 501, 1, 1], truth_in_range=True)
    for path, settings, wanted in (
        (everything, dict(classes=['Tram']), 'no object of Tram that counts at any difficulty'),
        (hidden, {}, r'hidden.pkl holds no object of Pedestrian, Cyclist, Car that counts'),
        (everything, far, 'no object of .* within point_cloud_range'),
        (none, {}, r'none.pkl holds no frames'),
    ):
        dataset = _dataset(synthetic_kitti, path, **settings)
        with pytest.raises(UserError, match=wanted):
            dataset.check_evaluation()


@pytest.mark.parametrize(
    ('change', 'wanted'),
    [
        (
            lambda infos: dict(infos=infos),
            'is no info file of KITTI, a list of frames, but like those of nuScenes',
        ),
        (lambda infos: 'text', 'is no info file of KITTI, a list of frames, but str'),
        (lambda infos: [1, *infos], 'frame 0 .*make the file again with: python tools/create_data.py kitti'),
        (lambda infos: [*infos, infos[2]], 'lists frame 000002 twice'),
        (lambda infos: infos[1].pop('calib') and None, "frame 1 lacks 'calib'"),
        (lambda infos: infos[3]['annos'].pop('location').sort(), "frame 3 lacks 'location'"),
        (lambda infos: infos[3]['annos']['dimensions'].__imul__(-1) is None, 'of negative size'),
        (
            lambda infos: infos[3]['annos']['location'].__imul__(np.nan) is None,
            'has location that are not finite',
        ),
        (lambda infos: infos[3]['calib']['R0_rect'].__imul__(0) is None, 'calibration R0_rect that is no'),
        (lambda infos: infos[3]['annos'].update(bbox=np.zeros((1, 2))), r'has bbox of shape \(1, 2\)'),
        (lambda infos: infos[3]['calib'].update(P2=np.eye(3)), 'calibration P2 that is no finite'),
        (lambda infos: infos[3]['image'].update(image_shape=np.zeros(2, int)), r'has image_shape \[0, 0\]'),
        (lambda infos: infos[3]['annos']['dimensions'].__imul__(1e6) is None, 'larger than 200 m'),
        (lambda infos: infos[3]['annos']['rotation_y'].__iadd__(90) is None, 'rotation_y that is no angle'),
    ],
)
def test_a_damaged_info_file_is_named(
    synthetic_kitti: Path, tmp_path: Path, change: Callable, wanted: str
) -> None:
    path = _changed(synthetic_kitti, tmp_path / 'a.pkl', change)
    with pytest.raises(UserError, match=f'a.pkl.*{wanted}'):
        _dataset(synthetic_kitti, path)


def test_a_damaged_cloud_is_named(synthetic_kitti: Path, tmp_path: Path) -> None:
    cfg = _config(synthetic_kitti)
    reduced = tmp_path / 'training/velodyne_reduced'
    reduced.mkdir(parents=True)
    ann_file = str(synthetic_kitti / 'kitti_infos_train.pkl')
    dataset = build_dataset(dict(cfg.data.test, data_root=str(tmp_path), ann_file=ann_file))
    with pytest.raises(FileNotFoundError, match=r'velodyne_reduced/000000.bin'):
        dataset[0]
    (reduced / '000000.bin').write_bytes(b'12345')
    with pytest.raises(UserError, match=r'velodyne_reduced/000000.bin does not hold whole points'):
        dataset[0]
    (reduced / '000000.bin').write_bytes(b'')
    assert dataset[0]['points'][0].data.shape == (0, 4)


class _Evil:
    def __reduce__(self) -> tuple:
        return exec, ("raise SystemExit('executed')",)


def test_no_code_of_a_stranger_runs(synthetic_kitti: Path, tmp_path: Path) -> None:
    for content, wanted in (
        (pickle.dumps([_Evil()]), 'is refused'),
        (b'', 'is empty'),
        (b'123', 'is damaged'),
    ):
        (tmp_path / 'a.pkl').write_bytes(content)
        with pytest.raises(
            UserError, match=f'a.pkl {wanted}.*make it with: python tools/create_data.py kitti'
        ):
            _dataset(synthetic_kitti, tmp_path / 'a.pkl')
