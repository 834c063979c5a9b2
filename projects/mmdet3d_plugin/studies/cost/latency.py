"""Milliseconds per frame of several models, measured side by side under one protocol."""

import argparse
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

from projects.mmdet3d_plugin.command_line.parsers import LATENCY_PROTOCOL, parse_latency
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.common.logs import versions
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.tables import make_console
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.taps import map_tensors
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.launch import start


@dataclass(frozen=True)
class Latency:
    """Times of one model.

    Attributes:
        median_ms: per frame.
        low_ms: tenth percentile.
        high_ms: ninetieth percentile.
        frames: how many were timed.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    frames: int


class Stream:
    """A model that sees one frame after the other, as on a car.

    Args:
        config: path of a config; weights are as initialised, which is of no influence on the time.
        device: where to run.
    """

    def __init__(self, config: str, device: torch.device) -> None:
        cfg = load_config(config)
        self.device = device
        self.model: nn.Module = build_model(cfg.model, caches=False).to(device)
        self.model.eval()
        self.adapter = adapter_for(self.model)
        self.batch = map_tensors(lambda tensor: tensor.to(device), self.adapter.blank_batch(cfg))
        if 'img' in self.batch:
            noise = torch.randn(self.batch['img'].shape, generator=torch.Generator().manual_seed(0))
            self.batch['img'] = noise.to(device)
        self.memory = self.model.new_memory() if hasattr(self.model, 'new_memory') else None
        self.frame = 0

    @torch.no_grad()
    def step(self) -> float:
        """Detect in the next frame; returns seconds."""
        self.adapter.next_frame(self.batch, self.frame)
        self.frame += 1
        self._wait()
        start_time = time.perf_counter()
        self.adapter.predict(self.model, self.batch, self.memory)
        self._wait()
        return time.perf_counter() - start_time

    def _wait(self) -> None:
        """Let the device finish what it was given."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)


def measure_latency(
    configs: Sequence[str], device: torch.device, frames: int = 20, warmup: int = 3
) -> list[Latency]:
    """Time models in turns, so that whatever else the machine does meets all of them.

    Args:
        configs: paths of configs.
        device: where to run.
        frames: how many to time per model.
        warmup: how many to run before.
    """
    streams = [Stream(config, device) for config in configs]
    rounds = [[stream.step() for stream in streams] for _ in range(warmup + frames)][warmup:]
    return [_summary([times[i] for times in rounds]) for i in range(len(streams))]


def _summary(seconds: Sequence[float]) -> Latency:
    """Percentiles in milliseconds."""
    ms = sorted(1000 * value for value in seconds)
    low, high = ms[len(ms) // 10], ms[-1 - len(ms) // 10]
    return Latency(round(statistics.median(ms), 2), round(low, 2), round(high, 2), len(ms))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/analysis_tools/benchmark.py."""
    cli.run(_report_from, parse_latency(argv))


def _report_from(arguments: argparse.Namespace) -> None:
    """Measure and report as parsed arguments say."""
    device = start('none', arguments.device).device
    results = measure_latency(arguments.configs, device, arguments.frames, arguments.warmup)
    name = (
        torch.cuda.get_device_name(device)
        if device.type == 'cuda'
        else f'{torch.get_num_threads()} CPU threads'
    )
    table = Table(title=f'ms per frame on {name}', title_justify='left')
    for column in ('config', 'median', '10 %', '90 %'):
        table.add_column(column, justify='left' if column == 'config' else 'right')
    for config, result in zip(arguments.configs, results, strict=True):
        table.add_row(
            Path(config).stem, *(f'{v:.1f}' for v in (result.median_ms, result.low_ms, result.high_ms))
        )
    console = make_console()
    console.print(table)
    console.print(f'{arguments.frames} frames each: {LATENCY_PROTOCOL}', style='dim')
    if arguments.json:
        models = [
            {'config': config, **asdict(result)}
            for config, result in zip(arguments.configs, results, strict=True)
        ]
        content = dict(
            models=models,
            protocol=LATENCY_PROTOCOL,
            device=name,
            machine=platform.processor(),
            versions=versions(),
        )
        write_json(arguments.json, content, indent=1)
