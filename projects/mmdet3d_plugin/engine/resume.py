"""What a run goes on from, and what changed since."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import find_latest, read_checkpoint, resumable_files
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.logs import get_logger
from projects.mmdet3d_plugin.engine.launch import Launch, broadcast_object

COMPARED = (
    'optimizer',
    'optimizer_config',
    'lr_config',
    'momentum_config',
    'runner',
    'total_epochs',
    'custom_hooks',
    'amp',
    'model',
    'distiller',
    'data.samples_per_gpu',
)
"""Settings whose change is told when a run goes on. Where data lies and what is logged may differ in silence."""
_PER_STEP = ('data.samples_per_gpu', 'optimizer_config.cumulative_iters', 'samples')
_BY_LENGTH = ('cosine', 'cyclic', 'poly', 'onecycle', 'flat', 'linearannealing')
_SHOWN = 8
_OF_RUN = re.compile(r'(epoch_\d+|iter_\d+|latest|best_.+)\.pth')


def choose_checkpoint(resume: str | Path | None, work_dir: Path, launch: Launch) -> Path | None:
    """Resolve ``--resume``: the same file for all processes.

    Args:
        resume: a file, 'auto' for the newest readable checkpoint of the last run in ``work_dir``, or None.
        work_dir: folder of the run.
        launch: the place of this process.

    Raises:
        UserError: the file is not there, or none of the folder's checkpoints can be read.
    """
    if resume is None:
        return None
    if str(resume) != 'auto':
        if not Path(resume).is_file():
            folder = "this is a folder: name a checkpoint in it, or say 'auto' and --work-dir"
            reason = folder if Path(resume).is_dir() else 'there is no such checkpoint'
            raise UserError(f'--resume {resume}: {reason}; nothing was started')
        return Path(resume)
    found = None
    if launch.is_main:
        try:
            found = _newest_readable(work_dir)
        except UserError as error:
            found = error
    found = broadcast_object(found)
    if isinstance(found, UserError):
        raise found
    return found


def _newest_readable(work_dir: Path) -> Path | None:
    """The checkpoint that got furthest among those that can be read; warns of those that cannot."""
    files = resumable_files(work_dir)
    if not files:
        get_logger().info('--resume auto: no checkpoint in %s, starting from the beginning', work_dir)
    for path in files:
        try:
            read_resumable(path)
        except UserError as error:
            get_logger().warning('--resume auto: %s; trying the one before it', error)
        else:
            return path
    if files:
        raise UserError(
            f'--resume auto: none of the {len(files)} checkpoints of this run in {work_dir} can be read; move them '
            'away to begin anew'
        )
    return None


def read_resumable(path: Path) -> dict[str, Any]:
    """Read a checkpoint that training can go on from.

    Raises:
        UserError: it cannot be read, or lacks what resuming needs.
    """
    content = read_checkpoint(path)
    meta = content['meta']
    lacking = [key for key in ('optimizer', 'rng') if not content.get(key)]
    if lacking or 'epoch' not in meta:
        raise UserError(
            f'{path} cannot be resumed: it has no {" and no ".join(lacking) or "epoch"} '
            '(a checkpoint for testing only?); to start from its weights say load_from'
        )
    counts = [meta.get(key, 0) for key in ('epoch', 'iter', 'inner_iter', 'world_size')]
    if not all(isinstance(count, int) and count >= 0 for count in counts) or not meta.get('world_size'):
        raise UserError(f'{path} cannot be resumed: its epoch, iter or world_size is damaged')
    rng = content['rng']
    if (
        not isinstance(rng, Sequence)
        or len(rng) != meta['world_size']
        or not all(_is_rng(state) for state in rng)
    ):
        raise UserError(f'{path} cannot be resumed: its random state is damaged')
    return content


def _is_rng(state: Any) -> bool:
    """Whether this is what ``capture_rng`` returns."""
    return (
        isinstance(state, Mapping)
        and {'python', 'numpy', 'torch', 'cuda'} <= state.keys()
        and len(state['python'] or ()) == 3
        and len(state['numpy'] or ()) == 5
        and isinstance(state['torch'], torch.Tensor)
    )


def refuse_folders(work_dir: Path) -> None:
    """Find what stands in the way of a checkpoint before there is one to save.

    Raises:
        UserError: a folder has the name of a checkpoint.
    """
    for path in sorted(work_dir.glob('*.pth')):
        if path.is_dir() and _OF_RUN.fullmatch(path.name):
            raise UserError(
                f'{path} is a folder, where a run keeps a checkpoint: move it away, or choose another --work-dir'
            )


def warn_of_other_run(work_dir: Path) -> None:
    """Say that a folder holds checkpoints which a run that begins anew will not go on from."""
    latest = find_latest(work_dir)
    if latest is not None:
        get_logger().warning(
            '%s holds checkpoints of an earlier run (up to %s): this run begins anew and replaces those of the same '
            'name; --resume auto would have gone on from there',
            work_dir,
            latest.name,
        )


def flat_settings(cfg: Config, samples: int) -> dict[str, str]:
    """What a checkpoint should remember of its config, by dotted name.

    Args:
        cfg: of the run.
        samples: size of the training split.
    """
    settings = {'samples': repr(samples)}
    for name in COMPARED:
        value: Any = cfg._cfg_dict
        for key in name.split('.'):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            _flatten(name, value, settings)
    return settings


def _flatten(name: str, value: Any, into: dict[str, str]) -> None:
    """Put a value, or every value below it, into a flat dict."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(f'{name}.{key}', item, into)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for number, item in enumerate(value):
            _flatten(f'{name}.{number}', item, into)
    else:
        into[name] = repr(value)


