"""How all command lines end."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from projects.mmdet3d_plugin.common.errors import explain, lost_connection
from projects.mmdet3d_plugin.engine import interrupts, launch

STATUS = 2
TRACEBACK = 'FOCALDISTILLER_TRACEBACK'


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
