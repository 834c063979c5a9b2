"""What an exported detector costs and finds: torch, torch.compile, onnxruntime, and onnxruntime with int8 convolutions.

``python tools/benchmark/deploy.py --json benchmarks/deploy_cpu.json`` times one frame of small detectors with random
weights, after another with what they remember; ``--accuracy CONFIG CHECKPOINT DATA_ROOT`` evaluates a trained one too.
The packages of ``requirements/onnx.txt`` must be there.
"""

import argparse
import tempfile
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.checkpoint import write_checkpoint
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.engine.deploy.export_onnx import export_onnx
from projects.mmdet3d_plugin.engine.deploy.onnx_detector import OnnxDetector
from projects.mmdet3d_plugin.engine.deploy.onnx_session import RecordingSession, require_package
from projects.mmdet3d_plugin.engine.deploy.quantize import calibration_feeds, calibration_samples, quantize
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
from projects.mmdet3d_plugin.studies.cost.latency import Stream
from tools.benchmark.options import parse_deploy
from tools.benchmark.timing import interleaved, save_report, start_report

FRAMES = 64  # of the training split, for the ranges of int8
METRICS = ('NDS', 'mAP')


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_deploy(argv)
    for package in ('onnx', 'onnxruntime'):
        require_package(package)
    report: dict[str, Any] = start_report(args) | dict(latency=[], accuracy=[])
    with tempfile.TemporaryDirectory() as folder:
        for config in args.configs:
            report['latency'].append(latency(config, Path(folder), args))
            print(report['latency'][-1], flush=True)
        if args.accuracy:
            report['accuracy'].append(accuracy(*args.accuracy, Path(folder)))
            print(report['accuracy'][-1], flush=True)
    return save_report(report, args.json)


def latency(config: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Medians of CPU milliseconds per frame; a graph in eight bits is calibrated on the frame that is timed.

    What torch.compile fails on is left out of the times and named in ``not compiled``.
    """
    torch.manual_seed(0)
    streams = {'torch': Stream(config, torch.device('cpu'))}
    path = folder / f'{Path(config).stem}.onnx'
    write_checkpoint(folder / 'model.pth', dict(meta={}, state_dict=streams['torch'].model.state_dict()))
    failure = None
    if not args.no_compile:
        streams['torch.compile'] = Stream(config, torch.device('cpu'))
        streams['torch.compile'].model.compile()
        try:
            streams['torch.compile'].step()
        except Exception as error:  # a backend's own, of any kind: what it cannot compile is a result too
            del streams['torch.compile']
            failure = f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}'
    for name in ('onnxruntime', 'int8'):
        export_onnx(load_config(config), folder / 'model.pth', path)
        streams[name] = _running(Stream(config, torch.device('cpu')), path, args.threads)
        if name == 'int8':
            recorder = streams[name].model.session = RecordingSession(path, args.threads)
            streams[name].step()
            quantize(path, iter(recorder.feeds))
            streams[name] = _running(streams[name], path, args.threads)
    cases = {name: stream.step for name, stream in streams.items()}
    rounds = dict(zip(cases, repeat(args.rounds), strict=False))
    result = dict(model=Path(config).stem, ms=interleaved(cases, rounds, 'cpu'))
    return result | ({'not compiled': failure} if failure else {})


def _running(stream: Stream, path: Path, threads: int) -> Stream:
    """A stream whose frames a graph looks at."""
    stream.model = OnnxDetector(path, threads).eval()
    stream.memory, stream.frame = stream.model.new_memory(), 0
    return stream


def accuracy(config: str, checkpoint: str, root: str, folder: Path) -> dict[str, Any]:
    """Metrics of a trained detector in torch, as a graph, and with int8 convolutions."""
    cfg = load_config(config, None, root)
    files = {'torch': Path(checkpoint), 'onnxruntime': folder / 'float.onnx', 'int8': folder / 'int8.onnx'}
    for name in ('onnxruntime', 'int8'):
        export_onnx(cfg, checkpoint, files[name])
    quantize(files['int8'], calibration_feeds(files['int8'], cfg, calibration_samples(cfg), FRAMES))
    metrics = {name: evaluate_checkpoint(_fresh(cfg), file, folder / name) for name, file in files.items()}
    return dict(
        model=Path(config).stem,
        megabytes={name: file.stat().st_size / 1e6 for name, file in files.items()},
        frames=FRAMES,
        metrics={
            name: {key: found[key] for key in METRICS if key in found} for name, found in metrics.items()
        },
    )


def _fresh(cfg: Config) -> Config:
    """A copy: evaluation may edit its config."""
    return Config(cfg._cfg_dict.to_dict(), filename=cfg.filename)
