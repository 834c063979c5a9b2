"""Timing, memory and reports that all benchmarks share."""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import torch

from projects.mmdet3d_plugin.common.files import write_json

Case = Callable[[], Any]


def start_report(args: argparse.Namespace) -> dict[str, Any]:
    """Take the threads that :func:`~tools.benchmark.options.make_parser` gave, and begin a report with the machine, which is printed.

    Ends the program where a GPU is asked for and there is none.
    """
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SystemExit('error: --device cuda: there is no GPU that torch sees')
    torch.set_num_threads(args.threads)
    report = {'machine': machine(args.device)}
    print(report['machine'])
    return report


def save_report(report: dict[str, Any], path: str | Path | None) -> dict[str, Any]:
    """Write a report where ``--json`` says, if it says so; returns it."""
    if path:
        write_json(path, report, indent=2)
    return report


def interleaved(
    cases: dict[str, Case], rounds: dict[str, int], device: str, warm_up: bool = True
) -> dict[str, float]:
    """Median milliseconds of every case; the rounds of all cases alternate, so that all see the same machine.

    On CPU this is the process's CPU time, which other programs disturb least; with one thread it is the time the
    call takes on a quiet machine. On CUDA it is the time between two events.

    Args:
        cases: name -> call.
        rounds: name -> number of timed calls.
        device: 'cpu' or 'cuda'.
        warm_up: whether one more call, which is not timed, comes first.

    Returns:
        name -> median in ms.
    """
    clock = _cuda_ms if device == 'cuda' else _cpu_ms
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values() if warm_up else ():
        case()
    for turn in range(max(rounds.values())):
        for name, case in cases.items():
            if turn < rounds[name]:
                times[name].append(clock(case))
    return {name: statistics.median(values) for name, values in times.items()}


def _cpu_ms(case: Case) -> float:
    begin = time.process_time()
    case()
    return (time.process_time() - begin) * 1e3


def _cuda_ms(case: Case) -> float:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    case()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


class Memory(NamedTuple):
    """Megabytes that a call held beyond what it began with: at most, and at its end (its results)."""

    peak: float
    results: float

    @property
    def temporary(self) -> float:
        """What it took beyond its results."""
        return self.peak - self.results


def memory(case: Case, device: str) -> Memory:
    """Memory that one call takes through torch's allocators, which the compiled operators report to as well."""
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        begin = torch.cuda.memory_allocated()
        result = case()
        held = [torch.cuda.max_memory_allocated() - begin, torch.cuda.memory_allocated() - begin]
    else:
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            result = case()
        events = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
        held = [0, *accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns()))]
    del result
    return Memory(max(held) / 1e6, held[-1] / 1e6)


def machine(device: str) -> dict[str, Any]:
    """What the figures were measured on and how; ``load`` is what else the processors were busy with on average."""
    about = {
        'command': ' '.join(['python', *map(_portable, sys.argv)]),
        'load': round(os.getloadavg()[0], 1),
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
    }
    if device == 'cuda':
        return {**about, 'device': torch.cuda.get_device_name(), 'cuda': torch.version.cuda}
    return {**about, 'device': _processor(), 'isa': torch.backends.cpu.get_cpu_capability()}


def _portable(word: str) -> str:
    """A word of a command line; an absolute path, which tells others nothing, by its name."""
    return Path(word).name if Path(word).is_absolute() else word


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(':') for line in lines)}
    name = fields.get('model name', platform.processor())
    return f'{name}, family {fields.get("cpu family")}, model {fields.get("model")}'
