"""What the distiller knows about detectors with a second stage."""

from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections
from projects.mmdet3d_plugin.distill.hosts.centerpoint import CenterPointAdapter
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VOXELS, VoxelHostAdapter, given_voxels
from projects.mmdet3d_plugin.distill.hosts.voxelnet import VoxelNetAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap
from projects.mmdet3d_plugin.hosts.two_stage.two_stage import TwoStageOutputs


class _TwoStageAdapter(VoxelHostAdapter):
    """Final boxes are the second stage's; features and raw outputs are those of the first.

    - ``second_stage``: ``Refined`` boxes of the second stage with the rows of ``heads`` that they come from.
    """

    def infer(self, model: nn.Module, batch: Batch) -> TwoStageOutputs:
        """Raw outputs of the dense head, as ``heads`` gives them, and what the second stage makes of its boxes."""
        with given_voxels(model, batch.get(VOXELS)):
            outputs = model.two_stages(batch['points'])
        return TwoStageOutputs(self.read_heads(outputs.heads), outputs.refined)

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """Those of the first stage, and 'second_stage': what became of its boxes, :class:`Refined`."""
        return super().aliases(model) | {'second_stage': [Tap('roi_head')]}

    def detect(
        self, model: nn.Module, batch: Batch, predictions: TwoStageOutputs | None = None
    ) -> list[Detections]:
        """Boxes of the second stage; none in clouds without points in range."""
        found = self.infer(model, batch) if predictions is None else predictions
        boxes = model.final_boxes(found.refined, batch['points'], batch['img_metas'])
        return [Detections(*one) for one in boxes]


@ADAPTERS.register_module(name='TwoStageVoxelNet')
class TwoStageVoxelNetAdapter(_TwoStageAdapter, VoxelNetAdapter):
    """PointPillars or SECOND with a second stage: the same taps, and the second stage's boxes."""


@ADAPTERS.register_module(name='TwoStageCenterPoint')
class TwoStageCenterPointAdapter(_TwoStageAdapter, CenterPointAdapter):
    """CenterPoint with a second stage: the same taps, and the second stage's boxes."""
