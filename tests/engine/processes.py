"""Run a function of a test in several real processes, with what torchrun gives to them."""

import gc
import os
import sys
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore

from projects.mmdet3d_plugin.engine import launch
from tests.robustness.forked import Ended

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240  # seconds


def run_in_processes(target: Callable[..., Any], count: int, tmp_path: Path, **arguments: Any) -> list[Any]:
    """Call ``target(place, **arguments)`` in ``count`` processes joined by Gloo.

    Args:
        target: of a module; its first argument is the :class:`~projects.mmdet3d_plugin.engine.launch.Launch` of the
            process, and it returns tensors and plain containers.
        count: number of processes.
        tmp_path: an empty folder.
        **arguments: plain values.

    Returns:
        what each process returned, by rank.
    """
    ended = in_processes(_join_and_call, count, tmp_path, target, tmp_path, arguments)
    assert [one.status for one in ended] == [0] * count, '\n'.join(one.text for one in ended)[-6000:]
    return [torch.load(tmp_path / f'rank_{rank}.pt', weights_only=True) for rank in range(count)]


def in_processes(target: Callable[..., Any], count: int, tmp_path: Path, *arguments: Any) -> list[Ended]:
    """Call ``target(*arguments)`` in ``count`` processes that find what torchrun says in their environment.

    They are forks of this process, which has imported everything. Where there is a GPU they start from nothing:
    autograd does not outlive a fork there.

    Returns:
        how each of them ended, by rank.
    """
    context = get_context('spawn' if torch.cuda.is_available() else 'fork')
    # As torchrun does, keep the store outside of the processes, so that it outlives them.
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    common = dict(
        WORLD_SIZE=count, MASTER_PORT=store.port, OMP_NUM_THREADS=1, TORCHELASTIC_USE_AGENT_STORE=True
    )
    started, texts = [], [tmp_path / f'said_{rank}.txt' for rank in range(count)]
    for rank, text in enumerate(texts):
        place = {'MASTER_ADDR': '127.0.0.1', **common, 'RANK': rank, 'LOCAL_RANK': rank}
        plain = {name: str(value) for name, value in place.items()}
        started.append(context.Process(target=_be_one, args=(plain, text, target, arguments)))
        started[-1].start()
    for process in started:
        process.join(LIMIT)
        process.kill()
        process.join()
    return [Ended(process.exitcode, text.read_text()) for process, text in zip(started, texts, strict=True)]


def _be_one(
    place: dict[str, str], text: Path, target: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """What each process does; never returns, for a fork must not end as its parent would."""
    gc.freeze()  # a collection would copy the pages that the fork shares
    os.environ.update(place)
    torch.set_num_threads(1)
    status: Any = 1
    with text.open('w', buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = said
        try:
            status = target(*arguments) or 0
        except SystemExit as error:
            status = error.code
        except BaseException:
            traceback.print_exc()
    os._exit(status if isinstance(status, int) else 1)


def _join_and_call(target: Callable[..., Any], folder: Path, arguments: dict[str, Any]) -> None:
    """Join the group, call the function, and leave its result in a file."""
    place = launch.start('pytorch', 'cpu')
    torch.save(target(place, **arguments), folder / f'rank_{place.rank}.pt')
    launch.stop()
