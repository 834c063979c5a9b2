"""What the adapters of voxel detectors have in common: VoxelNet and the point branch of MVX detectors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.dense_heads.dense_anchors import DenseAnchors
from projects.mmdet3d_plugin.distill.dense_heads.dense_head import DenseHead
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections, adapter_for
from projects.mmdet3d_plugin.distill.hosts.lidar_adapter import LidarAdapter
from projects.mmdet3d_plugin.distill.taps import Call, Tap
from projects.mmdet3d_plugin.distill.voxel_features import VoxelFeatures, VoxelGrid, Voxels
from projects.mmdet3d_plugin.hosts.lidar.voxel_detectors import out_of_range

VOXELS = 'voxels'
"""Key of a batch: the :class:`Voxels` that both detectors use."""


class VoxelHostAdapter(LidarAdapter):
    """A detector that voxelises, encodes voxels, scatters them to BEV, and goes on with convolutions.

    - ``voxels``: :class:`VoxelFeatures` of the voxel encoder, (V, C).
    - ``scatter``: (B, C, H, W), what the backbone reads: pillars on the BEV, or the sparse encoder's voxels column by column.
    - ``backbone``: one (B, C, H, W) per stage, row = y, column = x.
    - ``bev``: one (B, C, H, W) per level of the neck.
    - ``heads``: raw outputs of the head.
    """

    prefix: ClassVar[str] = ''
    """What module names begin with."""

    def present(self, model: nn.Module, batch: Batch) -> Batch:
        """As the base, and metas say which range BEV maps cover, as those of cameras do."""
        batch, limits = super().present(model, batch), self.bev_grid(model).pc_range
        return {**batch, 'img_metas': [{'pc_range': list(limits), **meta} for meta in batch['img_metas']]}

    def share_inputs(self, student: nn.Module, teacher: nn.Module, batch: Batch) -> Batch:
        """Voxelise once for both where their grids agree, with the student's cap on the number of voxels."""
        other = adapter_for(teacher)
        alike = isinstance(other, VoxelHostAdapter) and other.grid(teacher) == self.grid(student)
        if not alike or 'teacher_points' in batch:
            return batch
        return {**batch, VOXELS: Voxels(*student.voxelize(batch['points']))}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """Detection losses of points (list of (N_i, C)), boxes and labels."""
        batch = dict(batch)
        with given_voxels(model, batch.pop(VOXELS, None)):
            return model.forward_train(**batch)

    def infer(self, model: nn.Module, batch: Batch) -> Any:
        """Raw predictions, as ``heads`` gives them."""
        with given_voxels(model, batch.get(VOXELS)):
            features = self.features(model, batch)
        return self.read_heads(self.part(model, 'bbox_head')(features))

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Boxes after the host's own threshold and non-maximum suppression; none in clouds without points in range."""
        predictions = self.infer(model, batch) if predictions is None else predictions
        found = self.part(model, 'bbox_head').get_bboxes(
            *self.decoder_arguments(predictions), batch['img_metas']
        )
        return self.where_points_are(model, batch, found)

    def where_points_are(
        self, model: nn.Module, batch: Batch, found: Sequence[Sequence[Any]]
    ) -> list[Detections]:
        """What was found in clouds (boxes, scores and labels), and nothing in those without points in range."""
        empty = out_of_range(self.part(model, 'voxel_layer'), batch['points'])
        return [
            Detections(*(part[:0] if none else part for part in parts))
            for parts, none in zip(found, empty, strict=True)
        ]

    def features(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Levels of the neck, (B, C, H, W) each."""
        return model.extract_feat(batch['points'], batch['img_metas'])

    def read_heads(self, outputs: Any) -> Any:
        """What the head returned, in the shape that is documented."""
        return outputs

    def decoder_arguments(self, predictions: Any) -> tuple[Any, ...]:
        """First arguments of the head's ``get_bboxes``."""
        return tuple(predictions)

    def part(self, model: nn.Module, name: str) -> nn.Module:
        """One of the detector's modules, whatever its names begin with."""
        return getattr(model, self.prefix + name)

    def grid(self, model: nn.Module) -> VoxelGrid:
        """How this detector cuts space."""
        return VoxelGrid.of(self.part(model, 'voxel_layer'))

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'voxels', 'scatter', 'backbone', 'bev' and 'heads', see the class."""
        p, stages, grid = self.prefix, self.part(model, 'backbone').blocks, self.bev_grid(model)
        encoder, neck = self.part(model, 'voxel_encoder'), self.part(model, 'neck')
        layers = getattr(encoder, 'pfn_layers', None) or getattr(encoder, 'vfe_layers', None)
        # None where the encoder's class does not say
        width = layers[-1].linear.out_features if layers else getattr(encoder, 'num_features', None)
        if isinstance(neck.out_channels, int):  # FPN has equal levels, SECONDFPN joins its branches to one
            levels = [neck.out_channels] * neck.num_outs
        else:
            levels = [sum(neck.out_channels)]
        read = partial(read_voxels, grid=self.grid(model))
        return {
            'voxels': [Tap(f'{p}voxel_encoder:call', convert=read, channels=width)],
            'scatter': [Tap(f'{p}middle_encoder', channels=stages[0][0].in_channels, grid=grid)],
            'backbone': [
                Tap(f'{p}backbone.blocks.{i}', channels=stage[0].out_channels, grid=grid)
                for i, stage in enumerate(stages)
            ],
            'bev': [
                Tap(f'{p}neck', convert=itemgetter(level), channels=channels, grid=grid)
                for level, channels in enumerate(levels)
            ],
            # A centre head turns its logits into probabilities in place when it computes its loss.
            'heads': [Tap(f'{p}bbox_head', convert=self.read_heads, clone=True, grid=grid)],
        }

    def dense_head(self, model: nn.Module) -> DenseHead:
        """Anchors; a centre host says cells."""
        return DenseAnchors(self.part(model, 'bbox_head'))

    def bev_grid(self, model: nn.Module) -> BEVGrid:
        """The range that is voxelised."""
        return BEVGrid(list(self.part(model, 'voxel_layer').point_cloud_range))


@contextmanager
def given_voxels(model: nn.Module, voxels: Voxels | None) -> Iterator[None]:
    """Let a detector use these voxels instead of its own, inside a ``with`` block."""
    if voxels is None:
        yield
        return
    model.voxelize = lambda points: voxels.copy()
    try:
        yield
    finally:
        del model.voxelize


def read_voxels(call: Call, grid: VoxelGrid) -> VoxelFeatures:
    """A voxel encoder's call ``(points, num_points, coors, ...) -> (V, C)`` as :class:`VoxelFeatures`."""
    num_points, coors = call.args[1:3]
    return VoxelFeatures(call.output, coors, num_points, grid)
