"""Check a whole config before a run: model and data, and what only a run reads (optimizer, hooks, schedule)."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config_checks.check import check_parts, datasets_of
from projects.mmdet3d_plugin.common.config_checks.numbers import (
    NOT_NEGATIVE,
    POSITIVE,
    check_number,
    check_numbers,
)
from projects.mmdet3d_plugin.common.config_checks.types import (
    Kind,
    find_kinds,
    require_arguments,
    require_values,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import close_names, nearest
from projects.mmdet3d_plugin.engine.compute import speed_up
from projects.mmdet3d_plugin.engine.hooks import EvaluateHook, OptimizeHook, SaveHook
from projects.mmdet3d_plugin.engine.runner import SWAP

SECTIONS = (
    'model', 'data', 'optimizer', 'optimizer_config', 'lr_config', 'momentum_config', 'runner', 'checkpoint_config',
    'evaluation', 'log_config', 'custom_hooks', 'distiller', 'compute',
)  # fmt: skip
SETTINGS = (
    *SECTIONS, 'seed', 'load_from', 'work_dir', 'amp', 'find_unused_parameters', 'cudnn_benchmark', 'total_epochs',
    'custom_imports', 'data_root', 'class_names', 'self_training',
)  # fmt: skip
_OF_UPSTREAM = {
    'type',
    'metric',
    'pipeline',
    'by_epoch',
}  # what upstream's configs say beside our hooks' arguments
ALIKE = 0.75
_OURS_INSTEAD = {
    'CheckpointHook': 'checkpoint_config',
    'EvalHook': 'evaluation',
    'OptimizerHook': 'optimizer_config',
    'LrUpdaterHook': 'lr_config',
    'MomentumUpdaterHook': 'momentum_config',
    'SaveHook': 'checkpoint_config',
    'EvaluateHook': 'evaluation',
    'OptimizeHook': 'optimizer_config',
}
"""How names of hooks end that a run attaches itself -> section of the config that says how."""
_MULTIPLIERS = (
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult',
    'bypass_duplicate',
)  # fmt: skip
_LOADERS = (
    'samples_per_gpu',
    'workers_per_gpu',
    'train',
    'val',
    'test',
    'shuffler_sampler',
    'nonshuffler_sampler',
)


def check_test_config(cfg: Config) -> None:
    """Check what building the model and the data needs.

    Raises:
        UserError: names the key and the mend.
    """
    check_parts(cfg)


def check_train_config(cfg: Config, validate: bool = True) -> None:
    """Check everything that a training reads.

    Args:
        cfg: the config.
        validate: whether it evaluates between epochs.

    Raises:
        UserError: names the key and the mend.
    """
    _check_sections(cfg)
    check_parts(cfg, validate)
    check_numbers(cfg)
    for key in cfg.data:
        if key not in _LOADERS:
            raise UserError(f'data has no {key!r}; {nearest(key, _LOADERS)}')
    _check_optimizer(cfg.get('optimizer'))
    _check_policy(cfg.get('lr_config'), 'lr_config', 'LrUpdaterHook')
    _check_policy(cfg.get('momentum_config'), 'momentum_config', 'MomentumUpdaterHook')
    _check_hook_settings(cfg.get('optimizer_config'), 'optimizer_config', OptimizeHook, {'type'})
    _check_clipping((cfg.get('optimizer_config') or {}).get('grad_clip'))
    _check_hook_settings(cfg.get('checkpoint_config'), 'checkpoint_config', SaveHook, {'type'})
    _check_hook_settings(
        cfg.get('evaluation'), 'evaluation', EvaluateHook, _OF_UPSTREAM | _evaluation_arguments(cfg)
    )
    _check_hooks((cfg.get('log_config') or {}).get('hooks'), 'log_config.hooks')
    _check_hooks(cfg.get('custom_hooks'), 'custom_hooks')
    _check_own_hooks(cfg.get('custom_hooks') or ())
    _check_runner(cfg)
    _check_settings(cfg)


def _check_sections(cfg: Config) -> None:
    """Sections are dicts, and none that is needed is there under a misspelt name only."""
    for name in SECTIONS:
        value = cfg.get(name)
        wanted = (list, tuple) if name == 'custom_hooks' else dict
        if value is not None and not isinstance(value, wanted):
            kind = 'list' if name == 'custom_hooks' else 'dict'
            raise UserError(f'{name} is {value!r}: it must be a {kind}')
    for name in ('model', 'data', 'optimizer'):
        if cfg.get(name) is None:
            meant = close_names(name, [key for key in cfg if key not in SETTINGS], cutoff=0.75)
            hint = f'; did you misspell it as {meant[0]!r}?' if meant else ''
            raise UserError(f'the config has no "{name}"{hint}')


def _check_optimizer(optimizer: dict[str, Any]) -> None:
    """Type and arguments; the parameters are given by the run."""
    require_arguments(optimizer, 'optimizer', 'optimizer')
    if optimizer.get('constructor') is not None:
        constructor = optimizer['constructor']
        if not find_kinds(constructor, 'optimizer constructor'):
            raise UserError(f'optimizer.constructor: there is no {constructor!r}')
    elif optimizer.get('paramwise_cfg') is not None:
        _check_multipliers(optimizer['paramwise_cfg'])


def _check_multipliers(settings: Any) -> None:
    """mmcv takes no notice of a multiplier of the learning rate that it does not know."""
    place = 'optimizer.paramwise_cfg'
    if not isinstance(settings, dict):
        raise UserError(f'{place} is {settings!r}: it must be a dict')
    groups = {place: settings, **{f'{place}.custom_keys': settings.get('custom_keys', {})}}
    for where, group in groups.items():
        if not isinstance(group, dict):
            raise UserError(f'{where} is {group!r}: it must be a dict')
    for part, group in settings.get('custom_keys', {}).items():
        where = f'{place}.custom_keys[{part!r}]'
        if not isinstance(group, dict):
            raise UserError(f'{where} is {group!r}: it must be a dict')
        groups[where] = group
    for where, group in groups.items():
        known = _MULTIPLIERS if where == place else ('lr_mult', 'decay_mult')
        for key, value in group.items() if where != f'{place}.custom_keys' else ():
            if key not in known:
                raise UserError(f'{where} takes no {key!r}; {nearest(key, known)}')
            if key.endswith('_mult'):
                check_number(f'{where}.{key}', value, NOT_NEGATIVE)


def _check_policy(settings: dict[str, Any] | None, place: str, suffix: str) -> None:
    """mmcv finds the hook of a policy by a name that it makes of it."""
    if settings is None or 'policy' not in settings:
        if settings:
            raise UserError(f"{place} has no 'policy', such as policy='step'")
        return
    policy = str(settings['policy'])
    name = (policy.title() if policy == policy.lower() else policy) + suffix
    if not find_kinds(name, 'hook'):
        from mmcv.runner import HOOKS

        hooks = [kind for kind in HOOKS.module_dict if kind.endswith(suffix) and kind != suffix]
        known = [kind.removesuffix(suffix) for kind in hooks]
        raise UserError(f'{place}.policy: there is no {policy!r}; {nearest(policy, known)}')
    arguments = {key: value for key, value in settings.items() if key != 'policy'}
    require_arguments({'type': name, **arguments}, place, 'hook')


def _check_hook_settings(settings: dict[str, Any] | None, place: str, hook: Kind, more: set[str]) -> None:
    """Arguments of a hook or function of ours whose name a config need not say."""
    parameters = inspect.signature(hook).parameters.values()
    known = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} | more
    for key in settings or ():
        if key in known:
            continue
        raise UserError(f'{place} takes no {key!r}; {nearest(key, known)}')
    plain = {key: value for key, value in (settings or {}).items() if key != 'grad_clip'}  # _check_clipping
    require_values(hook, plain, f'{place}.')


def _evaluation_arguments(cfg: Config) -> set[str]:
    """What the datasets to evaluate on take beside results and a folder."""
    kinds = [
        kind
        for place, dataset in datasets_of(cfg)
        for kind, _ in find_kinds(str(dataset.get('type')), 'dataset')
        if place.startswith('data.val') and hasattr(kind, 'evaluate')
    ]
    names = {name for kind in kinds for name in inspect.signature(kind.evaluate).parameters}
    return names - {'self', 'results', 'out_dir', '_', 'kwargs'}


def _check_clipping(settings: Any) -> None:
    """Arguments of torch's ``clip_grad_norm_``."""
    place, known = 'optimizer_config.grad_clip', ('max_norm', 'norm_type', 'error_if_nonfinite', 'foreach')
    if settings is None:
        return
    if not isinstance(settings, dict):
        raise UserError(f'{place} is {settings!r}: it must be a dict such as dict(max_norm=35)')
    for key in settings:
        if key not in known:
            raise UserError(f'{place} takes no {key!r}; {nearest(key, known)}')
    if 'max_norm' not in settings:
        raise UserError(f"{place} has no 'max_norm', such as dict(max_norm=35)")
    norm = settings.get('norm_type', 2)
    if norm not in ('inf', float('inf')):
        check_number(f'{place}.norm_type', norm, POSITIVE)


