"""Mine an instance bank: a detector looks at every training frame twice."""

import argparse
import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmcv import Config
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.command_line.parsers import parse_mine
from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.digest import digest_of
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import hash_file, require_writable_file
from projects.mmdet3d_plugin.common.logs import get_logger, start_logging
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.builder import build_dataset
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import InstanceBank
from projects.mmdet3d_plugin.datasets.sparse.mining import Detections, Finding, mine
from projects.mmdet3d_plugin.datasets.sparse.sparse_split import SparseSplit
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.amp import Precision
from projects.mmdet3d_plugin.engine.build import build_loader
from projects.mmdet3d_plugin.engine.config_check import check_test_config
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.self_training.settings import SelfTraining
from projects.mmdet3d_plugin.engine.threads import choose_threads

_VIEWS = 'MultiScaleFlipAug3D'  # what ends the loading in pipelines of mmdet3d that test
_SCORE_LIMITS = ('score_thr', 'score_threshold')


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/mine.py."""
    cli.run(_mine_from, parse_mine(argv))


def _mine_from(arguments: argparse.Namespace) -> None:
    """Mine as parsed arguments say."""
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    start_logging(launch.is_main)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    mine_bank(
        cfg,
        arguments.checkpoint,
        arguments.out,
        iteration=arguments.iteration,
        seed=arguments.seed,
        parent=arguments.parent,
        launch=launch,
        amp=arguments.amp,
        threads=arguments.threads,
    )


def mine_bank(
    cfg: Config,
    checkpoint: str | Path,
    out: Path,
    iteration: int = 1,
    seed: int = 0,
    parent: Path | None = None,
    launch: Launch | None = None,
    amp: str | None = None,
    threads: int | None = None,
) -> InstanceBank | None:
    """Let a detector look at two views of every training frame, and write down what became of all it saw.

    What is written depends on weights, kept labels, clouds and the arguments, not on the number of processes, and holds
    nothing of hidden labels, which are not read.

    Args:
        cfg: with ``self_training``; of ``data.test`` it takes the dataset and its pipeline.
        checkpoint: weights of the detector; a distiller's fits too.
        out: the bank's file.
        iteration: counts from 1.
        seed: of the second views.
        parent: bank of the iteration before, for ``mine=dict(keep='monotone')``.
        launch: the place of this process, one plain process by default.
        amp: 'bf16', 'fp16' or None.
        threads: torch's threads on the CPU.

    Returns:
        The bank on rank 0, None elsewhere.

    Raises:
        UserError: a file is missing, or something does not fit.
    """
    launch = launch or start('none')
    plan = SelfTraining.from_config(cfg)
    if launch.is_main:
        require_writable_file(out)
    check_test_config(cfg)
    choose_threads(threads, deterministic=True)
    frames = MinedFrames(cfg, plan, iteration, seed)
    older = InstanceBank.load(parent) if parent is not None and plan.mine.keep == 'monotone' else None
    content = read_checkpoint(checkpoint)
    model = build_model(see_more(cfg.model, plan.mine.least_score)).to(launch.device)
    load_weights(model, content, source=checkpoint)
    seen = [
        run_inference(
            model, build_loader(cfg, view, False, launch), launch, Precision(amp, launch.device.type)
        )
        for view in frames.views
    ]
    if not launch.is_main:
        return None
    header = dict(
        iteration=iteration,
        seed=seed,
        detector=digest_of(content['state_dict']),
        split=hash_file(frames.file),
        split_tag=frames.split.tag,
        parent=None if older is None else older.digest,
    )
    bank = mine(frames.findings(*seen), frames.classes, plan.mine, header, older)
    bank.save(out)
    _say(bank, out)
    return bank


def _say(bank: InstanceBank, out: Path) -> None:
    """Log what was found."""
    for name, counts in bank.header['counts'].items():
        limits = bank.header['thresholds'][name]
        get_logger().info(
            '%s: %d accepted at score %.3f and consistency %.2f (%d labels found again); %d unsure',
            name,
            counts['accepted'],
            limits['score'],
            limits['consistency'],
            limits['labels_found'],
            counts['unsure'],
        )
    get_logger().info('%d frames; wrote %s', bank.header['frames'], out)


class MinedFrames:
    """The frames of a sparse split as a detector looks at them.

    Args:
        cfg: with ``data.test``.
        plan: of the self-training.
        iteration: counts from 1.
        seed: of the second views.
    """

    def __init__(self, cfg: Config, plan: SelfTraining, iteration: int = 1, seed: int = 0) -> None:
        settings = copy.deepcopy(next(innermost_datasets(cfg.data.test)))
        self.root = Path(next(innermost_datasets(cfg.data.train))['data_root'])
        self.split = SparseSplit.read(self.root / plan.split)
        self.file = self.root / self.split.frames_file
        settings.update(data_root=str(self.root), ann_file=str(self.split.frames_file), test_mode=True)
        loading, rest = split_pipeline(settings['pipeline'])
        turn = dict(type='TurnView', settings=plan.mine.as_plain(), seed=seed, iteration=iteration)
        self.views = [
            _Seeded(build_dataset(dict(settings, pipeline=steps)), seed)
            for steps in ([*loading, *rest], [*loading, turn, *rest])
        ]
        self.clouds = _Seeded(build_dataset(dict(settings, pipeline=loading)), seed)
        self.classes = list(self.views[0].CLASSES)
        plan.mine.require_classes(self.classes)
        self.second = partial(plan.mine.view, seed, iteration)

    def findings(self, first: Sequence[dict], second: Sequence[dict]) -> list[Finding]:
        """What there is to decide on.

        Args:
            first: results of all frames as they are.
            second: results of all frames in their second views.
        """
        layout = self.split.layout
        infos = layout.infos(layout.read(self.file))
        findings = []
        for i, info in enumerate(infos):
            frame, names = layout.frame(info), layout.names(info)
            turned = _detections(second[i])
            findings.append(
                Finding(
                    frame,
                    _detections(first[i]),
                    turned._replace(boxes=self.second(frame).original(turned.boxes)),
                    layout.boxes(info).astype(np.float64),
                    np.array([self.classes.index(n) if n in self.classes else -1 for n in names], np.int64),
                    partial(self.points, i),
                )
            )
        return findings

    def points(self, index: int) -> np.ndarray:
        """(N, 3) float32 points of a frame."""
        return self.clouds[index]['points'].tensor[:, :3].numpy()


def split_pipeline(pipeline: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Transforms of testing that load a frame, and those that come after a second view was made of it.

    Raises:
        UserError: mining cannot tell them apart.
    """
    places = [i for i, step in enumerate(pipeline) if step['type'] == _VIEWS]
    if not places:
        raise UserError(f'data.test.pipeline has no {_VIEWS}, so that mining cannot tell where loading ends')
    return pipeline[: places[0]], pipeline[places[0] :]


