"""Run a function of a test in several real processes, as torchrun starts them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from projects.mmdet3d_plugin.engine import launch

ROOT = Path(__file__).resolve().parents[2]


def run_in_processes(target: str, count: int, tmp_path: Path, **arguments: Any) -> list[Any]:
    """Call ``target(place, **arguments)`` in ``count`` processes joined by Gloo.

    Args:
        target: 'module:function'; its first argument is the :class:`~projects.mmdet3d_plugin.engine.launch.Launch`
            of the process, and it returns tensors and plain containers.
        count: number of processes.
        tmp_path: an empty folder.
        **arguments: plain values.

    Returns:
        what each process returned, by rank.
    """
    command = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', str(count)]
    command += ['-m', 'tests.engine.processes', target, str(tmp_path), json.dumps(arguments)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return [torch.load(tmp_path / f'rank_{rank}.pt', weights_only=True) for rank in range(count)]


def main() -> None:
    """What each process does: call the function and leave its result in a file."""
    target, folder, arguments = sys.argv[1:]
    module, name = target.split(':')
    place = launch.start('pytorch', 'cpu')
    result = getattr(importlib.import_module(module), name)(place, **json.loads(arguments))
    torch.save(result, Path(folder) / f'rank_{place.rank}.pt')
    launch.stop()


if __name__ == '__main__':
    main()
