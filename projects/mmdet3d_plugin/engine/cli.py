"""Arguments that several command lines share."""

import argparse
from collections.abc import Callable
from typing import Any

from mmcv import DictAction

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import launch
from projects.mmdet3d_plugin.engine.amp import DTYPES


def make_parser(description: str, config_help: str) -> argparse.ArgumentParser:
    """A parser with what every tool takes: CONFIG, --data-root, --cfg-options, --amp and the launch options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help=config_help)
    parser.add_argument('--data-root', help='a folder in nuScenes layout, in place of the one of the config')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override settings: optimizer.lr=1e-4 total_epochs=12',
    )
    parser.add_argument('--amp', choices=tuple(DTYPES), help='mixed precision')
    launch.add_launch_arguments(parser)
    return parser


def make_train_parser(description: str) -> argparse.ArgumentParser:
    """The parser of tools/train.py and tools/distillation.py."""
    parser = make_parser(description, 'a file, or the bare name of one below projects/configs')
    parser.add_argument('--work-dir', help='where logs and checkpoints go; work_dirs/<config> by default')
    parser.add_argument('--resume', '--resume-from', metavar='PATH|auto', help='continue from a checkpoint')
    parser.add_argument('--seed', type=int, help="random seed; the config's, else 0, by default")
    parser.add_argument('--deterministic', action='store_true', help='deterministic kernels, slower')
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate between epochs')
    return parser


def run(main: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace) -> Any:
    """Run a parsed command, with one line instead of a traceback for errors that a person can mend."""
    try:
        return main(arguments)
    except (UserError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    finally:
        launch.stop()
