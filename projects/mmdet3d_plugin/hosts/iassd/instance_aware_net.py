"""The encoder of IA-SSD."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from mmcv.runner import BaseModule
from mmdet3d.models.builder import BACKBONES
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.iassd.point_set import PointSet
from projects.mmdet3d_plugin.hosts.iassd.sampling_stage import FURTHEST, SamplingStage


class Confidence(NamedTuple):
    """What the points of a stage were said to be, by which the next one samples.

    Args:
        places: (N, 3), metres.
        counts: points of each cloud.
        logits: (N, classes).
        sample: how the next stage samples.
    """

    places: Tensor
    counts: tuple[int, ...]
    logits: Tensor
    sample: str


class Encoded(NamedTuple):
    """Points after every stage, and what stages said about them."""

    stages: tuple[PointSet, ...]
    confidences: tuple[Confidence, ...]


@BACKBONES.register_module()
class InstanceAwareNet(BaseModule):
    """Stages that keep ever fewer points: first evenly spread ones, then those of objects ("instance-aware downsampling").

    Args:
        num_classes: of objects.
        stages: arguments of a :class:`SamplingStage` each, ``in_channels`` and ``num_classes`` left out.
        in_channels: numbers of a point after x, y and z.
        init_cfg: as for every module of mmcv.

    Raises:
        UserError: a stage samples by classes that the one before does not tell.
    """

    def __init__(
        self,
        num_classes: int,
        stages: Sequence[Mapping[str, Any]],
        in_channels: int = 1,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        self.stages = nn.ModuleList()
        for settings in stages:
            self.stages.append(SamplingStage(in_channels, num_classes, **settings))
            in_channels = self.stages[-1].out_channels
        self.out_channels = tuple(stage.out_channels for stage in self.stages)
        if self.stages[0].sample != FURTHEST:
            raise UserError("the first stage of IA-SSD can only have sample='furthest'")
        for number, (before, stage) in enumerate(pairwise(self.stages)):
            if (stage.sample == FURTHEST) != (before.confidence is None):
                raise UserError(
                    f'model.backbone.stages[{number + 1}] has sample={stage.sample!r}: stages[{number}] must have '
                    f'{"no confidence" if stage.sample == FURTHEST else "confidence, the width of its classifier"}'
                )

    def forward(self, points: PointSet) -> Encoded:
        """N points of B clouds -> points after every stage."""
        kept, confidences, logits = [points], [], None
        for stage, after in zip(self.stages, [*self.stages[1:], None], strict=True):
            points, logits = stage(kept[-1], logits)
            kept.append(points)
            if logits is not None and after is not None:
                confidences.append(Confidence(points.places, points.counts, logits, after.sample))
        return Encoded(tuple(kept[1:]), tuple(confidences))
