"""Checkpoints: atomic writes, safe reads, strict loading that says what does not fit."""

import logging
import os
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json, write_file
from projects.mmdet3d_plugin.common.logs import get_logger

TRAINING_ONLY = ('distill.', 'dense_head.')  # a distiller's terms; a BEVFormer's auxiliary head
RUN_RECORD = 'checkpoints.json'
"""Beside checkpoints: which of them the last run saved, and which epochs it evaluated."""
_DROPPED = ('teacher.', 'distill_losses.', 'bev_restore_layers.')
_LIGHTNING = 'model.'  # PyTorch Lightning puts it before the names of a detector's weights
_STRAY = re.compile(r'(student|teacher)_[^.]*$')
_NUMBERED = re.compile(r'(?:epoch|iter)_\d+\.pth')
_SHOWN = 3  # tensors that an error names
_DAMAGED = 'it is damaged or no checkpoint at all: copy or download it again'

State = Mapping[str, torch.Tensor]


@dataclass
class LoadReport:
    """What happened to every key when weights were loaded.

    Attributes:
        matched: keys that were loaded.
        missing: keys of the model that the file lacks.
        unexpected: keys of the file that the model lacks.
        mismatched: (key, what it is in the file, what it is in the model): shapes, or kinds of numbers.
        allowed: missing, unexpected and mismatched keys that the caller allowed by name.
        notices: what was renamed or dropped, in words.
        hint: which config the file seems to belong to, '' when unknown.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, str, str]] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    hint: str = ''

    @property
    def fits(self) -> bool:
        """Whether file and model agree on every key that was not allowed to differ."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def misfit(self) -> str:
        """What does not fit, as one clause: counts, and the first few tensors of another shape."""
        said = [
            f'{len(keys)} {name} ({_grouped(keys)})'
            for name, keys in (('missing', self.missing), ('unexpected', self.unexpected))
            if keys
        ]
        if self.mismatched:
            shown = [f'{key} is {a} in the file, {b} in the model' for key, a, b in self.mismatched[:_SHOWN]]
            said.append(f'{len(self.mismatched)} mismatched (first {"; ".join(shown)})')
        return ', '.join(said)

    def __str__(self) -> str:
        lines = [f'{len(self.matched)} tensors loaded ({_grouped(self.matched)})']
        for name in ('missing', 'unexpected', 'allowed'):
            keys = getattr(self, name)
            if keys:
                lines.append(f'{len(keys)} {name}: {_grouped(keys)}')
        for key, in_file, in_model in self.mismatched[:20]:
            lines.append(f'mismatched: {key} is {in_file} in the file, {in_model} in the model')
        if len(self.mismatched) > 20:
            lines.append(f'mismatched: {len(self.mismatched) - 20} more')
        return '\n  '.join([*lines, *self.notices, *filter(None, [self.hint])])


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint on the CPU without running any code from it.

    Args:
        path: a checkpoint, or a file that holds nothing but a state dict.

    Returns:
        dict with at least ``state_dict`` and ``meta``.

    Raises:
        UserError: it is not there, damaged, holds more than weights and plain values, or no weights.
    """
    _check_file(Path(path))
    content = _unpickle(path)
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__} where a checkpoint has a dict')
    if 'state_dict' not in content:
        content = {'state_dict': content.get('model', content)}
    meta, state = content.get('meta') or {}, content['state_dict']
    if not isinstance(meta, Mapping):
        raise UserError(f'{path} is no checkpoint: its "meta" is a {type(meta).__name__}, not a dict')
    if not isinstance(state, Mapping):
        raise UserError(f'{path} is no checkpoint: its "state_dict" is a {type(state).__name__}, not a dict')
    if not state:
        raise UserError(f'{path} holds no weights')
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or not isinstance(name, str):
            raise UserError(f'{path} has no state dict: {name} is not a tensor')
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise UserError(f'{path}: {name} is no plain tensor of real numbers ({value.dtype})')
    return {**content, 'meta': dict(meta)}


def _check_file(path: Path) -> None:
    """Look at a file before torch does: whether it is there, whole, and of a size that can be believed."""
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a checkpoint in it')
    if not path.is_file():
        raise UserError(f'there is no checkpoint {path}')
    if not path.stat().st_size:
        raise UserError(f'{path} is empty (0 bytes): copy or download it again')
    if not zipfile.is_zipfile(path):
        return  # torch's format before 1.6, or nothing of torch's
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > 4 * path.stat().st_size + 2**24:
                raise UserError(
                    f'{path} would unpack to {unpacked / 2**30:.1f} GiB, {unpacked // path.stat().st_size} times its '
                    'size: no checkpoint does, so it is not read'
                )
            if (bad := archive.testzip()) is not None:
                raise UserError(
                    f'{path} is damaged (the checksum of {bad} is wrong): copy or download it again'
                )
    except UserError:
        raise
    except Exception as error:
        raise UserError(f'{path} is not a readable checkpoint ({error}): {_DAMAGED}') from error


def _unpickle(path: str | os.PathLike, **options: Any) -> Any:
    """torch.load without code, and without its advice to load the file with code."""
    try:
        return torch.load(path, map_location='cpu', weights_only=True, **options)
    except Exception as error:  # damaged bytes raise errors of every kind
        if found := re.search(r'(?:GLOBAL|unrecognized function|unsupported class) ([\w.]+)', str(error)):
            raise UserError(
                f'{path} holds more than weights and plain values ({found[1]}), which could run code of a stranger, '
                'so it is not loaded'
            ) from error
        reason = str(error).splitlines()[0][:100] if isinstance(error, OSError | MemoryError) else ''
        raise UserError(
            f'{path} is not a readable checkpoint{reason and f" ({reason})"}: {_DAMAGED}'
        ) from error


def write_checkpoint(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all: a crash or a full disk never leaves half a file under its name."""
    write_file(path, lambda file: torch.save(content, file))


