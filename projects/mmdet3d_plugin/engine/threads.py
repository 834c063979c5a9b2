"""How many threads torch may use: on a machine whose cores are busy, two threads wait for each other."""

import os
from pathlib import Path

import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.logs import get_logger

QUOTA = Path('/sys/fs/cgroup')
ENVIRONMENT = 'OMP_NUM_THREADS'


def choose_threads(asked: int | None = None, deterministic: bool = False) -> int:
    """Set torch's threads for a run on the CPU and say so in one line.

    Args:
        asked: the person's choice, which is taken as it is; ``OMP_NUM_THREADS`` comes next.
        deterministic: leave out how busy the machine is at the moment: sums depend on the number of threads, so
            runs that should agree to the bit need the same one.

    Returns:
        the number of threads.

    Raises:
        UserError: less than one thread was asked for.
    """
    if asked is not None:
        if asked < 1:
            raise UserError(f'--threads is {asked}: ask for at least 1')
        torch.set_num_threads(asked)
        return asked
    if ENVIRONMENT in os.environ:
        return torch.get_num_threads()
    cores = allowed_cores()
    busy = 0 if deterministic else busy_cores()
    threads = max(1, min(torch.get_num_threads(), cores - busy))
    torch.set_num_threads(threads)
    get_logger().info(
        '%d of %d cores: %d busy; --threads or %s choose another number, on which the last digits of sums depend',
        threads,
        cores,
        busy,
        ENVIRONMENT,
    )
    return threads


def keep_threads(trained_with: int | None, asked: int | None = None) -> int:
    """Take as many threads as a checkpoint was trained with, so that a resumed run equals one that never stopped.

    Args:
        trained_with: the number in the checkpoint; None where it does not say.
        asked: the person's choice, which is taken as it is; so is ``OMP_NUM_THREADS``.

    Returns:
        the number of threads; where it is another than before, a warning says what follows from that.
    """
    threads = torch.get_num_threads()
    if not isinstance(trained_with, int) or trained_with < 1 or trained_with == threads:
        return threads
    cores = allowed_cores()
    if asked is None and ENVIRONMENT not in os.environ and trained_with <= cores:
        torch.set_num_threads(trained_with)
        get_logger().info('%d threads, as the checkpoint was trained with', trained_with)
        return trained_with
    get_logger().warning(
        'the checkpoint was trained with %d threads, this run has %d%s: the last digits of sums may differ from those '
        'of a run that never stopped',
        trained_with,
        threads,
        f' (of {cores} cores)' if trained_with > cores else f'; --threads {trained_with} gives it as many',
    )
    return threads


def allowed_cores() -> int:
    """Cores that this process may use: its affinity and the quota of its container."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    quota = _quota()
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def busy_cores() -> int:
    """Cores that others keep busy: the load of the last minute, which this process has hardly begun to share."""
    return round(os.getloadavg()[0]) if hasattr(os, 'getloadavg') else 0


def _quota() -> float | None:
    """Cores by the quota of the control group (version 2, then 1); None without one."""
    try:
        limit, period = (QUOTA / 'cpu.max').read_text().split()
        return None if limit == 'max' else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        limit = int((QUOTA / 'cpu/cpu.cfs_quota_us').read_text())
        period = int((QUOTA / 'cpu/cpu.cfs_period_us').read_text())
    except (OSError, ValueError):
        return None
    return limit / period if limit > 0 and period > 0 else None
