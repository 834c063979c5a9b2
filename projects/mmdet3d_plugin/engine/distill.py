"""Train the student of a recipe under its teacher."""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from mmcv import Config

from projects.mmdet3d_plugin.command_line.parsers import parse_distillation
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.runner import TrainRunner
from projects.mmdet3d_plugin.engine.train import TrainOptions, options_of, train


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/distillation.py."""
    cli.run(_distill_from, parse_distillation(argv))


def _distill_from(arguments: argparse.Namespace) -> None:
    """Distil as parsed arguments say."""
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    distill(cfg, options_of(arguments), launch)


def distill(cfg: Config, options: TrainOptions | None = None, launch: Launch | None = None) -> TrainRunner:
    """Train the student of a recipe under its teacher.

    Args:
        cfg: a recipe, as :func:`load_config` returns it: the student's config and a ``distiller``.
        options: choices of this run.
        launch: the place of this process, one plain process by default.

    Returns:
        the runner after the last epoch.
    """
    if not cfg.get('distiller'):
        raise UserError(
            f'{cfg.filename} has no distiller: recipes are in projects/configs/distiller; '
            'a detector alone is trained by tools/train.py'
        )
    return train(cfg, replace(options or TrainOptions(), distil=True), launch)