def plain_state(model: nn.Module) -> 'OrderedDict[str, torch.Tensor]':
    """State dict of a model or of the model inside a parallel wrapper, on the CPU.

    Example:
        >>> list(plain_state(torch.nn.Linear(2, 1)))
        ['weight', 'bias']
    """
    state = unwrap(model).state_dict()
    cpu = OrderedDict((key, value.detach().cpu()) for key, value in state.items())
    cpu._metadata = getattr(state, '_metadata', OrderedDict())  # versions that layers look at when loading
    return cpu


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, without MMDataParallel or MMDistributedDataParallel around it.

    Example:
        >>> unwrap(torch.nn.Identity())
        Identity()
    """
    from mmcv.parallel import is_module_wrapper

    return model.module if is_module_wrapper(model) else model


def plain_names(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Give weights of any origin their plain names.

    Understands what this project writes (plain names and ``distill.*``), a wrapper's ``module.`` prefix, and
    FocalDistiller's checkpoints (``student.*``, ``teacher.*``, its own restore layers and stray feature buffers).

    Args:
        state: weights by name.

    Returns:
        The weights that a student or a distiller can take, and the names that were dropped.

    Raises:
        UserError: two weights would get one name.

    Example:
        >>> plain_names({'student.head.weight': 1, 'teacher.head.weight': 2})
        ({'head.weight': 1}, ['teacher.head.weight'])
    """
    if state and all(name.startswith('module.') for name in state):
        state = {name.removeprefix('module.'): value for name, value in state.items()}
    kept, dropped = {}, []
    for name, value in state.items():
        plain = name.removeprefix('student.')
        if name.startswith(_DROPPED) or _STRAY.fullmatch(name):
            dropped.append(name)
        elif plain in kept:
            raise UserError(f'both {plain} and student.{plain} are in it: which is the student is not clear')
        else:
            kept[plain] = value
    return kept, dropped


