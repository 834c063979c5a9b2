"""Starts a tool: options first, then the modules that do the work."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence


def launch(parse: Callable[[Sequence[str] | None], argparse.Namespace], module: str) -> None:
    """Read the command line, which ends here where it asks for help or is mistaken, and only then import the tool.

    Args:
        parse: reads the command line; must need nothing heavy.
        module: below ``projects.mmdet3d_plugin``; its ``main()`` does the work and may return an exit status.
    """
    parse(None)
    sys.exit(importlib.import_module(f'projects.mmdet3d_plugin.{module}').main())
