"""The config of a training on a derived set: that of the first training, with a few things exchanged."""

import copy
from inspect import signature
from pathlib import Path
from typing import Any

from mmcv import Config
from mmdet3d.models.builder import DETECTORS

from projects.mmdet3d_plugin.common.config import innermost_datasets
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.sparse.derived_set import DATABASE, INFOS
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseSplit
from projects.mmdet3d_plugin.engine.self_training.settings import PLACE, SelfTraining

_IGNORED_SHARE = 0.3  # of an anchor's ground in an ambiguous box, from which on it is left out
_IGNORE = 'gt_bboxes_ignore'
_DATABASE = 'db_sampler'
"""Of whatever pastes objects, by whatever name: one that was overlooked would paste what should be hidden."""


def labelled_config(cfg: Config, split: SparseSplit) -> Config:
    """The config of the first training: that of a person, with the labels and the database of a sparse split.

    Args:
        cfg: trains on anything in the layout of the split.
        split: what keeps labels.

    Raises:
        UserError: it trains on several datasets, of which the others would show their labels, or pastes objects of a database
            that the split has not.
    """
    cfg = copy.deepcopy(cfg)
    dataset, *more = innermost_datasets(cfg.data.train)
    if more:
        raise UserError(
            f'data.train joins {1 + len(more)} datasets, and {PLACE} thins out the labels of one: leave one of them'
        )
    dataset['ann_file'] = split.labelled_file
    for step in dataset['pipeline']:
        if _DATABASE in step:
            if split.dataset != 'kitti':
                raise UserError(
                    f'data.train.pipeline has an {step["type"]}, but a sparse split of {split.dataset} has no database of objects: '
                    'leave it out'
                )
            root = str(step[_DATABASE]['data_root']).rstrip('/')
            step[_DATABASE]['info_path'] = f'{root}/{split.database_file}'
    return cfg


def iteration_config(cfg: Config, plan: SelfTraining, derived: Path, before: Path) -> Config:
    """A config that trains on a derived set.

    The dataset inside ``RepeatDataset`` is taken: a derived set has all frames, of which the first training repeats the
    few that have labels.

    Args:
        cfg: of the first training.
        plan: of the self-training.
        derived: folder of the derived set.
        before: checkpoint of the training before.

    Raises:
        UserError: the pipeline or the model lacks what the plan needs.
    """
    cfg = copy.deepcopy(cfg)
    dataset = next(innermost_datasets(cfg.data.train))
    dataset['ann_file'] = str(derived / INFOS)
    dataset['pipeline'] = derived_pipeline(dataset['pipeline'], plan, derived)
    cfg.data.train = dataset
    if plan.unsure == 'ignore' and not _ignores(cfg.model):
        raise UserError(
            f"{PLACE}.unsure='ignore' needs anchors that a MaxIoUAssigner assigns, or a detector whose losses regard "
            f"gt_bboxes_ignore, which {cfg.model.type} has not: say 'remove'"
        )
    if plan.start == 'previous':
        cfg.load_from = str(before)
    if plan.epochs is not None:
        cfg.runner.max_epochs = plan.epochs
    return cfg


def derived_pipeline(
    pipeline: list[dict[str, Any]], plan: SelfTraining, derived: Path
) -> list[dict[str, Any]]:
    """Transforms of a training on a derived set.

    Args:
        pipeline: of the first training.
        plan: of the self-training.
        derived: folder of the derived set.
    """
    steps = []
    for step in copy.deepcopy(pipeline):
        kind = step['type']
        if kind == 'ObjectSample':
            step['type'] = 'AvoidingObjectSample'
        if _DATABASE in step:
            step[_DATABASE] = _own_database(step[_DATABASE], derived)
        if kind == 'DefaultFormatBundle3D' and plan.unsure == 'ignore':
            steps.append(dict(type='IgnoreAmbiguous'))
        if kind == 'Collect3D' and plan.unsure == 'ignore':
            step['keys'] = [*step['keys'], _IGNORE]
        steps.append(step)
        if kind == 'LoadAnnotations3D' and plan.unsure == 'remove':
            steps.append(dict(type='RemovePoints'))
            if plan.fill:
                steps.append(dict(type='FillHoles', db_sampler=_database_of(pipeline, derived)))
    kinds = {step['type'] for step in steps}
    if plan.unsure == 'remove' and 'RemovePoints' not in kinds:
        raise UserError(
            'data.train.pipeline has no LoadAnnotations3D, after which doubtful points are removed'
        )
    if plan.unsure == 'ignore' and not {'IgnoreAmbiguous', 'Collect3D'} <= kinds:
        raise UserError(
            'data.train.pipeline has no DefaultFormatBundle3D and Collect3D, which hand over what is ignored: say '
            f"{PLACE}.unsure='remove'"
        )
    return steps


def _database_of(pipeline: list[dict[str, Any]], derived: Path) -> dict[str, Any]:
    """The database of a pipeline's ``ObjectSample``, of the derived set."""
    for step in pipeline:
        if _DATABASE in step:
            return _own_database(copy.deepcopy(step[_DATABASE]), derived)
    raise UserError(f'{PLACE}.fill needs an ObjectSample in data.train.pipeline, whose database it takes')


def _own_database(sampler: dict[str, Any], derived: Path) -> dict[str, Any]:
    return {**sampler, 'data_root': str(derived), 'info_path': str(derived / DATABASE)}


def _ignores(model: Config) -> bool:
    """Let a detector regard ambiguous boxes in its losses; returns whether it can: by its assigners, or, as it says of
    itself, without being told."""
    kind = DETECTORS.get(model.type)
    takes = _IGNORE in signature(kind.forward_train).parameters
    return takes and (getattr(kind, 'ignores_boxes', False) or _ignore_in_loss(model.get('train_cfg')))


def _ignore_in_loss(node: Any) -> bool:
    """Let every assigner below a node regard ambiguous boxes; returns whether there was one."""
    if isinstance(node, list | tuple):
        return max(map(_ignore_in_loss, node), default=False)
    if not isinstance(node, dict):
        return False
    if node.get('type') == 'MaxIoUAssigner':
        node['ignore_iof_thr'] = _IGNORED_SHARE
        return True
    return max(map(_ignore_in_loss, node.values()), default=False)
