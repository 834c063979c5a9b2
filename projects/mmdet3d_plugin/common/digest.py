"""Names for content: what is kept on disk is found again by what it was made from."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def digest_of(value: Any) -> str:
    """A name for nested values: the same for the same content, whatever the order of a mapping's keys.

    Args:
        value: tensors, arrays, mappings, lists and tuples of such, or anything whose ``repr`` says what it is.

    Example:
        >>> digest_of({'a': 1, 'b': [2]}) == digest_of({'b': [2], 'a': 1}) != digest_of({'a': 1, 'b': [3]})
        True
    """
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        digest.update(f'{value.dtype}{value.shape}'.encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(f'{key}:'.encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f'[{len(value)}]'.encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(repr(value).encode())