def _check_hooks(hooks: Any, place: str) -> None:
    """Type and arguments of every hook of a list."""
    if hooks is not None and not isinstance(hooks, (list, tuple)):
        raise UserError(f'{place} is {hooks!r}: it must be a list of hooks')
    for index, hook in enumerate(hooks or ()):
        if not isinstance(hook, dict):
            raise UserError(f'{place}[{index}] is {hook!r}: it must be a dict with a type')
        require_arguments(hook, f'{place}[{index}]', 'hook')


@dataclass
class _Settings:
    """What stands in a config beside its sections."""

    load_from: str | None = None
    work_dir: str | None = None
    find_unused_parameters: bool = False
    cudnn_benchmark: bool = False


def _check_settings(cfg: Config) -> None:
    """Settings outside the sections are of the right kind, and none is upstream's that has no effect here."""
    require_values(_Settings, cfg, '')
    if cfg.get('resume_from') is not None:
        raise UserError(
            f'resume_from is {cfg.resume_from!r}: say it on the command line, --resume PATH or auto'
        )
    if len(cfg.get('workflow') or ()) > 1:
        raise UserError(
            f'workflow is {cfg.workflow!r}: only training is repeated; evaluation=dict(interval=1) scores'
        )
    if (compute := cfg.get('compute')) is not None:
        _check_hook_settings(compute, 'compute', speed_up, set())
        if 'modules' not in compute:
            raise UserError("compute has no 'modules', such as ['img_backbone', 'img_neck']")


