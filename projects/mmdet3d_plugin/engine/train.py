"""Train a model of a config."""

import argparse
import contextlib
import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmcv import Config
from mmcv.runner import HOOKS, build_optimizer, get_priority
from torch import nn

from projects.mmdet3d_plugin.command_line.parsers import parse_train
from projects.mmdet3d_plugin.common.blame import blamed_on
from projects.mmdet3d_plugin.common.checkpoint import initialize_weights
from projects.mmdet3d_plugin.common.config import config_text, load_config, work_dir_of
from projects.mmdet3d_plugin.common.config_checks.numbers import SEED, check_number
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder, remove_temporaries, write_text
from projects.mmdet3d_plugin.common.logs import get_logger, start_logging, versions
from projects.mmdet3d_plugin.common.models import build_model, init_model
from projects.mmdet3d_plugin.common.rng import seed_everything
from projects.mmdet3d_plugin.common.suggest import close_names, nearest
from projects.mmdet3d_plugin.distill.recipe import build_training
from projects.mmdet3d_plugin.engine import cli, interrupts
from projects.mmdet3d_plugin.engine.amp import Precision
from projects.mmdet3d_plugin.engine.build import (
    build_loader,
    build_split,
    classes_of,
    require_cameras,
    require_evaluation,
)
from projects.mmdet3d_plugin.engine.compute import speed_up
from projects.mmdet3d_plugin.engine.config_check import ALIKE, check_train_config
from projects.mmdet3d_plugin.engine.hooks import EvaluateHook, OptimizeHook, ProgressHook, SaveHook
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.parallel import wrap_model
from projects.mmdet3d_plugin.engine.resume import (
    choose_checkpoint,
    flat_settings,
    refuse_folders,
    warn_of_other_run,
)
from projects.mmdet3d_plugin.engine.runner import SWAP, TrainRunner
from projects.mmdet3d_plugin.engine.threads import choose_threads, keep_threads


