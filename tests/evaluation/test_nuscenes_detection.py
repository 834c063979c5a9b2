"""Ours beside the devkit, which is the oracle: the same numbers from arrays as from its objects."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects.mmdet3d_plugin.evaluation.nuscenes_annotations import NuScenesAnnotations
from projects.mmdet3d_plugin.evaluation.nuscenes_boxes import CLASSES, NuScenesBoxes
from projects.mmdet3d_plugin.evaluation.nuscenes_detection import (
    detection_config,
    keep_scored,
    score_detections,
)
from projects.mmdet3d_plugin.evaluation.nuscenes_devkit import score_with_devkit
from projects.mmdet3d_plugin.evaluation.nuscenes_metric import evaluate_nuscenes
from projects.mmdet3d_plugin.evaluation.nuscenes_predictions import NuScenesPredictions
from tools.benchmark.measure.nuscenes_eval import VERSION, random_results, write_tables

World = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Tables of a scene: racks, velocities and attributes that are not known, boxes without points, an empty class."""
    root = tmp_path_factory.mktemp('world')
    return root, write_tables(root, samples=24, objects=40)


def numbers(summary: dict[str, Any]) -> dict[str, float]:
    """Every number of a metrics_summary.json by its path, but the time it took."""
    found = {}
    for key, value in summary.items():
        if isinstance(value, dict):
            found |= {f'{key}/{inner}': number for inner, number in numbers(value).items()}
        elif isinstance(value, int | float | None) and key != 'eval_time':
            found[str(key)] = np.nan if value is None else float(value)
    return found


def compare(world: World, predictions: NuScenesPredictions, tmp_path: Path) -> dict[str, Any]:
    """Score with both, require the same figures, and give ours."""
    root, _ = world
    path = predictions.write(tmp_path / 'results_nusc.json')
    theirs = score_with_devkit(path, root, VERSION, 'val', predictions.tokens)
    annotations = NuScenesAnnotations.load(root, VERSION, tmp_path).of_samples(predictions.tokens)
    found, truth = (keep_scored(b, predictions.ego, annotations) for b in (predictions.boxes, annotations))
    ours = score_detections(found, truth)
    assert list(ours) == list(theirs)
    wanted, got = numbers(theirs), numbers(ours)
    assert list(got) == list(wanted)
    assert len(wanted) > 120
    worst = max(wanted, key=lambda key: np.nan_to_num(abs(got[key] - wanted[key])))
    assert np.allclose(list(got.values()), list(wanted.values()), rtol=0, atol=1e-12, equal_nan=True), worst
    return ours


def test_noisy_predictions_with_ties_score_as_in_the_devkit(world: World, tmp_path: Path) -> None:
    """Scores of two digits are mostly shared, and each object is found twice."""
    root, infos = world
    predictions = NuScenesPredictions.from_results(random_results(root, infos, 90), infos, CLASSES)
    assert len(np.unique(predictions.boxes.score)) < len(predictions.boxes) / 5
    annotations = NuScenesAnnotations.load(root, VERSION, tmp_path).of_samples(predictions.tokens)
    assert np.isnan(annotations.velocity).any()
    assert (annotations.attribute[annotations.label < len(CLASSES)] < 0).any()
    near = annotations.take(annotations.label < len(CLASSES))
    in_racks = len(keep_scored(near, predictions.ego, near)) - len(
        keep_scored(near, predictions.ego, annotations)
    )
    assert in_racks > 10
    ours = compare(world, predictions, tmp_path)
    assert 0.1 < ours['mean_ap'] < 0.9
    assert ours['mean_dist_aps']['construction_vehicle'] == 0  # nothing is of it


def test_equal_distances_and_exact_thresholds(world: World, tmp_path: Path) -> None:
    """Predictions in the middle of two objects, and exactly as far away as a threshold; all scores are equal."""
    root, infos = world[0], world[1][:8]
    annotations = NuScenesAnnotations.load(root, VERSION, tmp_path).of_samples([i['token'] for i in infos])
    truth = annotations.take(annotations.label < len(CLASSES)).take(slice(None, None, 2))
    middle = (truth.translation[1:] + truth.translation[:-1]) / 2
    places = [
        truth.translation + shift for shift in ([0.5, 0, 0], [0, -1, 0], [2, 0, 0], [2.4, 3.2, 0], [0, 0, 0])
    ]
    parts = [NuScenesBoxes(**{**vars(truth), 'translation': place}) for place in places]
    parts.append(NuScenesBoxes(**{**vars(truth.take(slice(1, None))), 'translation': middle}))
    boxes = NuScenesBoxes.join(parts)
    boxes = boxes.take(np.lexsort((np.arange(len(boxes)) % 7, boxes.sample)))
    # a submission file has nine decimals, as predictions from results do
    rounded = {
        name: np.nan_to_num(getattr(boxes, name)).round(9)
        for name in ('translation', 'size', 'rotation', 'velocity')
    }
    same = dict(score=np.full(len(boxes), 0.5), points=np.full(len(boxes), -1))
    boxes = NuScenesBoxes(**{**vars(boxes), **rounded, **same})
    ego = np.array([info['ego2global_translation'][:2] for info in infos])
    compare(world, NuScenesPredictions([i['token'] for i in infos], ego, boxes), tmp_path)


