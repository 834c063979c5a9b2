"""What the distiller knows about IA-SSD."""

from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, ClassVar

from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.datasets.blank_batch import thinned_cloud
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections
from projects.mmdet3d_plugin.distill.hosts.lidar_adapter import LidarAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.hosts.iassd.centroid_outputs import CentroidOutputs
from projects.mmdet3d_plugin.hosts.iassd.sampling_stage import FURTHEST


@ADAPTERS.register_module(name='IASSD')
class IASSDAdapter(LidarAdapter):
    """IA-SSD: features of points.

    - ``points``: :class:`PointSet` after the last stage whose points are spread evenly. Two detectors that keep as many
      have the same ones, row by row, whatever they have learned.
    - ``stage_0``, ``stage_1`` and so on: the same after every stage. From the first on that samples by its own scores,
      two detectors have different points.
    - ``heads``: :class:`CentroidOutputs` of centroids, which are each detector's own.
    """

    head: ClassVar[str] = 'bbox_head'

    def infer(self, model: nn.Module, batch: Batch) -> CentroidOutputs:
        """Raw predictions, as ``heads`` gives them."""
        return model.raw_outputs(batch['points'])

    def run_for_cost(self, model: nn.Module, batch: Batch) -> CentroidOutputs:
        """The whole detector, every stage choosing by where points lie and centroids staying where they are: operations
        are counted without values, which learned sampling would need."""
        with _blind(model):
            return self.infer(model, batch)

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Boxes after threshold and non-maximum suppression."""
        found = self.infer(model, batch) if predictions is None else predictions
        return [Detections(*one) for one in model.bbox_head.get_bboxes(found, batch['img_metas'])]

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'points', 'stage_0', ... and 'heads', see the class."""
        stages = [
            Tap(f'backbone.stages.{number}', convert=itemgetter(0), channels=stage.out_channels)
            for number, stage in enumerate(model.backbone.stages)
        ]
        even = [
            tap for tap, stage in zip(stages, model.backbone.stages, strict=True) if stage.sample == FURTHEST
        ]
        named = {f'stage_{number}': [tap] for number, tap in enumerate(stages)}
        return {'points': even[-1:], **named, 'heads': [Tap('bbox_head')]}

    def blank_batch(self, cfg: Config, cloud: str | None = None) -> Batch:
        """One frame without data, thinned out as the config's test pipeline does it."""
        return thinned_cloud(cfg, super().blank_batch(cfg, cloud))


@contextmanager
def _blind(model: nn.Module) -> Iterator[None]:
    """Let nothing that a detector has learned decide where it looks, inside a ``with`` block."""
    before = [stage.sample for stage in model.backbone.stages]
    for stage in model.backbone.stages:
        stage.sample = FURTHEST
    model.bbox_head.moved = lambda places, shifts: places
    try:
        yield
    finally:
        del model.bbox_head.moved
        for stage, sample in zip(model.backbone.stages, before, strict=True):
            stage.sample = sample
