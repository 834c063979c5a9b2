"""Checkpoints: atomic writes, safe reads, strict loading that says what does not fit."""

import logging
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_file
from projects.mmdet3d_plugin.common.logs import get_logger

TRAINING_ONLY = 'distill.'
_DROPPED = ('teacher.', 'distill_losses.', 'bev_restore_layers.')
_STRAY = re.compile(r'(student|teacher)_[^.]*$')
BEV_EMBEDDING = 'pts_bbox_head.bev_embedding.weight'
# Rows of the BEV embedding, FPN laterals -> the config those published weights were made with.
KNOWN_GEOMETRIES = {
    (40000, 3): 'projects/configs/bevformer/bevformer_base.py',
    (22500, 1): 'projects/configs/bevformer/bevformer_small_c5_150x150.py',
    (10000, 4): 'projects/configs/bevformer/bevformer_small.py',
    (2500, 1): 'projects/configs/bevformer/bevformer_tiny.py',
}

State = Mapping[str, torch.Tensor]


@dataclass
class LoadReport:
    """What happened to every key when weights were loaded.

    Attributes:
        matched: keys that were loaded.
        missing: keys of the model that the file lacks.
        unexpected: keys of the file that the model lacks.
        mismatched: (key, shape in the file, shape in the model).
        allowed: missing, unexpected and mismatched keys that the caller allowed by name.
        notices: what was renamed or dropped, in words.
        hint: which config the file seems to belong to, '' when unknown.
    """

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    hint: str = ''

    @property
    def fits(self) -> bool:
        """Whether file and model agree on every key that was not allowed to differ."""
        return not (self.missing or self.unexpected or self.mismatched)

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
    """
    if not Path(path).is_file():
        raise UserError(f'there is no checkpoint {path}')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f'{path} holds more than weights and plain values, so it is not loaded ({reason})'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f'{path} is not a readable checkpoint ({error})') from error
    if not isinstance(content, Mapping):
        raise UserError(f'{path} holds a {type(content).__name__} where a checkpoint has a dict')
    if 'state_dict' not in content:
        content = {'state_dict': content.get('model', content)}
    strays = [key for key, value in content['state_dict'].items() if not isinstance(value, torch.Tensor)]
    if strays:
        raise UserError(f'{path} has no state dict: {strays[0]} is not a tensor')
    return {'meta': {}, **content}


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

    Example:
        >>> plain_names({'student.head.weight': 1, 'teacher.head.weight': 2})
        ({'head.weight': 1}, ['teacher.head.weight'])
    """
    if state and all(name.startswith('module.') for name in state):
        state = {name.removeprefix('module.'): value for name, value in state.items()}
    kept, dropped = {}, []
    for name, value in state.items():
        if name.startswith(_DROPPED) or _STRAY.fullmatch(name):
            dropped.append(name)
        else:
            kept[name.removeprefix('student.')] = value
    return kept, dropped


def load_weights(
    model: nn.Module,
    checkpoint: str | os.PathLike | dict[str, Any],
    strict: bool = True,
    allow: Sequence[str] = (),
    logger: logging.Logger | None = None,
) -> LoadReport:
    """Load weights into a model, and say what does not fit.

    Upstream's distiller checkpoints are understood: ``student.`` is stripped; the teacher, loss modules and
    recorded features are dropped with a notice. So are our own ``distill.*`` parts when the model is a plain
    student.

    Args:
        model: a detector, a Distiller, or either in a parallel wrapper.
        checkpoint: a path, or what :func:`read_checkpoint` returned.
        strict: whether a key that does not fit is an error.
        allow: prefixes of keys that may be missing, unexpected or of another shape although ``strict``.
        logger: where notices go, the engine's logger by default.

    Raises:
        UserError: ``strict`` and the file does not fit; the message holds the whole report.
    """
    source = 'the checkpoint' if isinstance(checkpoint, dict) else str(checkpoint)
    content = checkpoint if isinstance(checkpoint, dict) else read_checkpoint(checkpoint)
    model = unwrap(model)
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    state, notices = normalise_keys(content['state_dict'], own)
    report = LoadReport(notices=notices)
    fitting = _fitting(state, own, report)
    missing, unexpected = model.load_state_dict(fitting, strict=False)
    wrong_shape = {key for key, _, _ in report.mismatched}
    report.missing = [key for key in missing if key not in wrong_shape]
    report.unexpected = list(unexpected)
    report.matched = [key for key in fitting if key not in set(unexpected)]
    _set_aside_allowed(report, tuple(allow))
    if report.mismatched or report.missing:
        report.hint = _geometry_hint(state, own)
    if strict and not report.fits:
        raise UserError(f'{source} does not fit the {type(model).__name__} of the config:\n  {report}')
    for notice in notices:
        (logger or get_logger()).info('%s: %s', source, notice)
    return report


