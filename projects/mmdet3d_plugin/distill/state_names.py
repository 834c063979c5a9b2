"""How a distiller's weights are called in a checkpoint: the student's under plain names, the rest under ``distill.``."""

import logging
from collections.abc import MutableMapping
from typing import Any

from torch import nn

from projects.mmdet3d_plugin.common.checkpoint import plain_names

logger = logging.getLogger('focaldistiller')

DISTILL = 'distill.'


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
        # what a hook of the training added belongs to the distiller itself
        own = name.startswith(DISTILL) or name in module._buffers
        state[prefix + (name if own else f'student.{name}')] = value
    _restore_versions(getattr(state, '_metadata', {}), prefix)


def _restore_versions(versions: MutableMapping[str, Any], prefix: str) -> None:
    """Let the student's modules find their versions, which were saved under plain names.

    Layers convert old weights by them: spconv's would permute kernels that have none.
    """
    student, whole = f'{prefix}student', prefix.removesuffix('.')
    for name, version in list(versions.items()):
        if name == whole:
            versions.setdefault(student, version)
        elif name.startswith(prefix) and not (name + '.').startswith((f'{student}.', prefix + DISTILL)):
            versions[f'{student}.{name.removeprefix(prefix)}'] = version
