"""A detector that mines in another one's place."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.config_checks.check import classes_of
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseSplit
from projects.mmdet3d_plugin.engine.config_check import check_test_config, check_train_config
from projects.mmdet3d_plugin.engine.self_training.iteration_config import labelled_config
from projects.mmdet3d_plugin.engine.self_training.mine import split_pipeline
from projects.mmdet3d_plugin.engine.self_training.settings import PLACE, SelfTraining


def load_labeller(detector: Config, plan: SelfTraining, split: SparseSplit) -> Config | None:
    """The labeller of a self-training, with the labels that it may see and with the settings of the detector's mining.

    Everything that can be known of it is found out here, not when it is needed, after the detector's first training.

    Args:
        detector: config of the detector that learns.
        plan: of its self-training.
        split: what keeps labels.

    Returns:
        Its config, None without one.

    Raises:
        UserError: it cannot be trained or mine, or would overlook what the detector should find.
    """
    if plan.labeller is None:
        return None
    try:
        return _checked(load_config(plan.labeller, {}, None), detector, plan, split)
    except UserError as error:
        raise UserError(f'{PLACE}.labeller {plan.labeller}: {error}') from error


def _checked(cfg: Config, detector: Config, plan: SelfTraining, split: SparseSplit) -> Config:
    for part in ('train', 'test'):
        if not isinstance(cfg.get('data', {}).get(part), Mapping):
            raise UserError(f'it has no data.{part}: name the config of a detector')
    check_train_config(cfg)
    check_test_config(cfg)
    cfg = labelled_config(cfg, split)
    own, other = (next(innermost_datasets(c.data.test)) for c in (detector, cfg))
    _require_classes(_classes(own), _classes(other))
    _require_range(own.get('point_cloud_range'), other.get('point_cloud_range'))
    plan.mine.require_classes(_classes(other))
    split_pipeline(other['pipeline'])
    cfg[PLACE] = {**detector[PLACE], 'labeller': None}
    return cfg


def _classes(dataset: Mapping[str, Any]) -> list[str]:
    found = classes_of(dataset)
    if found is None:
        raise UserError('data.test does not say its classes: name them in data.test.classes')
    return found


def _require_classes(own: Sequence[str], other: Sequence[str]) -> None:
    for name in own:
        if name not in other:
            raise UserError(f'it knows no {name}, so that none would be mined; it knows {", ".join(other)}')


def _require_range(own: Sequence[float] | None, other: Sequence[float] | None) -> None:
    """Refuse a labeller that sees less far: the detector would learn what lies beyond as background."""
    if own is None or other is None:
        return
    if any(other[i] > own[i] or other[i + 3] < own[i + 3] for i in (0, 1)):
        raise UserError(
            f'it looks at {list(other)} (point_cloud_range), the detector at {list(own)}: what it cannot see would be '
            'taught as background; let it look at least as far'
        )
