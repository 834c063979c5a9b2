"""Which objects keep their labels: one per frame, chosen by a seed, and the info files that hold nothing else."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file, read_json, write_json
from projects.mmdet3d_plugin.common.safe_pickle import read_pickle
from projects.mmdet3d_plugin.datasets.info_files import Info, save_infos
from projects.mmdet3d_plugin.datasets.sparse.info_layout import LAYOUTS, InfoLayout

VERSION = 1
KITTI_DATABASE = 'kitti_dbinfos_{}.pkl'


@dataclass(frozen=True)
class SparseOptions:
    """How labels are thinned out.

    Attributes:
        per_frame: objects that keep their labels in a frame that has some.
        seed: of the choice.
        every: only every k-th frame, from the first on, keeps labels at all.
        area: x0, y0, x1, y1 in metres, LiDAR frame; only objects with their centres within may be chosen. None is
            everywhere.
        classes: that may be chosen; those of the dataset by default.
        least_points: that an object must have to be chosen.
    """

    per_frame: int = 1
    seed: int = 0
    every: int = 1
    area: tuple[float, float, float, float] | None = None
    classes: tuple[str, ...] | None = None
    least_points: int = 1

    def __post_init__(self) -> None:
        for option, value in (('--sparse', self.per_frame), ('--every', self.every)):
            if value < 1:
                raise UserError(f'{option} is {value}: ask for at least 1')
        if self.area is not None:
            x0, y0, x1, y1 = self.area
            if not (-math.inf < x0 < x1 < math.inf and -math.inf < y0 < y1 < math.inf):
                area = ' '.join(f'{side:g}' for side in self.area)
                raise UserError(f'--area is {area}: give X0 Y0 X1 Y1 in metres, X1 above X0 and Y1 above Y0')
        if self.seed < 0:
            raise UserError(f'--seed is {self.seed}: it must not be negative')

    @property
    def tag(self) -> str:
        """What the names of the files end with.

        Examples:
            >>> SparseOptions(seed=3).tag, SparseOptions(every=5).tag
            ('sparse1_s3', 'sparse1_every5_s0')
        """
        thinned = f'_every{self.every}' if self.every > 1 else ''
        return f'sparse{self.per_frame}{thinned}_s{self.seed}'


@dataclass(frozen=True)
class SparseSplit:
    """Names of the files of a split, all in the folder of the info files, and what it keeps.

    Attributes:
        dataset: 'kitti' or 'nuscenes'.
        tag: as in :class:`SparseOptions`.
        kept: frame -> rows of the objects that keep their labels.
        record: everything else that the split's JSON file says.
    """

    dataset: str
    tag: str
    kept: dict[str, list[int]]
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> InfoLayout:
        """How its info files are read."""
        return LAYOUTS[self.dataset]

    @property
    def record_file(self) -> str:
        """JSON: options, and which objects were kept."""
        return f'{self.dataset}_{self.tag}.json'

    @property
    def labelled_file(self) -> str:
        """Info file of the frames with labels, with these only: what a first detector trains on."""
        return self.layout.file_name(f'train_{self.tag}')

    @property
    def frames_file(self) -> str:
        """Info file of all frames of the training split, with the kept labels only: where objects are mined."""
        return self.layout.file_name(f'train_{self.tag}_frames')

    @property
    def database_file(self) -> str:
        """Database of the kept objects; KITTI's only."""
        return KITTI_DATABASE.format(f'train_{self.tag}')

    @classmethod
    def read(cls, path: Path) -> 'SparseSplit':
        """Read a split's JSON file.

        Raises:
            UserError: it is not there, damaged, or of another version.
        """
        mend = f'make it with tools/create_data.py {_options_of(path.name)}'
        content = read_json(path, mend)
        if not isinstance(content, dict) or content.get('version') != VERSION or 'kept' not in content:
            raise UserError(f'{path} is no sparse split of version {VERSION}: {mend}')
        record = dict(content)
        return cls(record.pop('dataset'), record.pop('tag'), record.pop('kept'), record)


def _options_of(name: str) -> str:
    """What to tell tools/create_data.py so that it makes a file of this name."""
    match = re.fullmatch(r'([a-z]+)_sparse(\d+)(?:_every(\d+))?_s(\d+)\.json', name)
    if match is None:
        return 'DATASET --sparse 1 --seed 0'
    dataset, per_frame, every, seed = match.groups()
    return f'{dataset} --sparse {per_frame}{f" --every {every}" if every else ""} --seed {seed}'


