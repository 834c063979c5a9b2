"""What all command lines share: arguments, and how they end."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from mmcv import DictAction

from projects.mmdet3d_plugin.common.errors import explain, lost_connection
from projects.mmdet3d_plugin.engine import interrupts, launch
from projects.mmdet3d_plugin.engine.amp import DTYPES

STATUS = 2
TRACEBACK = 'FOCALDISTILLER_TRACEBACK'


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
    parser.add_argument(
        '--threads', type=int, help="torch's threads on the CPU; chosen by what is free by default"
    )
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


class Exit(SystemExit):
    """The end of a command whose last words are printed already.

    Args:
        message: those words; ``str(error)`` gives them.
        status: of the process.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.code = status


def run(main: Callable[[argparse.Namespace], Any], arguments: argparse.Namespace) -> Any:
    """Run a parsed command: what a person can mend, and an interruption, end in one line instead of a traceback.

    Exit status: 2 for an error of the person's, 130 after Ctrl-C, 143 after SIGTERM; a bug keeps its traceback and 1.
    ``FOCALDISTILLER_TRACEBACK=1`` in the environment shows the traceback of every error.
    """
    with interrupts.caught():
        try:
            return main(arguments)
        except KeyboardInterrupt as error:
            raise _leave(*interrupts.farewell(error), 'farewell') from None
        except Exception as error:
            message = explain(error)
            if message is None or os.environ.get(TRACEBACK):
                raise
            if launch.is_one_of_many() and lost_connection(error):
                raise _leave(f'{message}; {interrupts.where_to_resume()}', STATUS, 'farewell') from None
            raise _leave(f'error: {message}', STATUS) from None
        finally:
            launch.stop()


def _leave(message: str, status: int, subject: str = 'error') -> Exit:
    """Print the last words of a command; of several processes only the first one talks about a subject."""
    try:
        if launch.may_speak(subject):
            print(message, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        pass  # the launcher ends this process because another one has said why
    return Exit(message, status)