@dataclass(frozen=True)
class TrainOptions:
    """What a person may choose per run, beside the config.

    Attributes:
        work_dir: where logs and checkpoints go; ``work_dirs/<config>`` by default.
        resume: a checkpoint to continue from, or 'auto' for the newest in ``work_dir``.
        seed: random seed; the config's, else 0, by default.
        amp: 'bf16', 'fp16' or None; the config's ``amp`` by default.
        validate: whether to evaluate between epochs, as ``cfg.evaluation`` says.
        deterministic: whether to ask torch for deterministic kernels.
        distil: whether the config is a recipe whose student is trained under its teacher, rather than alone.
        threads: torch's threads on the CPU; by what is free, as :func:`choose_threads` says, by default.
    """

    work_dir: str | Path | None = None
    resume: str | Path | None = None
    seed: int | None = None
    amp: str | None = None
    validate: bool = True
    deterministic: bool = False
    distil: bool = False
    threads: int | None = None


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/train.py."""
    cli.run(_train_from, parse_train(argv))


def _train_from(arguments: argparse.Namespace) -> None:
    """Train as parsed arguments say."""
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    train(cfg, options_of(arguments), launch)


def options_of(arguments: argparse.Namespace) -> TrainOptions:
    """Options of a parsed command line of a tool that trains."""
    return TrainOptions(
        work_dir=arguments.work_dir,
        resume=arguments.resume,
        seed=arguments.seed,
        amp=arguments.amp,
        validate=not arguments.no_validate,
        deterministic=arguments.deterministic,
        threads=arguments.threads,
    )


def train(
    cfg: Config,
    options: TrainOptions | None = None,
    launch: Launch | None = None,
) -> TrainRunner:
    """Train a model from a config.

    Args:
        cfg: as :func:`load_config` returns it.
        options: choices of this run.
        launch: the place of this process, one plain process by default.

    Returns:
        the runner after the last epoch; its ``work_dir`` holds the checkpoints.

    Raises:
        UserError: something does not fit, or another process is at work in ``work_dir``.
    """
    options = options or TrainOptions()
    launch = launch or start('none')
    work_dir = work_dir_of(cfg, options.work_dir)
    check_train_config(cfg, options.validate)
    check_number('--seed', options.seed, SEED)
    with locked_folder(work_dir) if launch.is_main else contextlib.nullcontext():
        refuse_folders(work_dir)
        _open_work_dir(cfg, work_dir, launch)
        seed = cfg.get('seed', 0) if options.seed is None else options.seed
        threads = choose_threads(options.threads, options.deterministic)
        resume = choose_checkpoint(options.resume, work_dir, launch)
        # the same on every process, for the same initial weights
        seed_everything(seed, options.deterministic)
        model, cfg = build_training(cfg) if options.distil else (make_detector(cfg), cfg)
        if cfg.get('load_from') and not resume:
            initialize_weights(model, cfg.load_from)
        seed_everything(seed + launch.rank, options.deterministic)  # but not the same dropout
        dataset = build_split(cfg, 'train', test_mode=False)
        require_cameras(model, dataset)
        loader = build_loader(cfg, dataset, True, launch, seed)
        meta = dict(
            config=config_text(cfg),
            config_file=Path(cfg.filename or 'config.py').name,
            seed=seed,
            threads=threads,
            versions=versions(),
            CLASSES=classes_of(dataset),
            settings=flat_settings(cfg, len(dataset)),
        )
        if hasattr(model, 'meta'):  # a distiller names its teacher and the file's hash
            meta.update(model.meta())
        runner = _build_runner(cfg, model, options, launch, work_dir, meta)
        _register_hooks(runner, cfg, options, launch)
        if resume:
            trained_with = runner.resume(resume).get('threads')
            if launch.device.type == 'cpu':
                runner.meta['threads'] = keep_threads(trained_with, options.threads)
        elif launch.is_main:
            warn_of_other_run(work_dir)
        runner.run(loader)
    return runner


def make_detector(cfg: Config) -> nn.Module:
    """Build ``cfg.model`` with initial weights."""
    if cfg.get('distiller'):
        get_logger().warning(
            'this config is a recipe: its student is trained alone here; tools/distillation.py distils'
        )
    model = build_model(cfg.model)
    init_model(model, cfg.model)
    return model


def _open_work_dir(cfg: Config, work_dir: Path, launch: Launch) -> None:
    """Start logging into the run's folder, clear it of what dead runs left unfinished, and leave the full config there."""
    logger = start_logging(launch.is_main, work_dir / f'{time.strftime("%Y%m%d_%H%M%S")}.log')
    interrupts.remember(work_dir)
    if not launch.is_main:
        return
    write_text(work_dir / 'config.py', config_text(cfg))
    place = 'one process' if launch.world_size == 1 else f'{launch.world_size} processes'
    logger.info('%s on %s, config %s', place, launch.device.type, cfg.filename)
    logger.info('versions: %s', ', '.join(f'{name} {number}' for name, number in versions().items()))
    if left := remove_temporaries(work_dir):
        logger.info('removed %d unfinished files of runs that were killed, first %s', len(left), left[0])


def _build_runner(
    cfg: Config, model: nn.Module, options: TrainOptions, launch: Launch, work_dir: Path, meta: dict[str, Any]
) -> TrainRunner:
    """Wrap the model, build its optimizer, and put both into a runner."""
    if cfg.get('fp16') is not None:
        raise UserError(
            "the config's fp16=... belongs to mmcv's old mixed precision: say amp='fp16' or --amp fp16"
        )
    runner = cfg.get('runner') or {}
    if 'max_iters' in runner:
        raise UserError(
            'runner.max_iters is not supported: training is counted in epochs, say runner.max_epochs'
        )
    epochs = runner.get('max_epochs', cfg.get('total_epochs'))  # upstream's configs have the latter
    if epochs is None:
        raise UserError('the config does not say how long to train: runner=dict(max_epochs=24)')
    torch.backends.cudnn.benchmark = bool(cfg.get('cudnn_benchmark', False)) and not options.deterministic
    if cfg.get('compute'):
        teachers = getattr(model, 'teachers', {})  # of a distiller; none of its modules
        speed_up([model, *(teacher.model for teacher in teachers.values())], **cfg.compute)
    wrapped = wrap_model(model, launch, cfg.get('find_unused_parameters', False))
    _check_custom_keys((cfg.optimizer.get('paramwise_cfg') or {}).get('custom_keys') or (), wrapped)
    with blamed_on('optimizer', cfg.optimizer):
        optimizer = build_optimizer(wrapped, copy.deepcopy(cfg.optimizer))
    return TrainRunner(
        launch=launch,
        precision=Precision(options.amp or cfg.get('amp'), launch.device.type),
        model=wrapped,
        optimizer=optimizer,
        work_dir=str(work_dir),
        logger=get_logger(),
        meta=meta,
        max_epochs=epochs,
    )


