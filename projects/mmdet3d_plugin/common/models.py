"""Build detectors, and whatever else a config names, from their configs."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError, explain
from projects.mmdet3d_plugin.common.suggest import nearest


def build_model(cfg: dict[str, Any]) -> nn.Module:
    """Build a detector from its config; hosts live in mmdet's registry, mmdet3d's own detectors in mmdet3d's.

    Raises:
        UserError: there is no such detector, or one of its parts cannot be built as the config says.
    """
    from mmdet.models.builder import DETECTORS
    from mmdet3d.models.builder import DETECTORS as DETECTORS_3D

    if not cfg:
        raise UserError('the config has no "model"')
    if 'type' not in cfg:
        raise UserError("model has no 'type': it must name a detector")
    for registry in (DETECTORS, DETECTORS_3D):
        if registry.get(cfg['type']) is not None:
            with blamed_on('model', cfg):
                return registry.build(cfg)
    known = {*DETECTORS.module_dict, *DETECTORS_3D.module_dict}
    raise UserError(f'model.type: there is no detector {cfg["type"]!r}; {nearest(cfg["type"], known)}')


@contextmanager
def blamed_on(place: str, node: Any) -> Iterator[None]:
    """Turn what a constructor raises into one line that says which part of the config it was built from.

    Args:
        place: key of the part in the config, such as ``'model'``.
        node: that part; mmcv's registries put the names of the classes before a message, which leads to the very node.

    Raises:
        UserError: in place of any other error within the block.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        text = explain(error)
        if text is None:
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        where, words = _find_node(place, node, text)
        raise UserError(f'{where} cannot be built: {words or type(error).__name__}') from error


def _find_node(place: str, node: Any, text: str) -> tuple[str, str]:
    """Follow 'BEVFormer: FPN: message' through a config: (path of the innermost part, message)."""
    while found := re.match(r'(\w+): ', text):
        below = next((p for p, n in _typed_nodes(place, node) if n['type'] == found[1]), None)
        if below is None:
            break
        node, place = dict(_typed_nodes(place, node))[below], below
        text = text[found.end() :]
    kind = node.get('type') if isinstance(node, dict) else None
    name = kind.__name__ if inspect.isclass(kind) else kind
    return (f'{place} ({name})' if name else place), re.sub(r'^\w+\.__init__\(\) |^__init__\(\) ', '', text)


def _typed_nodes(place: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, dict) of everything with a type, from the outside in."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield place, node
        for key, value in node.items():
            yield from _typed_nodes(f'{place}.{key}', value)
    elif isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from _typed_nodes(f'{place}[{index}]', item)
