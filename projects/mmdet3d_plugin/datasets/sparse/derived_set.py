"""The training set of an iteration: a function of a sparse split and a bank, and of nothing else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file, write_json
from projects.mmdet3d_plugin.datasets.converters.kitti_converter import cut_objects, join_objects
from projects.mmdet3d_plugin.datasets.info_files import AMBIGUOUS, BANK, Info, save_infos
from projects.mmdet3d_plugin.datasets.sparse.info_layout import InfoLayout
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseSplit

INFOS, DATABASE, RECORD = 'infos_train.pkl', 'dbinfos_train.pkl', 'derived.json'
"""Files of a derived set: its info file, its database of objects (of KITTI), and what it was made from."""


@dataclass(frozen=True)
class DerivedSet:
    """Counts of a derived set.

    Attributes:
        frames: of the training split, all of them.
        labels: objects that kept their labels.
        mined: objects of the bank, whether they are labels of their scenes or not.
        ambiguous: boxes that count neither as object nor as background.
    """

    frames: int
    labels: int
    mined: int
    ambiguous: int


def derive_training_set(
    root: Path, split: SparseSplit, bank: InstanceBank, out: Path, own_scene: bool = True
) -> DerivedSet:
    """Write the training set of a bank.

    ``infos_train.pkl`` has every frame of the training split with the labels that it keeps, the mined objects of that
    frame as further labels, ``bank_boxes`` and ``ambiguous_boxes``; ``dbinfos_train.pkl`` and
    ``kitti_gt_database/`` have the points of all these objects, for ``ObjectSample``. ``derived.json``, written last,
    says what they were made from. Nothing in ``root`` is changed.

    Args:
        root: folder of the data and of the files of the split.
        split: what keeps labels.
        bank: what was mined.
        out: folder of the derived set.
        own_scene: whether mined objects are labels of their own frames; else they only are in the database.

    Raises:
        UserError: the bank was mined from another split, or a file is missing.
    """
    layout, frames_file = split.layout, root / split.frames_file
    require_same_split(bank, frames_file)
    content = layout.read(frames_file)
    frames = layout.infos(content)
    with_mined = [_with_bank(layout, info, bank, True) for info in frames]
    derived = with_mined if own_scene else [_with_bank(layout, info, bank, False) for info in frames]
    save_infos(layout.with_infos(content, derived), out / INFOS)
    if split.dataset == 'kitti':
        save_infos(join_objects(cut_objects(root, out, info) for info in with_mined), out / DATABASE)
    counts = DerivedSet(
        len(frames),
        sum(len(layout.names(info)) for info in frames),
        int(bank.accepted.sum()),
        int(bank.unsure.sum()),
    )
    made_from = dict(bank=bank.digest, split=hash_file(frames_file), own_scene=own_scene)
    write_json(out / RECORD, {**vars(counts), **made_from}, indent=1)
    return counts


def require_same_split(bank: InstanceBank, frames_file: Path) -> None:
    """Refuse a bank of other frames or other labels.

    Raises:
        UserError: it was mined from another file than this one.
    """
    if bank.header.get('split') != hash_file(frames_file):
        raise UserError(
            f'the bank was mined from other labels than those of {frames_file}: mine it again with tools/mine.py'
        )


def _with_bank(layout: InfoLayout, info: Info, bank: InstanceBank, as_labels: bool) -> Info:
    """A frame with what the bank has of it."""
    rows = bank.in_frame(layout.frame(info))
    mined, unsure = rows[bank.accepted[rows]], rows[bank.unsure[rows]]
    derived = {**info, BANK: np.array(bank.box[mined]), AMBIGUOUS: np.array(bank.box[unsure])}
    if not as_labels or not len(mined):
        return derived
    return layout.add(derived, derived[BANK], bank.names[mined], bank.points[mined])
