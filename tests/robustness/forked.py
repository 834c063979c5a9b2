"""Run a command of the project in a fork of this process."""

import gc
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

LIMIT = 120  # seconds


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: exit status.
        text: what it printed, stdout and stderr.
    """

    status: int
    text: str

    @property
    def errors(self) -> list[str]:
        """Lines that begin with ``error: ``."""
        return [line for line in self.text.splitlines() if line.startswith('error: ')]


def run(main: Callable[[Sequence[str]], Any], *argv: object) -> Ended:
    """Call the main function of a tool as its script does.

    Args:
        main: of a module behind ``tools/``.
        argv: its arguments.
    """
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            _be_the_command(main, [str(argument) for argument in argv], output.fileno())
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return Ended(os.waitstatus_to_exitcode(status), output.read().decode(errors='replace'))


def _be_the_command(main: Callable[[Sequence[str]], Any], argv: Sequence[str], output: int) -> None:
    """The child: never returns."""
    status: Any = 1
    try:
        gc.freeze()  # a collection would copy the pages that the fork shares
        signal.alarm(LIMIT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.__stdout__ = os.fdopen(1, 'w', closefd=False)
        sys.stderr = sys.__stderr__ = os.fdopen(2, 'w', closefd=False)
        torch.set_num_threads(1)
        os.environ['OMP_NUM_THREADS'] = '1'
        status = main(argv) or 0
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def assert_one_line(ended: Ended, named: str) -> None:
    """Status 2, no traceback, one line that says what is wrong and holds a name.

    Args:
        ended: the command.
        named: a regular expression for the file or the key.
    """
    assert 'Traceback' not in ended.text, ended.text[-3000:]
    assert ended.status == 2, ended.text[-3000:]
    assert len(ended.errors) == 1, ended.text[-3000:]
    assert re.search(named, ended.errors[0]), ended.errors[0]
    assert len(ended.errors[0]) < 1500
