"""Overrides of a config: a misspelt one is refused instead of doing nothing."""

import inspect
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config_checks.types import FAMILIES, accepted_arguments, find_kinds
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import close_names, nearest

SETTINGS = (
    'model', 'data', 'optimizer', 'optimizer_config', 'lr_config', 'momentum_config', 'runner', 'checkpoint_config',
    'evaluation', 'log_config', 'custom_hooks', 'distiller', 'seed', 'load_from', 'work_dir', 'amp',
    'find_unused_parameters', 'cudnn_benchmark', 'total_epochs', 'custom_imports', 'compute',
)  # fmt: skip
"""What a run reads at the top of a config."""
_KNOWN = {
    'runner': ('max_epochs',),
    'data': ('samples_per_gpu', 'workers_per_gpu', 'train', 'val', 'test'),
    'optimizer_config': ('grad_clip', 'cumulative_iters'),
    'optimizer_config.grad_clip': ('max_norm', 'norm_type'),
    'checkpoint_config': ('interval', 'by_epoch', 'max_keep_ckpts', 'save_last'),
    'evaluation': ('interval', 'start', 'save_best', 'rule', 'evaluator'),
    'log_config': ('interval', 'hooks'),
    'distiller': ('type', 'teacher', 'terms', 'head', 'targets', 'initialize', 'debug'),
}
"""Arguments of sections that name no type of their own."""
FREE = ('custom_keys', 'train_cfg', 'test_cfg', 'pts', 'rpn', 'rcnn')
"""Dicts that hold what a person likes; a key very much like one that is there is a misspelling all the same."""
ALIKE = 0.75


def override(cfg: Config, options: dict[str, Any]) -> None:
    """Put overrides into a config, in place.

    Args:
        cfg: a config.
        options: dotted key -> value. ``+key`` adds one that nothing is known about.

    Raises:
        UserError: a key names nothing in the config, or cannot be set.
    """
    plain = {key.removeprefix('+'): value for key, value in options.items()}
    for key in options:
        if not key.startswith('+'):
            _require_place(cfg, key)
    try:
        cfg.merge_from_dict(plain)
    except Exception as error:
        text = error.args[0] if error.args else error
        raise UserError(f'--cfg-options {" ".join(plain)}: {text}') from error


def _require_place(cfg: Any, key: str) -> None:
    """Every part of a dotted key exists, or the last one is an argument of what it stands in."""
    node, done, fixed = cfg, [], None
    parts = key.split('.')
    for number, part in enumerate(parts):
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(
                    f'--cfg-options {key}: {".".join(done)} has {len(node)} entries, 0 to {len(node) - 1}'
                )
            if number + 1 == len(parts) and not isinstance(node[int(part)], dict):
                raise UserError(
                    f'--cfg-options {key}: one entry of a list cannot be set, give all of {".".join(done)}'
                )
            node = node[int(part)]
        elif isinstance(node, (dict, Config)):
            if part not in node:
                _require_argument(node, key, done, part, fixed)
                return
            fixed = _fixed_class(node, fixed, part)
            node = node[part]
        elif node is None:
            return
        else:
            raise UserError(f'--cfg-options {key}: {".".join(done)} is {node!r}, which has no {part!r}')
        done.append(part)


def _fixed_class(node: Any, fixed: type | None, part: str) -> type | None:
    """Class of a part that has no type since it is always the same, None for others.

    Args:
        node: what holds the part.
        fixed: its own class where that is fixed.
        part: the part's name.
    """
    kind = fixed or next((found for found, _ in find_kinds(str(node.get('type')), 'model')), None)
    return getattr(kind, 'CONFIG_PARTS', {}).get(part)


def _require_argument(node: Any, key: str, done: list[str], part: str, fixed: type | None) -> None:
    """A key that is not there yet must be known from elsewhere."""
    accepted = accepted_arguments(fixed) if fixed else _arguments_of(node, done)
    if accepted is None or part in accepted:
        return
    known = {*accepted, *node}
    if done and done[-1] in FREE and not close_names(part, known, cutoff=ALIKE):
        return
    place = f'{".".join(done)} has' if done else 'the config has'
    raise UserError(
        f'--cfg-options {key}: {place} no {part!r}; {nearest(part, known)} (+{key} adds it on purpose)'
    )


def _arguments_of(node: Any, done: list[str]) -> set[str] | None:
    """Names that may be set in a part of a config; None where anything may."""
    if not done:
        return set(SETTINGS)
    kind = node.get('type')
    if len(done) == 1 and done[0] in ('lr_config', 'momentum_config'):
        suffix = 'LrUpdaterHook' if done[0] == 'lr_config' else 'MomentumUpdaterHook'
        policy = str(node.get('policy', ''))
        kind = (policy.title() if policy == policy.lower() else policy) + suffix
        return _arguments_of_kind(kind, {'policy'})
    if '.'.join(done) in _KNOWN:
        return set(_KNOWN['.'.join(done)])
    if not isinstance(kind, str):
        return set()
    extra = {'type', 'constructor', 'paramwise_cfg', 'priority', 'requires_grad', 'init_cfg'}
    return _arguments_of_kind(kind, extra)


def _arguments_of_kind(name: str, extra: set[str]) -> set[str] | None:
    """Arguments of every class of a name in any registry; None when one of them takes any, or there is no such class."""
    kinds = {
        kind for family in (*FAMILIES, 'model', 'part of a recipe') for kind, _ in find_kinds(name, family)
    }
    accepted = [
        accepted_arguments(kind) for kind in kinds if inspect.isclass(kind) or inspect.isfunction(kind)
    ]
    if not accepted or None in accepted:
        return None
    return extra.union(*accepted)