def create_sparse_split(folder: Path, dataset: str, options: SparseOptions) -> SparseSplit:
    """Choose the objects that keep their labels, and write info files in which there are no others.

    Nothing that is written holds anything of a hidden object but, in the JSON file, how many there are: training and
    mining read these files, never the full ones.

    Args:
        folder: of the info files of ``tools/create_data.py``, which gets those of the split.
        dataset: 'kitti' or 'nuscenes'.
        options: how much is kept.

    Raises:
        UserError: an info file is missing or damaged, nothing can be kept, or a split of the same name was chosen
            otherwise.
    """
    layout = LAYOUTS[dataset]
    _refuse_other_choice(folder / SparseSplit(dataset, options.tag, {}).record_file, options)
    full = folder / layout.file_name('train')
    source = hash_file(full)
    content = layout.read(full)
    infos = layout.infos(content)
    kept = {
        layout.frame(info): choose_objects(layout, info, options) if place % options.every == 0 else []
        for place, info in enumerate(infos)
    }
    counts = _counts(layout, infos, kept)
    if not any(kept.values()):
        raise UserError(f'{full} has no object of {", ".join(counts)} that a sparse split could keep')
    split = SparseSplit(dataset, options.tag, kept, _record(options, source, counts))
    sparse = [layout.keep(info, kept[layout.frame(info)]) for info in infos]
    labelled = [info for info in sparse if kept[layout.frame(info)]]
    save_infos(layout.with_infos(content, sparse), folder / split.frames_file)
    save_infos(layout.with_infos(content, labelled), folder / split.labelled_file)
    if dataset == 'kitti':
        _save_database(folder, split)
    # last: who finds the record finds all that it names
    write_json(
        folder / split.record_file,
        {'version': VERSION, 'dataset': dataset, 'tag': split.tag, **split.record, 'kept': kept},
        indent=1,
    )
    said = ', '.join(f'{name} {own} of {total}' for name, (own, total) in counts.items())
    print(f'{folder / split.record_file}: labels in {len(labelled)} of {len(infos)} frames; kept: {said}')
    return split


def _refuse_other_choice(record: Path, options: SparseOptions) -> None:
    """Names do not say where labels may lie: a split that was chosen elsewhere must not be lost under the same name."""
    try:
        there = SparseSplit.read(record).record
    except UserError:  # there is none, or none that could be used
        return
    asked = _choice(options)
    names = [name for name in asked if there.get(name) != asked[name]]
    if names:
        found, wanted = (
            ', '.join(f'{name} = {choice.get(name)}' for name in names) for choice in (there, asked)
        )
        raise UserError(
            f'{record} holds a split with {found}; one with {wanted} has the same name: choose another --seed or '
            '--out-dir, or remove that file'
        )


def choose_objects(layout: InfoLayout, info: Info, options: SparseOptions) -> list[int]:
    """Rows of the objects of one frame that keep their labels; what other frames hold plays no part."""
    allowed = np.isin(layout.names(info), options.classes or layout.classes)
    allowed &= layout.point_counts(info) >= options.least_points
    if options.area is not None:
        x0, y0, x1, y1 = options.area
        x, y = layout.boxes(info)[:, :2].T
        allowed &= (x > x0) & (y > y0) & (x < x1) & (y < y1)
    rows = np.flatnonzero(allowed)
    entropy = [options.seed, *layout.frame(info).encode()]
    chosen = np.random.default_rng(entropy).permutation(rows)[: options.per_frame]
    return sorted(int(row) for row in chosen)


def _counts(
    layout: InfoLayout, infos: Sequence[Info], kept: dict[str, list[int]]
) -> dict[str, tuple[int, int]]:
    """(kept, all) objects of each class of the dataset."""
    total, own = Counter(), Counter()
    for info in infos:
        names = layout.names(info)
        total.update(names.tolist())
        own.update(names[kept[layout.frame(info)]].tolist())
    return {name: (own[name], total[name]) for name in layout.classes}


def _record(options: SparseOptions, source: str, counts: dict[str, tuple[int, int]]) -> dict[str, Any]:
    return dict(**_choice(options), source=source, counts=counts)


def _choice(options: SparseOptions) -> dict[str, Any]:
    """Options as JSON holds them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(options).items()}


def _save_database(folder: Path, split: SparseSplit) -> None:
    """The kept objects of KITTI's database; their points stay where they are."""
    full = folder / KITTI_DATABASE.format('train')
    objects = read_pickle(full, 'make it with tools/create_data.py kitti')
    kept = {(int(frame), row) for frame, rows in split.kept.items() for row in rows}
    chosen = {
        name: [item for item in items if (item['image_idx'], item['gt_idx']) in kept]
        for name, items in objects.items()
    }
    save_infos({name: items for name, items in chosen.items() if items}, folder / split.database_file)
