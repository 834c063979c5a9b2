"""What all point-cloud detectors of mmdet3d have in common."""

from typing import Any, ClassVar

from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, HostAdapter
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.step import present_metas


class LidarAdapter(HostAdapter):
    """A detector that takes ``points``, list of (N_i, C), and gives boxes of mmdet3d 1.0."""

    cost_columns: ClassVar[tuple[str, ...]] = (
        'parameters',
        'computed',
        'published',
        'sparsekd',
        'activations',
    )

    def present(self, model: nn.Module, batch: Batch) -> Batch:
        """One meta per sample, also beside a camera student, whose samples are queues of frames.

        Raises:
            DistillError: the batch has no points.
        """
        if 'points' not in batch:
            raise DistillError(
                f"{type(model).__name__} looks at points, but its batch has none: a teacher of a camera student needs view='native', "
                'a student LoadPoints in its training pipeline'
            )
        return {**batch, 'img_metas': present_metas(batch['img_metas'])}

    def predict(self, model: nn.Module, batch: Batch, memory: Any = None) -> list[dict[str, Any]]:
        """Final boxes of points (list of (N_i, C)); mmdet3d asks for one list of samples per view in testing."""
        return model(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])

    def box_convention(self, model: nn.Module) -> str:
        """mmdet3d 1.0 has one convention."""
        return 'v1.0'
