import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.evaluation import nuscenes_annotations
from projects.mmdet3d_plugin.evaluation.nuscenes_annotations import NuScenesAnnotations
from tools.benchmark.measure.nuscenes_eval import VERSION, write_tables


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Tables of six samples."""
    write_tables(tmp_path, samples=6, objects=8)
    return tmp_path


def edit(root: Path, table: str, **fields: Any) -> None:
    """Change the first record of a table."""
    path = root / VERSION / f'{table}.json'
    rows = json.loads(path.read_text())
    rows[0] |= fields
    write_json(path, rows)


def load(root: Path) -> NuScenesAnnotations:
    return NuScenesAnnotations.load(root, VERSION, root / 'infos')


def test_tables_are_read_once_and_again_when_they_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = nuscenes_annotations._read_tables
    monkeypatch.setattr(nuscenes_annotations, '_read_tables', lambda *paths: reads.append(1) or read(*paths))
    first, second = load(root), load(root)
    assert len(reads) == 1
    for name, column in vars(first.boxes).items():
        assert np.array_equal(column, getattr(second.boxes, name), equal_nan=column.dtype.kind == 'f')
    assert np.array_equal(first.tokens, second.tokens)
    edit(root, 'sample_annotation', num_lidar_pts=90909)
    assert 90909 in load(root).boxes.points
    assert len(reads) == 2
    path = root / VERSION / 'sample_annotation.json'
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # the same size at another time
    load(root)
    assert len(reads) == 3
    before = path.stat()
    other = path.with_suffix('.other')  # another file of the same size, which says it is as old
    other.write_text(path.read_text().replace('90909', '80808'))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert 80808 in load(root).boxes.points


@pytest.mark.parametrize('content', [b'', b'PK\3\4 cut off'])
def test_a_damaged_cache_is_made_again(root: Path, content: bytes) -> None:
    whole = load(root)
    (cache,) = (root / 'infos').iterdir()
    cache.write_bytes(content)
    assert np.array_equal(load(root).boxes.translation, whole.boxes.translation)
    assert cache.stat().st_size > len(content)


def test_without_a_place_for_the_cache_tables_are_read_each_time(root: Path) -> None:
    (root / 'infos').write_text('a file, no folder')
    assert len(load(root).boxes)


@pytest.mark.parametrize(
    ('table', 'fields', 'message'),
    [
        ('sample_annotation', dict(sample_token='lost'), r"sample_annotation.json refers to 'lost'"),
        ('sample_annotation', dict(next='lost'), r"sample_annotation.json refers to 'lost'"),
        ('sample_annotation', dict(size=[1.0, 2.0]), 'without the fields of an annotation'),
        ('sample_annotation', dict(size=None), 'sample_annotation.json is damaged'),
        ('sample', dict(scene_token='lost'), r"sample.json refers to 'lost'"),
        ('instance', dict(category_token='lost'), r"instance.json refers to 'lost'"),
    ],
)
def test_damaged_tables_are_named(root: Path, table: str, fields: dict[str, Any], message: str) -> None:
    edit(root, table, **fields)
    with pytest.raises(ValueError, match=message):
        load(root)


def test_records_must_be_whole(root: Path) -> None:
    path = root / VERSION / 'sample_annotation.json'
    rows = json.loads(path.read_text())
    rows[1].pop('rotation')
    write_json(path, rows)
    with pytest.raises(ValueError, match='records without the fields of an annotation'):
        load(root)
    path.write_text(path.read_text().replace('"size":[', '"size":[NaN,', 1))
    with pytest.raises(ValueError, match=r'sample_annotation.json'):
        load(root)
    path.unlink()
    with pytest.raises(ValueError, match=r'sample_annotation.json is missing'):
        load(root)


def test_an_attribute_that_nuscenes_does_not_know_is_refused_where_a_box_has_it(root: Path) -> None:
    before = load(root)
    path = root / VERSION / 'attribute.json'
    path.write_text(path.read_text().replace(']', ',{"token":"x","name":"animal.asleep"}]'))
    assert np.array_equal(load(root).boxes.attribute, before.boxes.attribute)
    rows = json.loads((root / VERSION / 'sample_annotation.json').read_text())
    car = next(index for index, row in enumerate(rows) if row['attribute_tokens'])
    rows[car]['attribute_tokens'] = ['x']
    write_json(root / VERSION / 'sample_annotation.json', rows)
    with pytest.raises(
        ValueError, match=r"sample_annotation.json: .* has the attribute 'animal.asleep', which is none"
    ):
        load(root)


def test_one_annotation_twice_is_refused(root: Path) -> None:
    path = root / VERSION / 'sample_annotation.json'
    rows = json.loads(path.read_text())
    write_json(path, [*rows, next(row for row in rows if row['attribute_tokens'])])
    with pytest.raises(ValueError, match='or two of one token'):
        load(root)
    path = root / VERSION / 'category.json'
    write_json(path, [{'token': row['token']} for row in json.loads(path.read_text())])
    with pytest.raises(ValueError, match='has no name'):
        load(root)


def test_more_than_a_record_of_ours_is_no_matter(root: Path) -> None:
    """Someone's own fields, objects among them, stay where they are."""
    before = load(root)
    edit(root, 'sample_annotation', notes=dict(by='someone'))
    assert np.array_equal(load(root).boxes.translation, before.boxes.translation)


def test_two_attributes_are_refused_where_they_count(root: Path) -> None:
    rows = json.loads((root / VERSION / 'sample_annotation.json').read_text())
    edit(root, 'sample_annotation', attribute_tokens=['vehicle.moving', 'vehicle.parked'])
    known = load(root)
    with pytest.raises(ValueError, match='more than one attribute'):
        known.of_samples([rows[0]['sample_token']])
    other = next(row['sample_token'] for row in rows if row['sample_token'] != rows[0]['sample_token'])
    known.of_samples([other])