def _check_custom_keys(keys: Iterable[str], model: nn.Module) -> None:
    """Every key is in the name of a parameter; one that only looks like a part of the model is a misspelling."""
    names = [name for name, _ in model.named_parameters()]
    for key in keys:
        if any(key in name for name in names):
            continue
        length = key.count('.') + 1
        parts = [name.split('.') for name in names]
        known = {'.'.join(part[i : i + length]) for part in parts for i in range(len(part) - length + 1)}
        if close_names(key, known, cutoff=ALIKE):
            raise UserError(
                f'optimizer.paramwise_cfg.custom_keys: {key!r} is in no name of a parameter; {nearest(key, known)}'
            )
        get_logger().warning(
            'optimizer.paramwise_cfg.custom_keys: %r is in no name of a parameter, so it changes nothing', key
        )


def _register_hooks(runner: TrainRunner, cfg: Config, options: TrainOptions, launch: Launch) -> None:
    """Attach learning rate, momentum, optimizer, checkpoints, evaluation, logs and the config's own hooks."""
    with blamed_on('lr_config', cfg.get('lr_config')):
        runner.register_lr_hook(copy.deepcopy(cfg.get('lr_config')))
    with blamed_on('momentum_config', cfg.get('momentum_config')):
        runner.register_momentum_hook(copy.deepcopy(cfg.get('momentum_config')))
    update = _without(cfg.get('optimizer_config'))
    kind = (cfg.get('optimizer_config') or {}).get('type', 'OptimizeHook')
    if kind not in ('OptimizeHook', 'OptimizerHook', 'GradientCumulativeOptimizerHook'):
        raise UserError(
            f'optimizer_config.type={kind}: leave it out; for mixed precision say --amp bf16 or fp16'
        )
    runner.register_hook(OptimizeHook(**update), priority='ABOVE_NORMAL')
    runner.register_hook(SaveHook(**_without(cfg.get('checkpoint_config'))), priority='NORMAL')
    runner.register_timer_hook(dict(type='IterTimerHook'))
    if options.validate and cfg.get('evaluation'):
        # upstream repeats the test pipeline, which data.val has, and names the metric: there is one, bbox
        settings = _without(cfg.evaluation, 'pipeline', 'metric')
        split = build_split(cfg, 'val', test_mode=True)
        require_evaluation(split, 'val', settings.get('evaluator'))
        runner.register_hook(
            EvaluateHook(build_loader(cfg, split, False, launch), **settings), priority='LOW'
        )
    if launch.is_main:
        runner.register_hook(ProgressHook(), priority='LOW')
    with blamed_on('log_config', cfg.get('log_config')):
        runner.register_logger_hooks(copy.deepcopy(cfg.get('log_config')))
    own = copy.deepcopy(cfg.get('custom_hooks')) or []
    for hook in own if isinstance(own, list | tuple) else [own]:
        if isinstance(hook, dict) and hasattr(HOOKS.get(hook.get('type', '')), SWAP):
            # after the update of the weights, and before checkpoints and evaluation see them
            hook['priority'] = get_priority('NORMAL') - 1
        with blamed_on('custom_hooks', hook):
            runner.register_custom_hooks(hook)


def _without(settings: Mapping[str, Any] | None, *keys: str) -> dict[str, Any]:
    """A copy of a config without its ``type`` and other keys."""
    return {
        key: copy.deepcopy(value) for key, value in (settings or {}).items() if key not in ('type', *keys)
    }
