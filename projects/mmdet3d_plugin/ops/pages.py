"""Memory of large CPU tensors: used again rather than cleared anew by the system for every result."""

import contextlib
from collections.abc import Iterator

import torch

from projects.mmdet3d_plugin.ops import library


@contextlib.contextmanager
def kept_pages() -> Iterator[None]:
    """Within this context large tensors that this thread makes on the CPU come in huge pages, which are kept.

    Freed, they wait for their next use: of a forward pass of BEVFormer-base on the CPU, a quarter went to the system
    clearing fresh pages of 4 KiB. At most ``FOCALDISTILLER_KEPT_MB`` wait, see ``csrc/pages.h``. Tensors may outlive
    the context, which is a decorator too. Elsewhere than on Linux, in compiled graphs and without the compiled library
    nothing changes.
    """
    if torch.compiler.is_compiling() or not library.serves(torch.empty(0), 'keep_pages'):
        yield
        return
    before = torch.ops.focaldistiller.keep_pages(True)
    try:
        yield
    finally:
        torch.ops.focaldistiller.keep_pages(before)
