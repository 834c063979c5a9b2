"""The one logger, and what a log should say about the machine."""

import contextlib
import logging
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmcv.utils import get_logger as mmcv_logger
from tqdm import tqdm

PACKAGES = ('torch', 'torchvision', 'mmcv-full', 'mmdet', 'mmdet3d', 'nuscenes-devkit', 'numpy')


def get_logger() -> logging.Logger:
    """The logger of the engine. Silent below WARNING until :func:`start_logging`."""
    return logging.getLogger('focaldistiller')


def start_logging(is_main: bool = True, log_file: Path | None = None) -> logging.Logger:
    """Let the main process talk on the terminal (and into a file), the others only about errors.

    Args:
        is_main: whether this is rank 0.
        log_file: a text file that receives the same lines.
    """
    logger = get_logger()
    logger.setLevel(logging.INFO if is_main else logging.ERROR)
    logger.propagate = False
    # mmcv reports the initialisation of every single parameter at INFO: a thousand lines per model.
    mmcv_logger('mmcv').setLevel(logging.WARNING)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [_TerminalHandler()]
    if is_main and log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter('%(asctime)s %(levelname).1s %(message)s', '%H:%M:%S'))
        logger.addHandler(handler)
    return logger


class _TerminalHandler(logging.Handler):
    """Writes to stderr without tearing a progress bar that is being drawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        tqdm.write(self.format(record), file=sys.stderr)
        sys.stderr.flush()


def versions() -> dict[str, str]:
    """Versions of Python, this project and what it stands on; written into every checkpoint."""
    found = {'python': platform.python_version()}
    for name in ('focaldistiller', *PACKAGES):
        with contextlib.suppress(
            PackageNotFoundError
        ):  # ours runs from its folder too, without being installed
            found[name] = version(name)
    return found
