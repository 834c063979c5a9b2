"""Write the training set that follows from a sparse split and a bank."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmcv import Config

from projects.mmdet3d_plugin.command_line.parsers import parse_derive
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.logs import get_logger, start_logging
from projects.mmdet3d_plugin.datasets.sparse.derived_set import DerivedSet, derive_training_set
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseSplit
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.self_training.settings import SelfTraining


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/derive_training_set.py."""
    cli.run(_derive_from, parse_derive(argv))


def _derive_from(arguments: argparse.Namespace) -> None:
    """Derive as parsed arguments say."""
    start_logging(True)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    counts = derive(cfg, arguments.bank, arguments.out)
    get_logger().info(
        '%s: %d frames, %d labels that were kept, %d mined, %d ambiguous boxes',
        arguments.out,
        counts.frames,
        counts.labels,
        counts.mined,
        counts.ambiguous,
    )


def derive(cfg: Config, bank: Path, out: Path) -> DerivedSet:
    """Write a derived training set.

    Args:
        cfg: with ``self_training``.
        bank: the bank's file.
        out: folder of the training set.
    """
    plan = SelfTraining.from_config(cfg)
    root = Path(next(innermost_datasets(cfg.data.train))['data_root'])
    split = SparseSplit.read(root / plan.split)
    return derive_training_set(root, split, InstanceBank.load(bank), out, plan.own_scene)
