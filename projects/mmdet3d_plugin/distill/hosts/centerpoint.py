"""What the distiller knows about CenterPoint."""

from typing import Any

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.dense_heads.dense_cells import DenseCells
from projects.mmdet3d_plugin.distill.hosts.mvx import MVXAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS

TaskOutputs = list[dict[str, Tensor]]


@ADAPTERS.register_module(name='CenterPoint')
class CenterPointAdapter(MVXAdapter):
    """CenterPoint with pillars or voxels.

    ``heads`` is a list over tasks of dicts: ``heatmap`` (B, K, H, W) logits of the task's K classes, ``reg``
    (B, 2, H, W), ``height`` (B, 1, H, W), ``dim`` (B, 3, H, W), ``rot`` (B, 2, H, W) and, on nuScenes, ``vel``
    (B, 2, H, W). They are copies, since the host's loss turns its logits into probabilities in place.
    """

    def dense_head(self, model: nn.Module) -> DenseCells:
        """Cells."""
        return DenseCells(self.part(model, 'bbox_head'))

    def read_heads(self, outputs: Any) -> TaskOutputs:
        """Tasks with one level each -> tasks."""
        return [levels[0] for levels in outputs]

    def decoder_arguments(self, predictions: TaskOutputs) -> tuple[Any, ...]:
        """Tasks -> tasks with one level each."""
        return ([[task] for task in predictions],)
