"""torchrun for the shell scripts: what stopped a run is one line, not a table of thirty.

    python tools/torchrun.py --standalone --nproc-per-node 2 tools/train.py CONFIG ...

The processes have said themselves what a person can mend (exit status 2); only one that was killed said nothing.
"""

import logging
import os
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import main


def first_cause(error: ChildFailedError) -> tuple[int, ProcessFailure]:
    """The rank and the failure that began it: a killed process, else one that said why, else the earliest."""
    failures = sorted(error.failures.items(), key=lambda item: int(item[1].timestamp))
    killed = [item for item in failures if item[1].exitcode < 0 and item[1].exitcode != -signal.SIGTERM]
    spoke = [item for item in failures if item[1].exitcode == 2]
    return (killed or spoke or failures)[0]


def run(argv: list[str] | None = None) -> int:
    """Run torchrun and return the exit status of the process that failed first."""
    logging.getLogger('torch.distributed.elastic').setLevel(logging.CRITICAL)
    try:
        main(argv)
    except ChildFailedError as error:
        rank, cause = first_cause(error)
        if cause.exitcode >= 0:
            return cause.exitcode
        name = signal.Signals(-cause.exitcode).name
        print(
            f'error: process {rank} was killed ({name}): if the memory is used up, lower '
            'data.samples_per_gpu or data.workers_per_gpu; --resume auto goes on from the last checkpoint',
            file=sys.stderr,
        )
        return 128 - cause.exitcode
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == '__main__':
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # as torchrun itself does, with a warning
    sys.exit(run())
