import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.box_codec import convert_boxes
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import NuScenesTemporalDataset

TRAIN, VAL = (f'nuscenes_infos_temporal_{part}.pkl' for part in ('train', 'val'))


def perfect(dataset: NuScenesTemporalDataset) -> list[dict[str, Any]]:
    """Ground truth as predictions, of boxes that some point hits: the others count as false."""
    results = []
    for index, info in enumerate(dataset.infos):
        truth = dataset.get_ann_info(index)
        hit = torch.as_tensor(info['valid_flag'][np.isin(info['gt_names'], dataset.CLASSES)])
        boxes, labels = truth['gt_bboxes_3d'][hit], torch.as_tensor(truth['gt_labels_3d'])[hit]
        results.append(dict(boxes_3d=boxes, scores_3d=torch.full((len(labels),), 0.9), labels_3d=labels))
    return results


def make(root: Path, ann_file: str = VAL) -> NuScenesTemporalDataset:
    return NuScenesTemporalDataset(str(root), ann_file, [], test_mode=True)


def test_perfect_predictions_on_the_real_frame_score_what_they_must(one_frame_root: Path) -> None:
    """Five of ten classes have boxes in range, and one frame knows no velocity."""
    dataset = make(one_frame_root, TRAIN)
    reference = json.loads((one_frame_root / 'lidar_frame_boxes.json').read_text())
    results = perfect(dataset)
    velocity = np.nan_to_num(np.array(reference['boxes'])[dataset.infos[0]['valid_flag'], 7:])
    results[0]['boxes_3d'].tensor[:, 7:] = torch.as_tensor(velocity)  # moving objects carry other attributes
    metrics = dataset.evaluate(results)
    assert metrics['mAP'] == pytest.approx(0.5, abs=1e-9)
    assert metrics['NDS'] == pytest.approx(0.43194, abs=1e-4)
    assert metrics['mATE'] == pytest.approx(0.5, abs=1e-5)
    assert metrics['mAOE'] == pytest.approx(5 / 9, abs=1e-5)
    assert metrics['AP/pedestrian'] == pytest.approx(1)
    assert metrics['AP/bus'] == 0
    assert all(type(value) is float for value in metrics.values())


def test_perfect_predictions_of_a_whole_split(tiny_nuscenes: Path, tmp_path: Path, capfd: Any) -> None:
    """Six of ten classes; with a past and a future the devkit knows velocities and attributes."""
    dataset = make(tiny_nuscenes)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        metrics = dataset.evaluate(perfect(dataset), out_dir=tmp_path)
    assert metrics['mAP'] == pytest.approx(0.6, abs=1e-9)
    assert metrics['mAVE'] == pytest.approx(3 / 8, abs=1e-4)
    assert metrics['mAAE'] == pytest.approx(3 / 8, abs=1e-9)
    assert metrics['mASE'] == pytest.approx(0.4, abs=1e-5)
    assert metrics['NDS'] == pytest.approx((5 * 0.6 + 0.6 + 0.6 + 6 / 9 + 5 / 8 + 5 / 8) / 10, abs=1e-3)
    assert json.loads((tmp_path / 'metrics_summary.json').read_text())['mean_ap'] == metrics['mAP']
    assert set(json.loads((tmp_path / 'results_nusc.json').read_text())['results']) == {
        f'scene-0003-{i}' for i in range(4)
    }
    out, err = capfd.readouterr()
    assert out == ''  # the devkit's own prints
    assert all('there is no ground truth of the classes' in line for line in err.splitlines())


def test_nothing_found_scores_nothing(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    nothing = dict(
        boxes_3d=LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9),
        scores_3d=torch.zeros(0),
        labels_3d=torch.zeros(0),
    )
    metrics = dataset.evaluate([nothing] * 4)
    assert metrics['mAP'] == metrics['NDS'] == 0
    assert metrics['mATE'] == 1