def _check_own_hooks(hooks: Sequence[dict[str, Any]]) -> None:
    """What a run attaches itself, or can have only once, is not among the hooks of a config."""
    averages = []
    for index, hook in enumerate(hooks):
        name = hook['type'] if isinstance(hook['type'], str) else hook['type'].__name__
        for suffix, section in _OURS_INSTEAD.items():
            if name.endswith(suffix):
                raise UserError(f'custom_hooks[{index}].type={name}: leave it out, {section} says it')
        if hook.get('resume_from') is not None:
            raise UserError(
                f'custom_hooks[{index}].resume_from: leave it out, --resume restores what hooks keep as well'
            )
        if any(hasattr(kind, SWAP) for kind, _ in find_kinds(name, 'hook')):
            averages.append(f'custom_hooks[{index}] ({name})')
    if len(averages) > 1:
        raise UserError(f'{" and ".join(averages)} both average the weights: keep one of them')


def _check_runner(cfg: Config) -> None:
    """Training is counted in epochs, by our runner whatever name upstream's configs give to it."""
    runner = cfg.get('runner') or {}
    if runner.get('type', 'EpochBasedRunner') not in ('EpochBasedRunner', 'TrainRunner'):
        raise UserError(
            f'runner.type is {runner["type"]!r}: training is counted in epochs, leave it out or say EpochBasedRunner'
        )
    for key in runner:
        if key not in ('type', 'max_epochs', 'max_iters'):
            raise UserError(f'runner takes no {key!r}; {nearest(key, ("type", "max_epochs"))}')
