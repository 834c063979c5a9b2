"""Name in an error the part of a config that cannot be built."""

import inspect
import re
import traceback
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
        if isinstance(error, AssertionError):
            text += _asserted(error)
        where, words = _find_node(place, node, text)
        if isinstance(error, UserError) and words == text:
            raise  # it says itself what it is about
        raise UserError(f'{where} cannot be built: {words or type(error).__name__}') from error


def _asserted(error: BaseException) -> str:
    """The condition of an assertion without a message; mmcv's registries raise it again from where they are."""
    while isinstance(error.__context__, AssertionError):
        error = error.__context__
    frames = traceback.extract_tb(error.__traceback__)
    line = frames[-1].line or '' if frames else ''
    return '' if str(error) else f'it needs {line.removeprefix("assert ")}'


def _find_node(place: str, node: Any, text: str) -> tuple[str, str]:
    """Follow 'BEVFormer: FPN: message' through a config: (path of the innermost part, message)."""
    opened = 0  # quotes around errors that were raised again, which close at the end
    while found := re.match(r'([\'"\\]*)(\w+): ', text):
        below = next((p for p, n in typed_nodes(place, node) if n['type'] == found[2]), None)
        if below is None:
            break
        opened += len(found[1].replace('\\', ''))
        node, place = dict(typed_nodes(place, node))[below], below
        text = text[found.end() :]
    kind = node.get('type') if isinstance(node, dict) else None
    name = kind.__name__ if inspect.isclass(kind) else kind
    text = re.sub(r'^\w+\.__init__\(\) |^__init__\(\) ', '', text)
    for _ in range(opened):
        text = re.sub(r'\\*[\'"]$', '', text)
    if wrapped := re.fullmatch(r'\\*([\'"])((?:(?!\1).)*?)\\*\1', text, re.DOTALL):
        text = wrapped[2]
    return (f'{place} ({name})' if name else place), text


def typed_nodes(place: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(path, dict) of everything with a type, from the outside in."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield place, node
        for key, value in node.items():
            yield from typed_nodes(f'{place}.{key}', value)
    elif isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from typed_nodes(f'{place}[{index}]', item)
