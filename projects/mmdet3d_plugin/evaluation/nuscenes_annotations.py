"""The boxes that nuScenes' tables hold for detection, as arrays: read from JSON once, then from a cache of numpy arrays."""

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_arrays, write_file
from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.evaluation.nuscenes_boxes import ATTRIBUTES, CLASSES, NO_ATTRIBUTE, NuScenesBoxes
from projects.mmdet3d_plugin.evaluation.nuscenes_tables import read_table

BIKE_RACK = len(CLASSES)
"""Label of the bicycle racks: no class, but the devkit leaves out cycles that stand in one."""
_SOURCES = ('category', 'attribute', 'instance', 'scene', 'sample', 'sample_annotation')
_LAYOUT = 1  # of the cache; another number makes older caches stale
_TWO_ATTRIBUTES = -2
_MAX_GAP = 1.5  # seconds between keyframes beyond which the devkit estimates no velocity
_NUMBERS = 10  # per annotation: translation, size, rotation


@dataclass(frozen=True)
class NuScenesAnnotations:
    """Every box of a version that detection is scored on, and every bicycle rack.

    Attributes:
        tokens: (samples,) of all samples, in the order of their table.
        scenes: (samples,) name of the scene of each.
        boxes: sorted by sample, within one in the order of their table; label ``BIKE_RACK`` for racks.
    """

    tokens: np.ndarray
    scenes: np.ndarray
    boxes: NuScenesBoxes

    @classmethod
    def load(cls, root: Path, version: str, cache_dir: Path) -> 'NuScenesAnnotations':
        """Those of a data root; from the cache while no table has changed its size or its times.

        Args:
            root: folder in the layout of nuScenes.
            version: of the tables, e.g. ``'v1.0-trainval'``.
            cache_dir: where ``<version>_annotations.npz`` is kept. Where nobody may write, tables are read each time.

        Raises:
            UserError: a table is missing or damaged.
        """
        paths = [root / version / f'{name}.json' for name in _SOURCES]
        cache, stamp = cache_dir / f'{version}_annotations.npz', _stamp(paths)
        found = _read_cache(cache, stamp)
        if found is None:
            found = _read_tables(*paths)
            _write_cache(cache, found, stamp)
        return found

    def of_samples(self, tokens: Sequence[str]) -> NuScenesBoxes:
        """Boxes of some samples, whose ``sample`` is the place in ``tokens``; all must be known."""
        place = {str(token): index for index, token in enumerate(self.tokens)}
        wanted = np.array([place[token] for token in tokens], dtype=np.int64)
        start = np.searchsorted(self.boxes.sample, wanted, 'left')
        count = np.searchsorted(self.boxes.sample, wanted, 'right') - start
        first = np.cumsum(count) - count
        rows = np.arange(count.sum()) + np.repeat(start - first, count)
        boxes = self.boxes.take(rows)
        if (boxes.attribute == _TWO_ATTRIBUTES).any():
            raise UserError(
                'an annotation has more than one attribute; the devkit scores only those with one or none'
            )
        return NuScenesBoxes(**{**vars(boxes), 'sample': np.repeat(np.arange(len(tokens)), count)})