def test_few_boxes_of_few_samples(world: World, tmp_path: Path) -> None:
    """Some classes have no prediction, one sample has none at all, and the samples are not in the tables' order."""
    root, infos = world
    results = random_results(root, infos, 30)
    some = [21, 3, 2, 20, 5]
    infos = [infos[index] for index in some]
    results = [dict(results[index]) for index in some]
    keep = results[0]['labels_3d'] < 3
    results[0] = dict(
        boxes_3d=results[0]['boxes_3d'][keep],
        scores_3d=results[0]['scores_3d'][keep],
        labels_3d=results[0]['labels_3d'][keep],
    )
    results[1] = {key: value[:0] for key, value in results[1].items()}
    compare(world, NuScenesPredictions.from_results(results, infos, CLASSES), tmp_path)


def test_nothing_found(world: World, tmp_path: Path) -> None:
    root, infos = world
    results = [{key: value[:0] for key, value in result.items()} for result in random_results(root, infos, 1)]
    ours = compare(world, NuScenesPredictions.from_results(results, infos, CLASSES), tmp_path)
    assert ours['mean_ap'] == ours['nd_score'] == 0


def test_the_devkit_is_asked_on_demand(world: World, tmp_path: Path) -> None:
    root, infos = world
    predictions = NuScenesPredictions.from_results(random_results(root, infos, 510)[:2], infos[:2], CLASSES)
    assert (np.bincount(predictions.boxes.sample) == 500).all()  # more than the devkit allows
    with pytest.warns(UserWarning, match='2 of the 24 samples'):
        ours = evaluate_nuscenes(predictions, root, VERSION, 'val', tmp_path / 'ours')
    with pytest.warns(UserWarning, match='2 of the 24 samples'):
        theirs = evaluate_nuscenes(predictions, root, VERSION, 'val', tmp_path / 'theirs', evaluator='devkit')
    assert ours == pytest.approx(theirs, abs=1e-12)
    summaries = [
        json.loads((tmp_path / name / 'metrics_summary.json').read_text()) for name in ('ours', 'theirs')
    ]
    assert list(summaries[0]) == list(summaries[1])
    with pytest.raises(ValueError, match="no evaluator 'kitti'; choose one of arrays, devkit"):
        evaluate_nuscenes(predictions, root, VERSION, 'val', evaluator='kitti')


def test_the_submission_file_holds_what_is_scored(world: World, tmp_path: Path) -> None:
    root, infos = world
    predictions = NuScenesPredictions.from_results(
        random_results(root, infos, 40), infos, CLASSES, sensor='lidar'
    )
    content = json.loads(predictions.write(tmp_path / 'results.json').read_text())
    assert content['meta']['use_lidar']
    assert not content['meta']['use_camera']
    assert list(content['results']) == predictions.tokens
    records = [record for rows in content['results'].values() for record in rows]
    for field in ('translation', 'size', 'rotation', 'velocity'):
        assert np.array_equal([record[field] for record in records], getattr(predictions.boxes, field))
    assert np.array_equal([record['detection_score'] for record in records], predictions.boxes.score)
    assert {record['sample_token'] for record in records} == set(predictions.tokens)


@pytest.mark.filterwarnings('ignore:2 of the 24 samples')
def test_boxes_without_extent_are_refused(world: World, tmp_path: Path) -> None:
    root, infos = world[0], world[1][:2]
    predictions = NuScenesPredictions.from_results(random_results(root, infos, 60), infos, CLASSES)
    predictions.boxes.size[:, 2] = 0
    for evaluator, said in (
        ('arrays', 'height that is not positive'),
        ('devkit', 'devkit refuses .*sizes must be'),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate_nuscenes(predictions, root, VERSION, 'val', cache_dir=tmp_path, evaluator=evaluator)


def test_ranges_are_those_of_the_official_evaluation() -> None:
    """Each class once, in the order of the devkit's sums, each with thresholds that our curves know."""
    config = detection_config()
    assert set(config.class_names) == set(CLASSES)
    assert config.dist_th_tp in config.dist_ths
