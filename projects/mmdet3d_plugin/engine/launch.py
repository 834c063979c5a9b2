"""The place of this process: alone, or one of several started by torchrun."""

import contextlib
import ctypes
import datetime
import functools
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from projects.mmdet3d_plugin.common.errors import UserError

SECONDS_BEFORE_SPEAKING = 2.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Launch:
    """The place of this process among all.

    Attributes:
        rank: number of this process among all nodes, 0 first.
        world_size: number of processes on all nodes.
        device: where this process computes.
        distributed: whether a process group exists (also true for torchrun with one process).
    """

    rank: int
    world_size: int
    device: torch.device
    distributed: bool

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0


def start(launcher: str = 'auto', device: str = 'auto', local_rank: int | None = None) -> Launch:
    """Choose the device and join the process group, if there is one.

    Args:
        launcher: 'none', 'pytorch', or 'auto' (pytorch when torchrun's variables are set).
        device: 'cpu', 'cuda' or 'auto' (cuda when there is a GPU).
        local_rank: number of this process on its node; torchrun's LOCAL_RANK by default.
    """
    if launcher == 'auto':
        launcher = 'pytorch' if {'RANK', 'WORLD_SIZE', 'MASTER_ADDR'} <= os.environ.keys() else 'none'
    kind = _device_kind(device)
    if launcher == 'none':
        return Launch(0, 1, torch.device(kind, 0) if kind == 'cuda' else torch.device(kind), False)
    index = int(os.environ.get('LOCAL_RANK', 0)) if local_rank is None else local_rank
    chosen = _claim_gpu(index) if kind == 'cuda' else torch.device('cpu')
    end_with_parent()
    _join(kind)
    return Launch(dist.get_rank(), dist.get_world_size(), chosen, True)


def is_one_of_many() -> bool:
    """Whether torchrun started this process beside others."""
    return int(os.environ.get('WORLD_SIZE', 1)) > 1 and 'RANK' in os.environ


def may_speak(subject: str) -> bool:
    """Whether this process is the first of all to say something; all of them mostly fail alike.

    Rank 0 comes first. The others wait a moment: torchrun ends them when it has seen why.

    Args:
        subject: what is said, in a word.
    """
    if not is_one_of_many():
        return True
    main = os.environ['RANK'] == '0'
    if not main:
        time.sleep(SECONDS_BEFORE_SPEAKING)
    if not dist.is_initialized():
        return True
    try:
        return dist.distributed_c10d._get_default_store().add(f'said {subject}', 1) == 1
    except RuntimeError:  # whoever kept the count is gone, and so is the run
        return main


def end_with_parent() -> None:
    """Let this process be terminated when torchrun dies, so that nothing trains on unseen (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop() -> None:
    """Leave the process group, if this process is in one."""
    if dist.is_initialized():
        object_group.cache_clear()
        dist.destroy_process_group()


def gather_objects(value: Any) -> list[Any] | None:
    """Bring one Python object of every process to rank 0, in the order of ranks.

    Returns:
        the list on rank 0, None elsewhere.
    """
    if not dist.is_initialized():
        return [value]
    received = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(value, received, dst=0, group=object_group())
    return received


def broadcast_object(value: Any) -> Any:
    """Give rank 0's Python object to every process."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, group=object_group())
    return box[0]


@functools.cache
def object_group() -> 'dist.ProcessGroup | None':
    """A Gloo group for Python objects, so that results travel through host memory and not the GPU's."""
    return None if dist.get_backend() == 'gloo' else dist.new_group(backend='gloo')


def _device_kind(device: str) -> str:
    """Resolve 'auto', and refuse 'cuda' where torch sees no GPU."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda was asked for, but torch sees no GPU: leave the option out or say cpu')
    if device != 'auto':
        return device
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _claim_gpu(index: int) -> torch.device:
    """Make GPU number ``index`` this process's own."""
    if index >= torch.cuda.device_count():
        raise UserError(
            f'process {index} of this node has no GPU of its own: there are {torch.cuda.device_count()}; '
            'start fewer processes or say --device cpu'
        )
    torch.cuda.set_device(index)
    return torch.device('cuda', index)


def _join(kind: str) -> None:
    """Join the process group that torchrun's environment describes."""
    missing = [
        name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ
    ]
    if missing:
        raise UserError(
            f'--launcher pytorch needs {", ".join(missing)} in the environment: start through '
            'tools/dist_train.sh, tools/dist_distill.sh, tools/dist_test.sh or torchrun'
        )
    # Rank 0 scores while the others wait: with nuScenes' own code, minutes on the full validation set.
    dist.init_process_group('nccl' if kind == 'cuda' else 'gloo', timeout=datetime.timedelta(hours=2))
    object_group()