def load_weights(
    model: nn.Module,
    checkpoint: str | os.PathLike | dict[str, Any],
    strict: bool = True,
    allow: Sequence[str] = (),
    logger: logging.Logger | None = None,
    source: str | os.PathLike | None = None,
) -> LoadReport:
    """Load weights into a model, and say what does not fit.

    Upstream's distiller checkpoints are understood: ``student.`` is stripped; the teacher, loss modules and
    recorded features are dropped with a notice; so is the ``model.`` of PyTorch Lightning. So are our own ``distill.*`` parts when the model is a plain
    student, and what a hook of the training had added (the copies of an average).

    Args:
        model: a detector, a Distiller, or either in a parallel wrapper.
        checkpoint: a path, or what :func:`read_checkpoint` returned.
        strict: whether a key that does not fit is an error.
        allow: prefixes of keys that may be missing, unexpected or of another shape although ``strict``.
        logger: where notices go, the engine's logger by default.
        source: the name of the file, for messages; ``checkpoint`` itself when that is a path.

    Raises:
        UserError: a weight is not finite, or ``strict`` and the file does not fit; the message holds the whole report.
    """
    if isinstance(checkpoint, dict):
        source, content = source or 'the checkpoint', checkpoint
    else:
        source, content = checkpoint, read_checkpoint(checkpoint)
    model = unwrap(model)
    own = model.state_dict()
    try:
        state, notices = normalise_keys(content['state_dict'], own, content.get('meta', {}))
    except UserError as error:
        raise UserError(f'{source}: {error}') from None
    report = LoadReport(notices=notices)
    fitting = _fitting(state, own, report)
    refuse_non_finite(fitting, source, own)
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    # a distiller's modules have other names than its checkpoints
    missing, unexpected = (
        [name if name in own else name.removeprefix('student.') for name in names]
        for names in (missing, unexpected)
    )
    wrong = {key for key, _, _ in report.mismatched}
    report.missing = [key for key in missing if key not in wrong]
    report.unexpected = unexpected
    report.matched = [key for key in fitting if key not in set(unexpected)]
    _set_aside_allowed(report, tuple(allow))
    host = getattr(model, 'student', model)
    hint = getattr(host, 'weights_hint', None)
    if hint and (report.mismatched or report.missing):
        report.hint = hint(state)
    if strict and not report.fits:
        raise UserError(
            f'{source} does not fit the {type(model).__name__} of the config: {report.misfit}; '
            f'{report.hint or "take the checkpoint of this config, or the config of this checkpoint"}'
        )
    logger = logger or get_logger()
    for notice in notices:
        logger.info('%s: %s', source, notice)
    caution = getattr(host, 'lightning_caution', None)
    if caution and of_lightning(content['state_dict'], own) and (said := caution()):
        logger.warning('%s: %s', source, said)
    return report


def refuse_non_finite(state: State, source: str | os.PathLike, own: State | None = None) -> None:
    """Stop at weights that hold NaN or infinity.

    Args:
        state: weights by name.
        source: their file, for the message.
        own: what a model has under these names; where that itself is not finite (a mask), the file may be so too.

    Raises:
        UserError: some weight is not finite.
    """
    bad = [
        name
        for name, value in state.items()
        if value.is_floating_point()
        and not value.isfinite().all()
        and (own is None or name not in own or value.isnan().any() or own[name].isfinite().all())
    ]
    if bad:
        raise UserError(
            f'{source} holds NaN or infinity in {len(bad)} of its {len(state)} tensors (first {bad[0]}): its training '
            'had failed before it was saved; take an earlier checkpoint'
        )


