"""Train the student of a recipe under its teacher."""

import argparse
import copy
from collections.abc import Sequence

from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.distill.distiller import build_distiller
from projects.mmdet3d_plugin.distill.views import apply_teacher_view
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.runner import TrainRunner
from projects.mmdet3d_plugin.engine.train import TrainOptions, options_of, train


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/distillation.py."""
    arguments = cli.make_train_parser('Distil: train the student of a recipe under its teacher.').parse_args(
        argv
    )
    cli.run(_distill_from, arguments)


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
    # The teacher's view is added to a copy of the config, so that the caller's can be used again.
    return train(copy.deepcopy(cfg), options, launch, make_distiller)


def make_distiller(cfg: Config) -> nn.Module:
    """Build the distiller of a recipe: the student with initial weights, the teacher with its own.

    The training pipeline of the recipe learns to make the teacher's view too.
    """
    distiller = build_distiller(cfg)
    distiller.init_weights()
    apply_teacher_view(cfg, distiller.teacher.cfg)
    return distiller
