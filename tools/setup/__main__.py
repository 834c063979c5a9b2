"""``python -m tools.setup``: build ``.venv``, or do nothing when it is up to date."""

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from tools.setup.environment import Environment
from tools.setup.errors import SetupError
from tools.setup.machine import check_python
from tools.setup.progress import Progress, clock

STEPS = 6


def main() -> int:
    """Set up the clone that this file lies in; returns the exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    begun = time.monotonic()
    try:
        check_python(sys.version_info[:2])
        worked = Environment(Path(__file__).resolve().parents[2], Progress(STEPS)).set_up()
    except (SetupError, OSError) as error:  # an OSError names the file: a full disk, a cache that is not ours
        print(f'\nset-up: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nset-up: interrupted; `make setup` goes on where it stopped', file=sys.stderr)
        return 130
    if worked:
        print(f'set-up finished in {clock(time.monotonic() - begun)} min: .venv is ready')
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A kind ``kill`` ends set-up as Ctrl-C does: with its children."""
    raise KeyboardInterrupt


if __name__ == '__main__':
    argparse.ArgumentParser('python -m tools.setup', description=__doc__.partition(': ')[2]).parse_args()
    sys.exit(main())