def initialize_weights(
    model: nn.Module, path: str | os.PathLike, min_matched: float = 0.5, logger: logging.Logger | None = None
) -> LoadReport:
    """Start a model from weights of another model (``load_from``), for instance a pretrained backbone.

    Unlike :func:`load_weights` this accepts a file that fits in part, but not one that hardly fits at all.

    Args:
        model: the model to be trained.
        path: the file.
        min_matched: the least share of the backbone's tensors that must be found in the file.
        logger: where the report goes, the engine's logger by default.
    """
    report = load_weights(model, path, strict=False, logger=logger)
    wanted = {key for key in unwrap(model).state_dict() if 'backbone' in key.split('.')[0]}
    found = wanted.intersection(report.matched)
    if not report.matched or len(found) < min_matched * len(wanted):
        raise UserError(
            f'load_from {path}: only {len(found)} of the {len(wanted)} tensors of the backbone are in the file, '
            f'so it is not the initialisation this config expects:\n  {report}'
        )
    (logger or get_logger()).info('initialised from %s:\n  %s', path, report)
    return report


def normalise_keys(state: State, own: Iterable[str]) -> tuple['OrderedDict[str, torch.Tensor]', list[str]]:
    """Give the keys of any checkpoint of this family the plain names of the student.

    Args:
        state: state dict as stored.
        own: keys of the model that will receive it.

    Returns:
        the state dict with plain names, and notices in words.
    """
    plain, dropped = plain_names({key: key for key in state})
    keys = {key: name for name, key in plain.items()}
    notices = [f'read as the student of a distiller, dropped {_grouped(dropped)}'] if dropped else []
    if not any(name.startswith(TRAINING_ONLY) for name in own):
        training = [key for key, name in keys.items() if name.startswith(TRAINING_ONLY)]
        keys = {key: name for key, name in keys.items() if key not in set(training)}
        if training:
            notices.append(f'left out what only training needs: {_grouped(training)}')
    result = OrderedDict((name, state[key]) for key, name in keys.items())
    versions = getattr(state, '_metadata', {})
    result._metadata = OrderedDict((_plain_module(name), value) for name, value in versions.items())
    return result, notices


def find_latest(work_dir: str | os.PathLike) -> Path | None:
    """The checkpoint of a folder that got furthest in training, None when there is none."""
    files = [*Path(work_dir).glob('epoch_*.pth'), *Path(work_dir).glob('iter_*.pth')]
    return max(files, key=_progress_of, default=None)


def _progress_of(path: Path) -> int:
    """Iterations that a checkpoint has behind it; the weights themselves are not read from disk."""
    try:
        return int(torch.load(path, map_location='cpu', weights_only=True, mmap=True)['meta']['iter'])
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise UserError(f'{path} is not a checkpoint to resume from ({error}): move it away') from error


def _plain_module(name: str) -> str:
    """Module path of a state dict's metadata without wrapper and student prefixes."""
    for prefix in ('module', 'student'):
        name = '' if name == prefix else name.removeprefix(f'{prefix}.')
    return name


def _fitting(state: State, own: dict[str, tuple[int, ...]], report: LoadReport) -> State:
    """Leave out weights of another shape (torch would stop at them) and note them in the report."""
    fitting = OrderedDict()
    for key, value in state.items():
        if key in own and own[key] != tuple(value.shape):
            report.mismatched.append((key, tuple(value.shape), own[key]))
        else:
            fitting[key] = value
    fitting._metadata = getattr(state, '_metadata', OrderedDict())
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


def _geometry_hint(state: State, own: dict[str, tuple[int, ...]]) -> str:
    """Name the config that a file of BEVFormer weights belongs to, told by its shapes."""
    if BEV_EMBEDDING not in state or BEV_EMBEDDING not in own:
        return ''
    rows = state[BEV_EMBEDDING].shape[0]
    laterals = len({key for key in state if re.fullmatch(r'img_neck\.lateral_convs\.\d+\.conv\.weight', key)})
    side = round(rows**0.5)
    shape = f'{side}x{side}' if side * side == rows else f'{rows} cells'
    found = KNOWN_GEOMETRIES.get((rows, laterals))
    fits = f'it fits {found}' if found else 'none of the published configs has that'
    return f'hint: the file is of a model with a BEV of {shape} and {laterals} image levels: {fits}'


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