def _stamp(paths: Sequence[Path]) -> np.ndarray:
    """Size, time of change and time of arrival of every table, (len(paths) + 1, 3) int64.

    Archives and ``cp -p`` give a file the time of change of another one, but not the time at which it came to this place.
    """
    for path in paths:
        if not path.is_file():
            raise UserError(f'table {path} is missing; unpack the metadata archive again')
    stats = (path.stat() for path in paths)
    return np.array([(_LAYOUT, 0, 0), *((s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats)])


def _read_cache(path: Path, stamp: np.ndarray) -> NuScenesAnnotations | None:
    """What the cache holds; None where it is absent, damaged, or older than a table."""
    try:
        kept = read_arrays(path)
        if not np.array_equal(kept['stamp'], stamp):
            return None
        columns = {name: kept[name] for name in NuScenesBoxes.__dataclass_fields__}
        return NuScenesAnnotations(kept['tokens'], kept['scenes'], NuScenesBoxes(**columns))
    except (UserError, KeyError):
        return None


def _write_cache(path: Path, found: NuScenesAnnotations, stamp: np.ndarray) -> None:
    columns = dict(vars(found.boxes), tokens=found.tokens, scenes=found.scenes, stamp=stamp)
    try:
        write_file(path, lambda file: np.savez(file, **columns), sync=False)
    except UserError as error:
        get_logger().info('annotations are read from the tables each time: %s', error)


def _read_tables(
    category: Path, attribute: Path, instance: Path, scene: Path, sample: Path, sample_annotation: Path
) -> NuScenesAnnotations:
    labels = _labels_of_instances(read_table(category), read_table(instance), instance)
    names = {record['token']: record.get('name') for record in read_table(scene)}
    samples = read_table(sample)
    try:
        scenes = np.array([names[record['scene_token']] for record in samples], dtype=str)
        times = np.array([record['timestamp'] for record in samples], dtype=np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(sample, error) from None
    attributes = {record['token']: record for record in read_table(attribute)}
    tokens = np.array([record['token'] for record in samples], dtype=str)
    place = {record['token']: index for index, record in enumerate(samples)}
    rows = _AnnotationRows(labels, place, attributes)
    rows.read(sample_annotation)
    return NuScenesAnnotations(tokens, scenes, rows.boxes(times, sample_annotation))


def _labels_of_instances(
    categories: Sequence[dict[str, Any]], instances: Sequence[dict[str, Any]], path: Path
) -> dict[str, int | None]:
    """Label of every instance's category; None for those that detection knows nothing of."""
    labels = {}
    for record in categories:
        if 'name' not in record:
            raise UserError(
                f'category {record["token"]} beside {path} has no name; unpack the metadata archive again'
            )
        name = category_to_detection_name(record['name'])
        rack = BIKE_RACK if record['name'] == 'static_object.bicycle_rack' else None
        labels[record['token']] = rack if name is None else CLASSES.index(name)
    try:
        return {record['token']: labels[record['category_token']] for record in instances}
    except KeyError as error:
        raise _damaged(path, error) from None


class _AnnotationRows:
    """Columns of sample_annotation, filled while its JSON is parsed: a million records are never held at once.

    Args:
        labels: by instance; None leaves its records out.
        samples: place of every sample.
        attributes: record of every attribute.
    """

    FIELDS = frozenset(
        [
            'token',
            'sample_token',
            'instance_token',
            'attribute_tokens',
            'translation',
            'size',
            'rotation',
            'prev',
            'next',
            'num_lidar_pts',
            'num_radar_pts',
        ]
    )

    def __init__(
        self, labels: dict[str, int | None], samples: dict[str, int], attributes: dict[str, dict[str, Any]]
    ) -> None:
        self.labels, self.samples, self.attributes = labels, samples, attributes
        self.rows: dict[str, int] = {}
        self.numbers, self.integers = array('d'), array('q')
        self.links: list[tuple[str, str]] = []

    def read(self, path: Path) -> None:
        """Parse a table.

        Raises:
            UserError: it is damaged.
        """
        try:
            table = json.loads(path.read_bytes(), object_hook=self._add)
        except UserError as error:
            raise UserError(f'table {path}: {error}') from None
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path, error) from error
        whole = isinstance(table, list) and not any(table)  # a record that was taken leaves None in its place
        if not whole or len(self.numbers) != _NUMBERS * len(self.rows):
            raise UserError(
                f'table {path} has records without the fields of an annotation, or two of one token; unpack the metadata '
                'archive again'
            )

    def _add(self, record: dict[str, Any]) -> dict[str, Any] | None:
        """Take a record; what is none, such as an object within one, is given back."""
        if not record.keys() >= self.FIELDS:
            return record or {'empty': True}
        label = self.labels[record['instance_token']]
        if label is None:
            return None
        codes = [self._code_of(token) for token in record['attribute_tokens']]
        code = _TWO_ATTRIBUTES if len(codes) > 1 else codes[0] if codes else NO_ATTRIBUTE
        points = record['num_lidar_pts'] + record['num_radar_pts']
        self.rows[record['token']] = len(self.rows)
        self.integers.extend((self.samples[record['sample_token']], label, code, points))
        for field in ('translation', 'size', 'rotation'):
            self.numbers.extend(record[field])
        self.links.append((record['prev'], record['next']))
        return None

    def _code_of(self, token: str) -> int:
        """Place of an attribute in :data:`ATTRIBUTES`; those that no box of detection has may be of any name."""
        name = self.attributes[token].get('name')
        if name not in ATTRIBUTES:
            raise UserError(
                f'a box of a detection class has the attribute {name!r}, which is none of nuScenes detection '
                f'({", ".join(ATTRIBUTES)})'
            )
        return ATTRIBUTES.index(name)

    def boxes(self, times: np.ndarray, path: Path) -> NuScenesBoxes:
        """What was read, sorted by sample; velocities need the times (samples,) of the samples, microseconds."""
        numbers = np.array(self.numbers).reshape(-1, _NUMBERS)
        if not np.isfinite(numbers).all():
            raise UserError(
                f'table {path} holds numbers that are not finite; unpack the metadata archive again'
            )
        sample, label, attribute, points = np.array(self.integers, dtype=np.int64).reshape(-1, 4).T
        try:
            links = np.array(
                [[self.rows[t] if t else -1 for t in pair] for pair in self.links], dtype=np.int64
            )
        except KeyError as error:
            raise _damaged(path, error) from None
        boxes = NuScenesBoxes(
            sample=sample,
            label=label.astype(np.int8),
            translation=numbers[:, :3],
            size=numbers[:, 3:6],
            rotation=numbers[:, 6:],
            velocity=_velocities(links.reshape(-1, 2), numbers[:, :2], 1e-6 * times[sample]),
            attribute=attribute.astype(np.int8),
            score=np.full(len(sample), -1.0),
            points=points,
        )
        return boxes.take(np.argsort(sample, kind='stable'))


def _velocities(links: np.ndarray, place: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """The devkit's estimate: the way from the annotation before to the one after, over the time between.

    Args:
        links: (n, 2) rows of the annotation before and after, -1 for none, which this one itself replaces.
        place: (n, 2) metres.
        seconds: (n,) time of each.

    Returns:
        (n, 2) m/s; NaN without either or when they are too far apart.
    """
    own = np.arange(len(links))
    before, after = (np.where(link >= 0, link, own) for link in links.T)
    known = (links >= 0).sum(axis=1)
    gap = seconds[after] - seconds[before]
    with np.errstate(divide='ignore', invalid='ignore'):
        velocity = (place[after] - place[before]) / gap[:, None]
    velocity[(known == 0) | (gap > _MAX_GAP * np.maximum(known, 1))] = np.nan
    return velocity


def _damaged(path: Path, error: Exception) -> UserError:
    """The line for a table that does not hold what it must."""
    what = (
        f'refers to {error}, which no table has' if isinstance(error, KeyError) else f'is damaged ({error})'
    )
    return UserError(f'table {path} {what}; unpack the metadata archive again')
