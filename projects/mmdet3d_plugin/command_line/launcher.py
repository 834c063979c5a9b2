"""Starts a tool: options first, then the modules that do the work."""

import argparse
import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])
_with_source = warnings.formatwarning


def launch(parse: Callable[[Sequence[str] | None], argparse.Namespace], module: str) -> None:
    """Read the command line, which ends here where it asks for help or is mistaken, and only then import the tool.

    Args:
        parse: reads the command line; must need nothing heavy.
        module: below ``projects.mmdet3d_plugin``; its ``main()`` does the work and may return an exit status.
    """
    parse(None)
    warnings.formatwarning = format_warning
    sys.exit(importlib.import_module(f'projects.mmdet3d_plugin.{module}').main())


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning of this package as one sentence; of other packages with its source, as Python shows it."""
    if filename.startswith(PACKAGE):
        return f'warning: {message}\n'
    return _with_source(message, category, filename, lineno, line)
