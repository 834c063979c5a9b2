"""Functions of this project and of mmcv that are computed in another way for a while."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def replaced(function: Callable, stand_in: Callable) -> Iterator[None]:
    """Put ``stand_in`` in place of a function in every module that has imported it, of this project and of mmcv's operators.

    Example:
        >>> from projects.mmdet3d_plugin.common import replaced as module
        >>> with replaced(replaced, abs):
        ...     module.replaced(-1)
        1
    """
    places = [
        (module, name)
        for module in list(sys.modules.values())
        if getattr(module, '__name__', '').startswith(('projects.', 'mmcv.ops'))
        for name, value in vars(module).items()
        if value is function
    ]
    for module, name in places:
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for module, name in places:
            setattr(module, name, function)
