"""Name in an error the part of a config that cannot be built."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from projects.mmdet3d_plugin.common.errors import UserError, explain


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
    except Exception as error:
        text = explain(error)
        if text is None:
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        where, words = _find_node(place, node, text)
        if isinstance(error, UserError) and words == text:
            raise  # it says itself what it is about
        raise UserError(f'{where} cannot be built: {words or type(error).__name__}') from error


def _find_node(place: str, node: Any, text: str) -> tuple[str, str]:
    """Follow 'BEVFormer: FPN: message' through a config: (path of the innermost part, message)."""
    while found := re.match(r'[\'"\\]*(\w+): ', text):
        below = next((p for p, n in _typed_nodes(place, node) if n['type'] == found[1]), None)
        if below is None:
            break
        node, place = dict(_typed_nodes(place, node))[below], below
        text = text[found.end() :]
    kind = node.get('type') if isinstance(node, dict) else None
    name = kind.__name__ if inspect.isclass(kind) else kind
    return (f'{place} ({name})' if name else place), re.sub(
        r'^\w+\.__init__\(\) |^__init__\(\) ', '', text
    ).strip('\'"\\')


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
