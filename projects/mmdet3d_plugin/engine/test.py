"""Evaluate a checkpoint."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from torch import nn
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.command_line.parsers import parse_test
from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import load_config, work_dir_of
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import (
    require_writable,
    require_writable_file,
    write_json,
    write_pickle,
)
from projects.mmdet3d_plugin.common.logs import get_logger, start_logging
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.tables import print_metrics
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.amp import Precision
from projects.mmdet3d_plugin.engine.build import (
    build_loader,
    build_split,
    classes_of,
    require_cameras,
    require_evaluation,
)
from projects.mmdet3d_plugin.engine.config_check import check_test_config
from projects.mmdet3d_plugin.engine.deploy.onnx_detector import SUFFIX, OnnxDetector
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.threads import choose_threads


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/test.py and tools/testStu.py."""
    cli.run(_test_from, parse_test(argv))


def _test_from(arguments: argparse.Namespace) -> None:
    """Evaluate as parsed arguments say."""
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    start_logging(launch.is_main)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    evaluate_checkpoint(
        cfg,
        arguments.checkpoint,
        out_dir=arguments.out_dir,
        out=arguments.out,
        evaluate=bool(arguments.eval),
        format_only=arguments.format_only,
        amp=arguments.amp,
        launch=launch,
        threads=arguments.threads,
        evaluator=arguments.evaluator,
    )


def evaluate_checkpoint(
    cfg: Config,
    checkpoint: str | Path,
    out_dir: str | Path | None = None,
    out: str | Path | None = None,
    evaluate: bool = True,
    split: str = 'test',
    amp: str | None = None,
    launch: Launch | None = None,
    quiet: bool = False,
    format_only: bool = False,
    threads: int | None = None,
    evaluator: str | None = None,
) -> dict[str, float]:
    """Load a checkpoint into ``cfg.model`` and evaluate it on ``cfg.data.<split>``.

    Args:
        cfg: as :func:`load_config` returns it.
        checkpoint: weights, which must fit the model exactly, or a graph of ``tools/export_onnx.py``.
        out_dir: gets ``metrics.json`` and what the dataset writes; by default a folder below the run's. It and the folder
            of ``out`` are tried before anything is computed.
        out: gets the raw results as a pickle.
        evaluate: whether to compute metrics.
        split: which of ``cfg.data`` to evaluate on.
        amp: 'bf16', 'fp16' or None.
        launch: the place of this process, one plain process by default.
        quiet: do not print the table.
        format_only: let the dataset write ``out_dir`` for its server, and do not evaluate. So it is, with a warning,
            where samples have no labels.
        threads: torch's threads on the CPU; as many as there are cores by default.
        evaluator: what the dataset's ``evaluate`` takes by this name; its default when it is None.

    Returns:
        the metrics (NDS and mAP as fractions, errors, 'AP/<class>') on rank 0; empty elsewhere.
    """
    launch = launch or start('none')
    check_test_config(cfg)
    folder = Path(out_dir) if out_dir else work_dir_of(cfg) / f'eval_{Path(checkpoint).stem}'
    if launch.is_main and out:
        require_writable_file(out)
    if launch.is_main and (evaluate or format_only):
        require_writable(folder)
    choose_threads(threads, deterministic=True)
    if Path(checkpoint).suffix == SUFFIX:
        if amp:
            raise UserError(f'--amp {amp}: {checkpoint} computes in the precision that it was written in')
        content = OnnxDetector(checkpoint, torch.get_num_threads())
    else:
        content = read_checkpoint(checkpoint)
    dataset = build_split(cfg, split, test_mode=True)
    if evaluate and not getattr(dataset, 'has_labels', True):
        get_logger().warning(
            'samples of data.%s have no labels: there will be files for a server, no scores', split
        )
        evaluate, format_only = False, True
    if format_only and not hasattr(dataset, 'format_results'):
        raise UserError(
            f'{type(dataset).__name__} has no format for a server: say --eval bbox or --out FILE.pkl'
        )
    options = {} if evaluator is None else dict(evaluator=evaluator)
    if evaluate:
        require_evaluation(dataset, split, **options)
    model = _detector_of(cfg, content, checkpoint, dataset).to(launch.device)
    loader = build_loader(cfg, dataset, False, launch)
    results = run_inference(model, loader, launch, Precision(amp, launch.device.type))
    if results is None:
        return {}
    if out:
        write_pickle(out, results)
        get_logger().info('wrote %s', out)
    if format_only:
        get_logger().info('%d samples; wrote %s', len(results), dataset.format_results(results, str(folder)))
    if format_only or not evaluate:
        return {}
    metrics = dataset.evaluate(results, out_dir=str(folder), **options)
    metrics = {key: float(value) for key, value in metrics.items()}
    write_json(folder / 'metrics.json', metrics, indent=2)
    if not quiet:
        print_metrics(metrics, Path(checkpoint).name)
        get_logger().info('%d samples; wrote %s', len(results), folder / 'metrics.json')
    return metrics


def _detector_of(
    cfg: Config, content: dict[str, Any] | OnnxDetector, checkpoint: str | Path, dataset: Dataset
) -> nn.Module:
    """The detector of a checkpoint's content, or of an exported graph, that fits the dataset."""
    if isinstance(content, OnnxDetector):
        content.require_kind(cfg.model.type)
        require_cameras(content, dataset)
        check_classes(content.classes or None, classes_of(dataset), str(checkpoint))
        return content
    check_classes(content['meta'].get('CLASSES'), classes_of(dataset), str(checkpoint))
    model = build_model(cfg.model)
    require_cameras(model, dataset)
    report = load_weights(model, content, source=checkpoint)
    get_logger().info('loaded all %d tensors of %s', len(report.matched), checkpoint)
    return model


def check_classes(trained: list[str] | None, wanted: list[str] | None, source: str) -> None:
    """Refuse a checkpoint whose labels mean other classes than the dataset's.

    Args:
        trained: class names in the checkpoint, None when it does not say.
        wanted: class names of the dataset, None when it does not say.
        source: the checkpoint's name, for the message.
    """
    if trained is None or wanted is None or list(trained) == list(wanted):
        return
    raise UserError(f'{source} was trained for classes {list(trained)}, the dataset has {list(wanted)}')
