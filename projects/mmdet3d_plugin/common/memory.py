"""Memory that reading a file may take: a small file of a stranger can ask for more than a machine has."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_AT_LEAST = 256 * 2**20
_PER_BYTE = 100  # an empty dict is two bytes of a pickle and about 90 of memory
_STATUS = Path('/proc/self/statm')
TOO_MUCH = 'reading it takes far more memory than a file of its size can need'
"""Why a file is refused within :func:`bounded_memory`."""


@contextmanager
def bounded_memory(file: IO[bytes]) -> Iterator[None]:
    """Let what reads an open file take no more memory than a file of its size can be in need of.

    Where the system does not say what the process has now, nothing is bounded.

    Args:
        file: at the place from which it will be read.

    Raises:
        MemoryError: within, as soon as more is asked for.
    """
    here = file.tell()
    size = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        now = int(_STATUS.read_text().split()[0]) * resource.getpagesize()
    except OSError:
        yield
        return
    bound = now + _AT_LEAST + _PER_BYTE * size
    limits = [limit for limit in (bound, before, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