class _Seeded(Dataset):
    """A dataset for testing whose chance, such as a sampling of points, follows from the place of a frame alone."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.CLASSES, self.scene_tokens = dataset.CLASSES, dataset.scene_tokens

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        seed = np.random.SeedSequence((self.seed, int(index))).generate_state(1)[0]
        with drawn_from(int(seed)):
            return self.dataset[int(index)]


def see_more(model: dict[str, Any], least: float) -> dict[str, Any]:
    """A copy of a detector's config that keeps predictions down to a score.

    Args:
        model: its config.
        least: score; limits below it stay.
    """
    model = copy.deepcopy(model)
    # CenterPoint has a limit in its coder, a second stage in its head
    _lower(model, least)
    return model


def _lower(node: Any, least: float) -> None:
    for item in node if isinstance(node, list | tuple) else ():
        _lower(item, least)
    for key, value in node.items() if isinstance(node, dict) else ():
        if key in _SCORE_LIMITS and isinstance(value, int | float):
            node[key] = min(value, least)
        _lower(value, least)


def _detections(result: dict[str, Any]) -> Detections:
    """A detector's result as arrays."""
    result = result.get('pts_bbox', result)
    boxes = np.asarray(result['boxes_3d'].tensor, np.float64)[:, :7]
    scores = np.asarray(result['scores_3d'], np.float64)
    return Detections(boxes.reshape(-1, 7), scores, np.asarray(result['labels_3d'], np.int64))
