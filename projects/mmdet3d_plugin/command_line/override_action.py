"""``--cfg-options key=value ...``, as mmcv's ``DictAction`` reads it, which needs all of mmcv and torch."""

import argparse
from collections.abc import Sequence
from typing import Any

_CONTAINERS = {'(': (')', tuple), '[': (']', list)}
_WORDS = {'true': True, 'false': False}


class OverrideAction(argparse.Action):
    """Collects ``key=value`` words in a dict."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Parse the words after the option; a mistake ends the program with the usage."""
        try:
            setattr(namespace, self.dest, parse_overrides(values))
        except ValueError as error:
            parser.error(f'{option_string} {error}')


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words -> what they set.

    Raises:
        ValueError: a word has no ``=``, or its brackets do not match.

    Example:
        >>> parse_overrides(['optimizer.lr=1e-4', 'classes=car,bus', 'size=(200,100)', 'amp=None'])
        {'optimizer.lr': 0.0001, 'classes': ['car', 'bus'], 'size': (200, 100), 'amp': None}
    """
    options = {}
    for word in words:
        key, sign, value = word.partition('=')
        if not (key and sign):
            raise ValueError(f'{word}: say KEY=VALUE, without spaces around the =')
        try:
            options[key] = _parse_value(value)
        except ValueError:
            raise ValueError(f'{word}: brackets do not match') from None
    return options


def _parse_value(text: str) -> Any:
    """A number, True, False, None, a word, or a list or tuple of such."""
    text = text.strip('\'"').replace(' ', '')
    parts = _split(text)
    closing, kind = _CONTAINERS.get(text[:1], ('', list))
    if closing and len(parts) == 1 and text.endswith(closing):
        return kind(map(_parse_value, _split(text[1:-1])))
    return [_parse_value(part) for part in parts] if ',' in text else _parse_word(text)


def _split(text: str) -> list[str]:
    """Parts between the commas outside of brackets; nothing after a last comma.

    Raises:
        ValueError: brackets do not match.
    """
    expected, parts = [], ['']
    for letter in text:
        if letter in _CONTAINERS:
            expected.append(_CONTAINERS[letter][0])
        elif letter in ')]' and (not expected or expected.pop() != letter):
            raise ValueError(text)
        if letter == ',' and not expected:
            parts.append('')
        else:
            parts[-1] += letter
    if expected:
        raise ValueError(text)
    return parts if parts[-1] else parts[:-1]


def _parse_word(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return None if text == 'None' else _WORDS.get(text.lower(), text)
