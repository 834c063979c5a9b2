"""How a distiller's weights are called in a checkpoint: the student's under plain names, the rest under ``distill.``."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

logger = logging.getLogger('focaldistiller')

DISTILL = 'distill.'
_DROPPED = ('teacher.', 'distill_losses.', 'bev_restore_layers.')
_STRAY = re.compile(r'(student|teacher)_[^.]*$')


def plain_names(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Give weights of any origin their plain names.

    Understands what this project writes (plain names and ``distill.*``), a wrapper's ``module.`` prefix, and
    FocalDistiller's checkpoints (``student.*``, ``teacher.*``, its own restore layers and stray feature buffers).

    Args:
        state: weights by name.

    Returns:
        The weights that a student or a distiller can take, and the names that were dropped.
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


def save_plain_names(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """State-dict hook of a distiller: the student's weights lose their ``student.``. mmcv's saver calls it too."""
    start = f'{prefix}student.'
    for names in (state, getattr(state, '_metadata', {})):
        for name in list(names):
            plain = prefix + name.removeprefix(start) if name.startswith(start) else name
            names[plain] = names.pop(name)


def load_any_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Load hook of a distiller: accept what it saves, a plain student's weights, and FocalDistiller's own."""
    given = {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}
    plain, dropped = plain_names(given)
    if not any(name.startswith(DISTILL) for name in plain):
        parts = {DISTILL + name: value for name, value in module.distill.state_dict().items()}
        logger.info(
            'the checkpoint has no training-only parts; the %d tensors of this recipe stay', len(parts)
        )
        plain |= parts
    if dropped:
        logger.warning('%d tensors that are not the student were dropped, first %r', len(dropped), dropped[0])
    for name, value in plain.items():
        state[prefix + (name if name.startswith(DISTILL) else f'student.{name}')] = value
