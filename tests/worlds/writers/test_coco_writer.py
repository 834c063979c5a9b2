"""The synthetic world in COCO's layout: boxes of what shows, and files that pycocotools reads."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.mmdet3d_plugin.worlds.create import create_coco_world, main
from projects.mmdet3d_plugin.worlds.renderer import Picture, Renderer
from projects.mmdet3d_plugin.worlds.scene import Scene
from projects.mmdet3d_plugin.worlds.writers.coco_writer import (
    CATEGORIES,
    LEAST_SHARE,
    LEAST_SIDE,
    CocoSpec,
    CocoWorld,
    visible_objects,
)


@pytest.fixture(scope='module')
def pictures(scene: Scene) -> list[Picture]:
    renderer = Renderer(scene)
    return [renderer.render(camera, 0.0) for camera in scene.rig.cameras]


def test_boxes_are_the_bounds_of_what_shows(scene: Scene, pictures: list[Picture]) -> None:
    clear = crowded = 0
    for picture in pictures:
        found = {item['category_id']: item for item in visible_objects(scene, picture)}
        items = visible_objects(scene, picture)
        shown = [i for i in np.unique(picture.owner) if i >= 0 and scene.things[i].labelled]
        assert len(items) == len(shown)
        assert {CATEGORIES[number - 1] for number in found} == {scene.things[i].kind for i in shown}
        for index, item in zip(shown, items, strict=True):
            rows, columns = np.nonzero(picture.owner == index)
            x, y, w, h = item['bbox']
            assert (x, y, x + w, y + h) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert item['area'] == len(rows)
            share = picture.seen[index] / picture.whole[index]
            assert item['iscrowd'] == (share < LEAST_SHARE or min(w, h) < LEAST_SIDE)
            crowded, clear = crowded + item['iscrowd'], clear + 1 - item['iscrowd']
    assert clear > 5
    assert crowded > 0


def test_what_is_hidden_counts_neither_way_and_the_border_cuts_boxes(
    scene: Scene, pictures: list[Picture]
) -> None:
    picture = max(pictures, key=lambda picture: picture.seen.max())
    index = int(max(np.unique(picture.owner[picture.owner >= 0]), key=lambda i: picture.seen[i]))
    if not scene.things[index].labelled:
        index = next(i for i in np.unique(picture.owner) if i >= 0 and scene.things[i].labelled)
    whole = picture.whole.copy()
    whole[index] = picture.seen[index] / (LEAST_SHARE / 2)  # as if something stood before it
    before, after = visible_objects(scene, picture), visible_objects(scene, replace(picture, whole=whole))
    assert sum(item['iscrowd'] for item in after) > sum(item['iscrowd'] for item in before)
    height, width = picture.owner.shape
    for x, y, w, h in (item['bbox'] for item in after):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height


def _digests(root: Path) -> dict[str, str]:
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in root.rglob('*.jpg')}


def test_a_scene_does_not_depend_on_how_many_there_are(coco_world: Path, tmp_path: Path) -> None:
    arguments = (tmp_path / 'one', 1, 3, (96, 64))
    assert create_coco_world(*arguments, workers=1, progress=False)
    assert not create_coco_world(*arguments, workers=1, progress=False)
    one, three = _digests(tmp_path / 'one'), _digests(coco_world)
    assert (len(one), len(three)) == (6, 18)
    assert one.items() <= three.items()


def test_the_layout_is_cocos(coco_world: Path) -> None:
    files = {split: coco_world / f'annotations/instances_{split}2017.json' for split in ('train', 'val')}
    train, val = (json.loads(path.read_text()) for path in files.values())
    assert (len(train['images']), len(val['images'])) == (12, 6)
    assert [category['name'] for category in train['categories']] == list(CATEGORIES)
    assert len({item['id'] for item in train['annotations']}) == len(train['annotations'])
    for row in train['images']:
        image = cv2.imread(str(coco_world / 'train2017' / row['file_name']))
        assert image.shape == (row['height'], row['width'], 3)


def test_the_last_fifth_is_for_validation() -> None:
    assert len(CocoWorld.of(CocoSpec(10, 0, 64, 64)).training) == 8
    assert len(CocoWorld.of(CocoSpec(2, 0, 64, 64)).training) == 1
    assert len(CocoWorld.of(CocoSpec(1, 0, 64, 64)).training) == 1


def test_sweeps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ['--format', 'coco', '--out', str(tmp_path / 'w'), '--scenes', '1', '--sweeps', '2']
    assert main(command) == 2
    assert '--sweeps is for --format nuscenes' in capsys.readouterr().err