def initialize_weights(
    model: nn.Module, path: str | os.PathLike, min_matched: float = 0.5, logger: logging.Logger | None = None
) -> LoadReport:
    """Start a model from weights of another model (``load_from``), for instance a pretrained backbone.

    Unlike :func:`load_weights` this accepts a file that fits in part, but not one that hardly fits at all.

    Args:
        model: the model to be trained.
        path: the file.
        min_matched: the least share of the backbone's weights that must be found in the file.
        logger: where the report goes, the engine's logger by default.
    """
    report = load_weights(model, path, strict=False, logger=logger)
    wanted = {key for key in unwrap(model).state_dict() if 'backbone' in key.split('.')[0]}
    found = wanted.intersection(report.matched)
    if not report.matched or len(found) < min_matched * len(wanted):
        raise UserError(
            f'load_from {path}: only {len(found)} of the {len(wanted)} tensors of the backbone are in the file, '
            f'so it is not the initialisation this config expects: {report.misfit}'
        )
    (logger or get_logger()).info('initialised from %s:\n  %s', path, report)
    return report


def normalise_keys(
    state: State, own: Iterable[str], meta: Mapping[str, Any] | None = None
) -> tuple['OrderedDict[str, torch.Tensor]', list[str]]:
    """Give the keys of any checkpoint of this family the plain names of the student.

    Args:
        state: state dict as stored.
        own: keys of the model that will receive it.
        meta: of the checkpoint.

    Returns:
        the state dict with plain names, and notices in words.

    Raises:
        UserError: two weights would get one name.
    """
    own = set(own)
    wrapped = of_lightning(state, own)
    plain, dropped = plain_names({key.removeprefix(_LIGHTNING) if wrapped else key: key for key in state})
    keys = {key: name for name, key in plain.items()}
    notices = [f'read as the student of a distiller, dropped {_grouped(dropped)}'] if dropped else []
    if wrapped:
        notices.append(f'read without the {_LIGHTNING!r} that PyTorch Lightning puts before every name')
    added = {key for key in added_by_hooks(state, meta or {}) if keys.get(key) not in own}
    if added:
        keys = {key: name for key, name in keys.items() if key not in added}
        what = 'they are the average' if (meta or {}).get('hook_state') else 'taken as they are'
        notices.append(
            f'the weights under their plain names are used ({what}); left out {len(added)} tensors that a hook of the '
            f'training had added, first {min(added)}'
        )
    absent = tuple(part for part in TRAINING_ONLY if not any(name.startswith(part) for name in own))
    if absent:
        training = [key for key, name in keys.items() if name.startswith(absent)]
        keys = {key: name for key, name in keys.items() if key not in set(training)}
        if training:
            notices.append(f'left out what only training needs: {_grouped(training)}')
    result = OrderedDict((name, state[key]) for key, name in keys.items())
    versions = getattr(state, '_metadata', {})
    prefixes = (_LIGHTNING,) if wrapped else ('module.', 'student.')
    result._metadata = OrderedDict((_plain_module(name, prefixes), value) for name, value in versions.items())
    return result, notices


def of_lightning(state: Iterable[str], own: Iterable[str]) -> bool:
    """Whether names of weights, unlike a model's own, all have the prefix by which PyTorch Lightning calls a detector.

    Example:
        >>> of_lightning(['model.head.weight'], ['head.weight']), of_lightning(['model.weight'], ['model.weight'])
        (True, False)
    """
    known = list(own)
    if not known or any(name.startswith(_LIGHTNING) for name in known):
        return False
    return all(name.startswith(_LIGHTNING) for name in state)


def added_by_hooks(state: State, meta: Mapping[str, Any]) -> set[str]:
    """Names that a hook of the training gave to the model's state, for instance the copies that mmcv's EMAHook keeps.

    Args:
        state: weights by name.
        meta: of their checkpoint; ours name them under ``hook_state``.
    """
    copies = {f'ema_{name.replace(".", "_")}' for name in state}
    return {name for name in state if name in copies} | set(meta.get('hook_state', ())).intersection(state)


def find_latest(work_dir: str | os.PathLike) -> Path | None:
    """The checkpoint of a folder that ``--resume auto`` tries first, None when there is none."""
    return next(iter(resumable_files(work_dir)), None)