def compare_settings(path: Path, saved: Mapping[str, Any], present: Mapping[str, Any]) -> bool:
    """Refuse to mix what cannot be mixed, and say what else changed since a checkpoint was saved.

    Args:
        path: the checkpoint.
        saved: its meta.
        present: meta of this run.

    Returns:
        Whether an epoch has another number of steps now.

    Raises:
        UserError: one was distilled and the other is trained alone, seed, classes or the type of the optimizer differ,
            or, within an epoch, its steps.
    """
    taught, teaches = ('teacher' in meta for meta in (saved, present))
    if taught != teaches:
        was, tool = ('distilled', 'tools/distillation.py') if taught else ('trained alone', 'tools/train.py')
        raise UserError(
            f'{path} was {was}: go on with {tool}, or begin anew from its weights with load_from={path}'
        )
    _refuse(path, 'seed', saved.get('seed'), present.get('seed'), 'say --seed {saved}')
    _refuse(path, 'classes', saved.get('CLASSES'), present.get('CLASSES'), 'its labels mean other things')
    old, new = saved.get('settings') or {}, present.get('settings') or {}
    if not (isinstance(old, Mapping) and old and new):
        return False
    mend = 'the state of one means nothing to the other; set it back'
    _refuse(path, 'optimizer.type', old.get('optimizer.type'), new.get('optimizer.type'), mend)
    changed = {
        name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)
    }
    steps_differ = any(name in changed for name in ('samples', 'data.samples_per_gpu'))
    if saved.get('inner_iter'):
        for name in _PER_STEP:
            before, now = (value or '1' for value in changed.get(name, ('', '')))
            _refuse(path, name, before, now, 'it stopped within an epoch; set it back')
    if changed:
        shown = ', '.join(
            f'{name} {a or "unset"} -> {b or "unset"}' for name, (a, b) in list(changed.items())[:_SHOWN]
        )
        more = f' and {len(changed) - _SHOWN} more' if len(changed) > _SHOWN else ''
        get_logger().warning('changed since %s: %s%s; the new values are used', path, shown, more)
    policy = new.get('lr_config.policy', '').lower()
    if 'runner.max_epochs' in changed and any(name in policy for name in _BY_LENGTH):
        get_logger().warning(
            'the learning rate (%s) follows the length of the run: it goes on as if runner.max_epochs had been %s from '
            'the start',
            policy.strip("'"),
            new.get('runner.max_epochs'),
        )
    return steps_differ


def _refuse(path: Path, name: str, saved: Any, present: Any, mend: str) -> None:
    """Stop when a setting that both sides know differs."""
    if saved is not None and present is not None and saved != present:
        raise UserError(
            f'{path} was trained with {name} {saved}, this run has {present}: {mend.format(saved=saved)}, or begin anew '
            f'from its weights with load_from={path}'
        )


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, path: Path) -> None:
    """Give an optimizer its moments back; its settings stay those of the config.

    Schedules compute from the config's settings, so that an unchanged config goes on to the bit and a changed one is
    followed.

    Args:
        optimizer: of the config.
        state: what its ``state_dict`` was.
        path: the checkpoint, for messages.

    Raises:
        UserError: it belongs to another optimizer or another model, or it is damaged or empty.
    """
    wrong = f'{path}: the optimizer of the config is not the one that was saved'
    settings = [
        {key: value for key, value in group.items() if key != 'params'} for group in optimizer.param_groups
    ]
    try:
        saved = state['param_groups']
        if any(
            (key in one) != (key in other)
            for one, other in zip(saved, settings, strict=True)
            for key in ('betas', 'momentum')
        ):
            raise UserError(f'{wrong} (of another type)')
        optimizer.load_state_dict(state)
        for parameter, moments in optimizer.state.items():
            for name, value in moments.items():
                if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                    raise UserError(f'{wrong} ({name} has the shape {tuple(value.shape)})')
    except UserError:
        raise
    except Exception as error:  # a damaged state raises errors of every kind
        raise UserError(f'{wrong}, or its state is damaged ({str(error) or type(error).__name__})') from error
    if not optimizer.state and any(group.get('momentum', 1) for group in settings):
        raise UserError(
            f'{path} cannot be resumed: the state of its optimizer is empty; start from it with load_from'
        )
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        parameters = group['params']
        group.clear()  # the rate that schedules start from is in there, too
        group.update(values, params=parameters)
