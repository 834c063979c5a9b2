"""Where on the map a student's BEV feature is close to its teacher's, whether or not its recipe compares them."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.mmdet3d_plugin.command_line.parsers import parse_measure_closeness
from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import read_json, require_writable_file, write_json
from projects.mmdet3d_plugin.common.models import evaluating
from projects.mmdet3d_plugin.common.progress import track
from projects.mmdet3d_plugin.distill.bev_grid import place_bev, shared_range
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.regions.bev_footprint import BEVFootprint
from projects.mmdet3d_plugin.distill.regions.region import pc_range_of
from projects.mmdet3d_plugin.distill.step import Step, covering
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.distill.views import seen_by, split_views, with_teacher_view
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.build import build_split
from projects.mmdet3d_plugin.engine.launch import start
from projects.mmdet3d_plugin.engine.threads import choose_threads
from projects.mmdet3d_plugin.studies.pictures.visualize import choose_samples
from projects.mmdet3d_plugin.studies.pictures.visualize_distill import (
    load_distiller,
    one_sample,
    without_chance,
)


@dataclass(frozen=True)
class Closeness:
    """How far a student's BEV feature is from its teacher's; 1 is as far as no feature at all.

    Attributes:
        gap: (H, W) mean square of the difference over channels and samples, in units of the teacher's mean square.
        inside: the same over the cells that objects cover.
        outside: the same over the other cells.
        pc_range: x0, y0, z0, x1, y1, z1 in metres, what the map covers.
        samples: how many were looked at.
    """

    gap: np.ndarray
    inside: float
    outside: float
    pc_range: list[float]
    samples: int

    def write(self, path: Path) -> None:
        """Keep it as JSON."""
        write_json(path, {**vars(self), 'gap': self.gap.tolist()})

    @classmethod
    def read(cls, path: Path) -> 'Closeness':
        """What :meth:`write` kept."""
        content = read_json(path, 'delete it and run again')
        try:
            return cls(**{**content, 'gap': np.array(content['gap'], float)})
        except (TypeError, KeyError, ValueError):
            raise UserError(f'{path} is damaged: delete it and run again') from None


@torch.no_grad()
def measure_closeness(distiller: Distiller, batches: Iterable[dict[str, Any]]) -> Closeness:
    """Compare the BEV features of student and teacher on batches of one sample each.

    Args:
        distiller: with the weights of a checkpoint; its terms do not matter.
        batches: with the teacher's view and ground truth.

    Raises:
        UserError: the teacher is a part of the student, whose BEV feature is the student's own.
    """
    if not distiller.teacher.runs_first:
        raise UserError(
            f'a {type(distiller.teacher).__name__} has no BEV feature but that of its student, so there is no gap to '
            'measure; take a recipe with a teacher of its own'
        )
    gaps, powers, covered, limits = [], [], [], []
    with evaluating(distiller):
        for batch in batches:
            student, teacher, step = _features(distiller, batch)
            gaps.append((student - teacher).square().mean((0, 1)))
            powers.append(teacher.square().mean())
            covered.append(BEVFootprint()(step, teacher)[0, 0] > 0)
            limits = pc_range_of(step.batch['img_metas'])
    gap, inside = torch.stack(gaps) / torch.stack(powers).mean(), torch.stack(covered)
    return Closeness(
        gap.mean(0).cpu().numpy(),
        gap[inside].mean().item(),
        gap[~inside].mean().item(),
        list(limits),
        len(gaps),
    )


def _features(distiller: Distiller, batch: dict[str, Any]) -> tuple[Tensor, Tensor, Step]:
    """The student's BEV feature at the (first) teacher's resolution, the teacher's (1, C, H, W), and a step whose
    ``pc_range`` is what both cover."""
    adapter, student = distiller.adapter, distiller.student
    batch = adapter.share_inputs(student, distiller.teacher.model, batch)
    own = adapter.prepare(student, split_views(batch, 'same')[0])
    (tap,), (like,) = adapter.taps(student, 'bev'), distiller.teacher.taps('bev')
    with Recorder(student, [tap]) as recorder:
        adapter.infer(student, own)
    batch = seen_by(batch, next(iter(distiller.teachers)))
    seen = distiller.teacher.observe(batch, [like], next(student.parameters()).device)
    teacher = like.convert(seen.features[like.path])
    feature = tap.convert(recorder.pop()[tap.path])
    if feature.shape[1] != teacher.shape[1]:
        raise UserError(
            f"the student's BEV feature has {feature.shape[1]} channels and the teacher's {teacher.shape[1]}: their gap can be "
            'measured where nothing learned lies between them'
        )
    metas = own['img_metas']
    shared = shared_range(tap.grid, like.grid, 'the gap between BEV features') or pc_range_of(metas)
    if {one.grid.frame for one in (tap, like) if one.grid is not None} - {'lidar'}:
        raise UserError(
            'the gap is measured where objects are, which lie in the LiDAR frame, but a BEV feature lies in the ego frame; '
            "give both detectors model.frame='lidar'"
        )
    feature, teacher = (
        one if place.grid is None else place_bev(one, place.grid, shared, 'lidar', metas)
        for one, place in ((feature, tap), (teacher, like))
    )
    feature = F.interpolate(feature, size=teacher.shape[-2:], mode='bilinear', align_corners=False)
    return feature, teacher, Step({**own, 'img_metas': covering(metas, shared)}, {}, {})


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/measure_closeness.py."""
    cli.run(_measure_from, parse_measure_closeness(argv))


def _measure_from(arguments: argparse.Namespace) -> None:
    """Measure as parsed arguments say."""
    out = require_writable_file(arguments.out)
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    choose_threads(arguments.threads, deterministic=True)
    cfg = without_chance(load_config(arguments.config, arguments.cfg_options, arguments.data_root), 'val')
    distiller, _ = load_distiller(cfg, arguments.checkpoint, launch)
    dataset = build_split(with_teacher_view(cfg, distiller.teacher_configs), 'train', test_mode=False)
    indices = choose_samples(dataset, arguments.samples)
    batches = (one_sample(dataset, index, launch) for index in track(indices, len(indices), 'comparing'))
    found = measure_closeness(distiller, batches)
    found.write(out)
    print(
        f'gap to the teacher: {found.inside:.3f} where objects are, {found.outside:.3f} elsewhere; wrote {out}'
    )