def resumable_files(work_dir: str | os.PathLike) -> list[Path]:
    """Checkpoints of a folder that its last run can go on from, newest first: the one of ``latest.pth``, then others.

    Where the run's own record lies beside them, files that it did not save are left alone; in a folder without a
    record only files with the name and the content of a checkpoint of training count.
    """
    work_dir = Path(work_dir)
    saved = saved_by_run(work_dir)
    link = work_dir / 'latest.pth'
    latest = link.resolve() if link.is_file() else None
    if saved is None:
        found = [path for path in work_dir.glob('*.pth') if _NUMBERED.fullmatch(path.name)]
        steps = {path: _steps_of(path) for path in found}
        names = sorted((path for path in found if steps[path] is not None), key=lambda path: -steps[path])
        if latest is not None:  # what got further than that is of another run
            limit = steps.get(work_dir / latest.name)
            names = [path for path in names if limit is None or steps[path] <= limit]
    else:
        names = [work_dir / name for name in reversed(saved) if (work_dir / name).is_file()]
        if latest is not None and latest.name not in saved:
            latest = None
    first = (
        [] if latest is None else [work_dir / latest.name if latest.parent == work_dir.resolve() else latest]
    )
    return list(dict.fromkeys([*first, *names]))


def saved_by_run(work_dir: str | os.PathLike) -> list[str] | None:
    """Names of the checkpoints that the last run in a folder saved, oldest first; None without a record."""
    try:
        saved = read_json(Path(work_dir) / RUN_RECORD)['saved']
    except (UserError, KeyError, TypeError):
        return None
    return [name for name in saved if isinstance(name, str)] if isinstance(saved, list) else None


def _steps_of(path: Path) -> int | None:
    """Steps that a checkpoint of training has behind it, None for any other file; weights are not read from disk."""
    try:
        content = _unpickle(path, mmap=True)
        return int(content['meta']['iter']) if 'optimizer' in content else None
    except (UserError, KeyError, TypeError, ValueError):
        return None


def _plain_module(name: str, prefixes: Sequence[str]) -> str:
    """Module path of a state dict's metadata without prefixes such as ``'student.'``."""
    for prefix in prefixes:
        name = '' if f'{name}.' == prefix else name.removeprefix(prefix)
    return name


def _fitting(state: State, own: State, report: LoadReport) -> State:
    """Leave out what does not fit, and report it: tensors of another shape, such as (C_out, C_in, 1, 1) for
    (C_out, C_in, 3, 3), where torch would stop, or of another kind of number, which it would convert.
    """
    fitting = OrderedDict()
    for key, value in state.items():
        if key in own and own[key].shape != value.shape:
            report.mismatched.append((key, str(tuple(value.shape)), str(tuple(own[key].shape))))
        elif key in own and own[key].is_floating_point() != value.is_floating_point():
            report.mismatched.append((key, str(value.dtype), str(own[key].dtype)))
        else:
            fitting[key] = value
    fitting._metadata = OrderedDict(getattr(state, '_metadata', {}))
    return fitting


def _set_aside_allowed(report: LoadReport, allow: tuple[str, ...]) -> None:
    """Move keys that the caller allowed to differ from the report's complaints to ``allowed``."""
    if not allow:
        return
    mismatched = [key for key, _, _ in report.mismatched]
    report.allowed = [k for k in (*report.missing, *report.unexpected, *mismatched) if k.startswith(allow)]
    report.missing = [key for key in report.missing if not key.startswith(allow)]
    report.unexpected = [key for key in report.unexpected if not key.startswith(allow)]
    report.mismatched = [entry for entry in report.mismatched if not entry[0].startswith(allow)]


def _grouped(keys: Iterable[str]) -> str:
    """Count keys by their first two name parts: 'img_neck.fpn_convs 8, pts_bbox_head.transformer 120'."""
    counts: dict[str, int] = {}
    for key in keys:
        prefix = '.'.join(key.split('.')[:2])
        counts[prefix] = counts.get(prefix, 0) + 1
    shown = [f'{prefix} {count}' for prefix, count in list(counts.items())[:12]]
    if len(counts) > 12:
        shown.append(f'and {len(counts) - 12} more groups')
    return ', '.join(shown) or 'nothing'
