"""Images in COCO's layout: reproducible samples, COCO's AP, and one line for what is wrong."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import Config
from mmdet.datasets import CocoDataset

from projects.configs._base_ import coco
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.builder import build_dataset, require_files
from projects.mmdet3d_plugin.datasets.coco_images import RESULT_FILE, CocoImages
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from projects.mmdet3d_plugin.engine.build import build_loader
from projects.mmdet3d_plugin.engine.launch import Launch
from projects.mmdet3d_plugin.worlds.writers.coco_writer import CATEGORIES
from tests.engine.toy import ONE_PROCESS


def config(root: Path, split: str = 'val', **changes: object) -> dict:
    data = coco.data(f'{root}/', list(CATEGORIES), scale=(96, 64))
    return {**data[split], 'test_mode': split != 'train', **changes}


def dataset(root: Path, split: str = 'val', **changes: object) -> CocoImages:
    return build_dataset(Config(config(root, split, **changes))._cfg_dict)


def truth_as_results(data: CocoImages, noise: float = 0.0) -> list[list[np.ndarray]]:
    """What a detector would return that finds every true box, moved a little."""
    rng, results = np.random.default_rng(0), []
    for index in range(len(data)):
        found = data.get_ann_info(index)
        boxes = found['bboxes'] + noise * rng.normal(size=found['bboxes'].shape)
        scored = np.column_stack([boxes, rng.uniform(0.1, 1, len(boxes))]).astype(np.float32)
        results.append([scored[found['labels'] == label] for label in range(len(data.CLASSES))])
    return results


def test_truth_fed_back_is_perfect_and_nothing_is_nothing(coco_world: Path, tmp_path: Path) -> None:
    data = dataset(coco_world)
    metrics = data.evaluate(truth_as_results(data), out_dir=tmp_path)
    assert metrics['mAP'] == metrics['mAP_50'] == pytest.approx(1.0)
    assert set(metrics) <= set(data.metric_names())
    rows = json.loads((tmp_path / RESULT_FILE).read_text())
    assert rows[0].keys() == {'image_id', 'bbox', 'score', 'category_id'}
    assert json.loads(Path(data.format_results(truth_as_results(data), tmp_path)).read_text()) == rows
    nothing = [[np.zeros((0, 5), np.float32)] * len(CATEGORIES)] * len(data)
    assert data.evaluate(nothing)['mAP'] == 0.0


def test_figures_are_mmdets_own_unrounded(coco_world: Path) -> None:
    data = dataset(coco_world)
    results = truth_as_results(data, noise=1.5)
    ours = data.evaluate(results)
    cfg = {key: value for key, value in config(coco_world).items() if key != 'type'}
    theirs = CocoDataset(**cfg).evaluate(results, metric='bbox', logger='silent')
    assert 0.05 < ours['mAP'] < 0.95
    for name in ('mAP', 'mAP_50', 'mAP_75'):
        assert ours[name] == pytest.approx(theirs[f'bbox_{name}'], abs=6e-4)


def test_a_box_on_something_barely_seen_is_no_mistake(coco_world: Path) -> None:
    data = dataset(coco_world)
    crowd = next(item for item in data.coco.anns.values() if item['iscrowd'])
    results = truth_as_results(data)
    index, label = data.img_ids.index(crowd['image_id']), crowd['category_id'] - 1
    x, y, w, h = crowd['bbox']
    extra = np.array([[x, y, x + w, y + h, 1.0]], np.float32)
    results[index][label] = np.concatenate([extra, results[index][label]])
    assert data.evaluate(results)['mAP'] == pytest.approx(1.0)


def test_a_seed_fixes_a_sample(coco_world: Path) -> None:
    data = dataset(coco_world, 'train')
    images = [[data[SeededIndex(0, seed)]['img'].data for seed in range(6)] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*images, strict=True))
    assert any(not torch.equal(images[0][0], other) for other in images[0])  # some are flipped


def test_processes_share_the_images_out(coco_world: Path) -> None:
    data, cfg = dataset(coco_world), Config(dict(data=dict()))
    parts = [
        list(build_loader(cfg, data, False, Launch(rank, 2, torch.device('cpu'), True)).sampler)
        for rank in (0, 1)
    ]
    assert sorted(parts[0] + parts[1]) == list(range(len(data)))
    assert abs(len(parts[0]) - len(parts[1])) <= 1


def test_lists_of_files_are_evaluated_one_by_one(coco_world: Path, tmp_path: Path) -> None:
    files = [config(coco_world)['ann_file']] * 2
    data = dataset(coco_world, ann_file=files)
    single = dataset(coco_world)
    metrics = data.evaluate(truth_as_results(single) * 2, out_dir=str(tmp_path))
    assert metrics['0/mAP'] == metrics['1/mAP'] == pytest.approx(1.0)


def test_what_is_wrong_is_said_in_one_line(coco_world: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='give classes in the order of the file'):
        dataset(coco_world, classes=list(reversed(CATEGORIES)))
    with pytest.raises(UserError, match=r"of them it has \['car'\]"):
        dataset(coco_world, classes=['car', 'zebra'])
    broken = tmp_path / 'broken.json'
    broken.write_text('{"images": ')
    with pytest.raises(UserError, match='is no annotation file in COCO format'):
        dataset(coco_world, ann_file=str(broken))
    with pytest.raises(UserError, match=r'create_synthetic\.py --format coco --out'):
        require_files(config(tmp_path))


def test_mmdets_own_class_is_sent_to_ours(coco_world: Path) -> None:
    data = dataset(coco_world, type='CocoDataset')
    with pytest.raises(UserError, match=r'CocoDataset does not say its scene_tokens.*CocoImages'):
        build_loader(Config(dict(data=dict())), data, False, ONE_PROCESS)


def test_images_that_cannot_be_read_are_named(coco_world: Path, tmp_path: Path) -> None:
    root = tmp_path / 'copy'
    shutil.copytree(coco_world, root)
    data = dataset(root)
    first, second = data.image_path(0), data.image_path(1)
    first.unlink()
    second.write_bytes(b'no image')
    data.image_path(2).write_bytes(b'')
    with pytest.raises(UserError, match=f'{first.name} does not exist'):
        data[0]
    with pytest.raises(UserError, match=f'{second.name} is no image'):
        data[1]
    with pytest.raises(UserError, match='is no image'):
        data[2]
    assert data[3]['img'][0].shape[0] == 3


def test_files_without_annotations_have_no_labels(coco_world: Path, tmp_path: Path) -> None:
    content = json.loads((coco_world / 'annotations/instances_val2017.json').read_text())
    content['annotations'] = []
    (tmp_path / 'test.json').write_text(json.dumps(content))
    assert not dataset(coco_world, ann_file=str(tmp_path / 'test.json')).has_labels
    assert dataset(coco_world).has_labels


def every(rows: str, **values: object) -> Callable[[dict], None]:
    """A change of all rows of a kind; ... takes a key out."""

    def change(content: dict) -> None:
        for row in content[rows]:
            for key, value in values.items():
                row.pop(key) if value is ... else row.update({key: value})

    return change


MUTANTS = {
    'bbox nan': (every('annotations', bbox=[float('nan'), 1, 5, 5]), 'annotation 1 has the bbox'),
    'bbox infinite': (every('annotations', bbox=[0, 1, float('inf'), 5]), 'four finite numbers'),
    'bbox of three': (every('annotations', bbox=[1, 2, 3]), 'four finite numbers'),
    'bbox of text': (every('annotations', bbox=['a', 1, 2, 3]), 'four finite numbers'),
    'bbox negative': (every('annotations', bbox=[1, 1, -5, 5]), 'whose size is negative'),
    'bbox gone': (every('annotations', bbox=...), "annotation 1 has no 'bbox'"),
    'area gone': (every('annotations', area=...), "has no 'area' .of a box without a mask"),
    'area of text': (every('annotations', area='big'), "has the area 'big'"),
    'category unknown': (every('annotations', category_id=999), 'category 999, which the file does not have'),
    'image unknown': (every('annotations', image_id=999), 'image 999, which the file does not have'),
    'annotations twice': (every('annotations', id=1), 'two annotation rows have the id 1|not unique'),
    'images twice': (lambda c: c['images'].append(dict(c['images'][0])), 'two image rows have the id'),
    'width zero': (every('images', width=0), 'has the width 0'),
    'width gone': (every('images', width=...), 'has the width None'),
    'beyond the images': (every('annotations', bbox=[1000, 1000, 20, 20]), r'none of its \d+ boxes can be learnt'),
    'all crowds': (every('annotations', iscrowd=1), r'none of its \d+ boxes can be learnt'),
    'images of another size': (every('images', width=960, height=640), 'is 96x64 pixels, but .* says 960x640'),
}  # fmt: skip


@pytest.mark.parametrize('kind', MUTANTS)
def test_rows_that_cannot_be_right_are_named(coco_world: Path, tmp_path: Path, kind: str) -> None:
    change, message = MUTANTS[kind]
    content = json.loads((coco_world / 'annotations/instances_train2017.json').read_text())
    change(content)
    (tmp_path / 'bad.json').write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        dataset(coco_world, 'train', ann_file=str(tmp_path / 'bad.json'))[0]
    assert re.search(message, str(caught.value)), caught.value
    assert kind == 'images of another size' or 'bad.json' in str(caught.value)