def test_part_of_a_split_is_scored_with_a_warning(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    dataset.infos = dataset.infos[:3]
    with pytest.warns(UserWarning, match="3 of the 4 samples of split 'val' are scored: no official result"):
        metrics = dataset.evaluate(perfect(dataset))
    assert metrics['mAP'] == pytest.approx(0.6, abs=1e-9)


def test_boxes_of_the_wrong_convention_are_warned_about(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    for result in results:
        result['boxes_3d'].tensor = convert_boxes(result['boxes_3d'].tensor, 'v1.0', 'legacy')
    with pytest.warns(UserWarning, match='boxes of the wrong convention look like this'):
        metrics = dataset.evaluate(results)
    assert metrics['mAP'] == pytest.approx(0.6, abs=1e-9)


def test_beginners_are_not_said_to_have_another_convention(tiny_nuscenes: Path) -> None:
    """Boxes of a detector that hardly finds anything are of all sizes and headings."""
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    for result in results:
        right = convert_boxes(result['boxes_3d'].tensor, 'v1.0', 'legacy')
        wrong = right.repeat(10, 1)
        wrong[:, :2] *= torch.linspace(1.2, 1.5, 10).repeat_interleave(len(right))[:, None]
        result['boxes_3d'] = LiDARInstance3DBoxes(torch.cat([right, wrong]), box_dim=9)
        result['scores_3d'] = torch.tensor([0.5, *[0.9] * 10]).repeat_interleave(len(right))
        result['labels_3d'] = result['labels_3d'].repeat(11)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        metrics = dataset.evaluate(results)
    assert 0 < metrics['mAP'] < 0.1


def test_the_best_500_boxes_go_to_the_devkit(tiny_nuscenes: Path, tmp_path: Path) -> None:
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    for result in results:
        many = result['boxes_3d'].tensor[:1].repeat(600, 1)
        result['boxes_3d'] = LiDARInstance3DBoxes(torch.cat([many, result['boxes_3d'].tensor]), box_dim=9)
        trailers = torch.full((600,), dataset.CLASSES.index('trailer'))
        result['labels_3d'] = torch.cat([trailers, result['labels_3d']])
        result['scores_3d'] = torch.cat([torch.linspace(0.1, 0.2, 600), result['scores_3d']])
    assert dataset.evaluate(results, tmp_path)['mAP'] == pytest.approx(0.6, abs=1e-9)
    for boxes in json.loads((tmp_path / 'results_nusc.json').read_text())['results'].values():
        assert len(boxes) == 500
        assert min(box['detection_score'] for box in boxes) > 0.116


def test_mistakes_are_said(tiny_nuscenes: Path, one_frame_root: Path) -> None:
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    with pytest.raises(ValueError, match='3 predictions for 4 samples'):
        dataset.evaluate(results[:3])
    results[1]['boxes_3d'].tensor[2, 3] = np.nan
    with pytest.raises(ValueError, match='sample scene-0003-1 have boxes that are not finite'):
        dataset.evaluate(results)
    with pytest.raises(ValueError, match=r"holds no samples \(is the split 'mini_val' empty"):
        make(one_frame_root).evaluate([])
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    dataset.infos[2] = dict(dataset.infos[2], token='stranger')
    with pytest.raises(ValueError, match=r'1 predicted samples \(first stranger\) are not in'):
        dataset.evaluate(results)


@pytest.mark.parametrize(
    ('field', 'change', 'said'),
    [
        ('labels_3d', lambda labels: labels + 9, 'labels beyond the 10 classes'),
        ('labels_3d', lambda labels: labels - 9, 'labels beyond the 10 classes'),
        ('scores_3d', lambda scores: scores[1:], r'(\d+) boxes, \d+ scores and \1 labels'),
        ('labels_3d', lambda labels: labels[1:], r'(\d+) boxes, \1 scores and \d+ labels'),
        (
            'boxes_3d',
            lambda boxes: LiDARInstance3DBoxes(boxes.tensor[:, :7]),
            '7 numbers per box, no velocity',
        ),
    ],
)
def test_results_that_do_not_fit_are_said(
    field: str, change: Callable[[Any], Any], said: str, tiny_nuscenes: Path
) -> None:
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    results[2][field] = change(results[2][field])
    with pytest.raises(ValueError, match=f'predictions for sample scene-0003-2 have {said}'):
        dataset.evaluate(results)


def test_a_detector_of_few_classes_is_scored_over_its_own_too(tiny_nuscenes: Path, caplog: Any) -> None:
    dataset = NuScenesTemporalDataset(str(tiny_nuscenes), VAL, [], classes=['car', 'trailer'], test_mode=True)
    metrics = dataset.evaluate(perfect(dataset))
    assert metrics['mAP'] == pytest.approx(0.1)
    assert metrics['mAP/own classes'] == pytest.approx(0.5)
    assert metrics['mATE/own classes'] == pytest.approx(0.5, abs=1e-5)
    assert set(metrics) == set(dataset.metric_names())
    assert 'knows 2 (car, trailer)' in caplog.text
    assert 'no ground truth of the classes trailer' in caplog.text
    cones = NuScenesTemporalDataset(str(tiny_nuscenes), VAL, [], classes=['barrier'], test_mode=True)
    metrics = cones.evaluate(perfect(cones))
    assert metrics['NDS/own classes'] == pytest.approx(1, abs=1e-4)  # without velocity and attribute
    assert all(np.isfinite(list(metrics.values())))


def test_what_evaluation_needs_is_looked_for_before(tiny_nuscenes: Path, tmp_path: Path) -> None:
    make(tiny_nuscenes).check_evaluation()
    dataset = make(tiny_nuscenes)
    dataset.data_root = tmp_path
    with pytest.raises(FileNotFoundError, match=r'no tables of v1.0-trainval'):
        dataset.check_evaluation()
    shutil.copytree(tiny_nuscenes, tmp_path, dirs_exist_ok=True)
    dataset.check_evaluation()
    table = tmp_path / 'v1.0-trainval/sample_annotation.json'
    content = table.read_bytes()
    table.write_bytes(content + b'\n \n')
    dataset.check_evaluation()
    for half in (content[: len(content) // 2], content[:-1], content[:-100] + bytes(100)):
        table.write_bytes(half)
        with pytest.raises(ValueError, match=r'sample_annotation\.json is not valid JSON \(it is cut off\)'):
            dataset.check_evaluation()
    dataset = make(tiny_nuscenes)
    dataset.infos = [dict(info, valid_flag=info['valid_flag'] & False) for info in dataset.infos]
    with pytest.raises(ValueError, match=r'no ground truth .* has a LiDAR or radar point'):
        dataset.check_evaluation()
    dataset.infos = []
    with pytest.raises(ValueError, match='holds no samples'):
        dataset.check_evaluation()
    dataset = make(tiny_nuscenes)
    for info in dataset.infos:
        info['gt_boxes'][:, :2] += 500
    with pytest.raises(ValueError, match='are farther than the devkit scores'):
        dataset.check_evaluation()


def test_scores_that_are_not_finite_are_an_error(tiny_nuscenes: Path) -> None:
    dataset = make(tiny_nuscenes)
    results = perfect(dataset)
    results[0]['scores_3d'][0] = np.nan
    with pytest.raises(ValueError, match='sample scene-0003-0 have scores that are not finite'):
        dataset.evaluate(results)
