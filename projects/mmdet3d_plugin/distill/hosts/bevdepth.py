"""What the distiller knows about BEVDepth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from mmcv import Config
from mmdet.models import build_head
from torch import Tensor, nn

from projects.mmdet3d_plugin.datasets.blank_batch import blank_images
from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.dense_heads.dense_cells import DenseCells
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections, HostAdapter
from projects.mmdet3d_plugin.distill.hosts.bev_query_host import BEVQueryHostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS, DistillError
from projects.mmdet3d_plugin.distill.step import QueryReading, last_frame
from projects.mmdet3d_plugin.distill.taps import Recorder, Tap

TaskOutputs = list[dict[str, Tensor]]
_QUERIES = BEVQueryHostAdapter()  # a decoder of queries on a BEV map is the same, whatever made the map


@ADAPTERS.register_module(name='BEVDepth')
class BEVDepthAdapter(HostAdapter):
    """BEVDepth; BEV maps are (B, C, H, W), row = y, column = x.

    - ``pv``: image features (B * num_cams, C, h, w).
    - ``depth``: probabilities over depth bins (B * num_cams, D, h, w).
    - ``expected_depth``: their mean (B * num_cams, 1, h, w), metres.
    - ``lss``: what the present frame's images put on the BEV.
    - ``backbone``: one map per stage of the BEV encoder.
    - ``bev``: what the heads read.
    - ``heads``: a list over tasks of dicts, as CenterPoint's.
    """

    head = 'head'
    bev_neck: ClassVar[str] = 'head.neck'
    """Path of the module whose map the heads read, as a tensor or as the only one in a list."""
    shape_only = ('backbone.img_backbone', 'backbone.img_neck')

    def prepare(self, model: nn.Module, batch: Batch) -> Batch:
        """Pool earlier key frames into the present one without gradient; keep the last frame.

        Args:
            model: a BEVDepth.
            batch: ``img`` (B, T, num_cams, 3, H, W), ``img_metas`` list[B] of list[T], and the rest.

        Returns:
            The batch with T = 1 and ``history``, see :meth:`BEVDepth.history_bev`.
        """
        img, metas = batch['img'], batch['img_metas']
        present = [queue[-1] for queue in metas]
        history = batch.get('history')
        if history is None:
            history = model.history_bev(img[:, :-1], [queue[:-1] for queue in metas], present)
        return self.present(model, batch) | {'history': history}

    def present(self, model: nn.Module, batch: Batch) -> Batch:
        """The last frame of ``img`` (B, T, num_cams, 3, H, W) and of ``img_metas``, list[B] of list[T]."""
        return last_frame(batch)

    def infer(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """``heads``, raw outputs as the tap of that name gives them, and ``bev_embed`` (B, H * W, C), what they read."""
        with Recorder(model, [Tap(self.bev_neck)]) as recorder:
            outs = model.predict_raw(batch['img'], batch['img_metas'], batch.get('history'))
        bev = only_map(recorder.pop()[self.bev_neck])
        return dict(heads=read_heads(outs['heads']), bev_embed=bev.flatten(2).transpose(1, 2))

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Final boxes (n, 9) in the LiDAR frame, after the host's own threshold and suppression."""
        predictions = self.infer(model, batch) if predictions is None else predictions
        tasks = [[dict(task)] for task in predictions['heads']]
        return [
            Detections(*found)
            for found in model.get_bboxes(tasks, [queue[-1] for queue in batch['img_metas']])
        ]

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv', 'depth', 'expected_depth', 'lss', 'backbone', 'bev' and 'heads', see the class."""
        backbone, trunk, grid = model.backbone, model.head.trunk, self.bev_grid(model)
        height, width = backbone.lift_splat.image_size
        small = (height // backbone.lift_splat.stride, width // backbone.lift_splat.stride)
        stages = [
            Tap(
                f'head.trunk.{name}',
                channels=trunk.base_channels * 2**i,
                size=tuple(-(-side // 2 ** (i + 1)) for side in grid.size),
                grid=grid,
            )
            for i, name in enumerate(trunk.res_layers)
        ]
        channels = self.bev_channels(model)
        return {
            'pv': [
                Tap(
                    'backbone.img_neck',
                    convert=itemgetter(0),
                    channels=sum(backbone.img_neck.out_channels),
                    size=small,
                )
            ],
            'depth': [
                Tap(
                    'backbone.depth_net',
                    convert=read_depth,
                    channels=len(backbone.lift_splat.bins),
                    size=small,
                )
            ],
            'expected_depth': [
                Tap(
                    'backbone.depth_net',
                    convert=partial(read_expected_depth, bins=backbone.lift_splat.bins),
                    channels=1,
                    size=small,
                )
            ],
            'lss': [Tap('backbone.lift_splat', channels=backbone.out_channels, size=grid.size, grid=grid)],
            'backbone': stages,
            'bev': [Tap(self.bev_neck, convert=only_map, channels=channels, size=grid.size, grid=grid)],
            # a centre head turns its logits into probabilities in place when it computes its loss
            'heads': [Tap(self.head, convert=read_heads, clone=True, grid=grid)],
        }

    def dense_head(self, model: nn.Module) -> DenseCells:
        """Cells."""
        return DenseCells(model.head, whole=False)

    def query_head(self, model: nn.Module) -> nn.Module:
        """There is none: FD3D's distillation head has to be trained along."""
        raise DistillError(
            f'{type(model).__name__} has no queries of its own that could say where it matters: write '
            "head=dict(init='scratch')"
        )

    def fresh_query_head(
        self, model: nn.Module, num_query: int = 900, num_layers: int = 6, num_heads: int = 8
    ) -> nn.Module:
        """A decoder of object queries on the BEV map that the heads read, as BEVFormer's, with new weights.

        Args:
            model: a BEVDepth.
            num_query: object queries.
            num_layers: of the decoder.
            num_heads: of its attentions.
        """
        grid, dims = self.bev_grid(model), self.bev_channels(model)
        sizes = dict(num_heads=num_heads, feedforward_dims=2 * dims)
        head = build_head(
            dict(
                type='BEVDecoderHead',
                bev_h=grid.size[0],
                bev_w=grid.size[1],
                num_query=num_query,
                num_classes=sum(model.head.num_classes),
                pc_range=list(grid.pc_range),
                box_convention='v1.0',
                embed_std=0.1,
                transformer=dict(
                    type='PerceptionTransformer',
                    embed_dims=dims,
                    decoder=dict(num_layers=num_layers, dropout=0.1, **sizes),
                ),
                bbox_coder=dict(post_center_range=list(model.head.bbox_coder.post_center_range), max_num=100),
                loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
                loss_bbox=dict(type='L1Loss', loss_weight=0.25),
            )
        )
        return _QUERIES.fresh_query_head(SimpleNamespace(pts_bbox_head=head))

    def query_taps(self, head: nn.Module) -> list[Tap]:
        """As BEVFormer's."""
        return _QUERIES.query_taps(head)

    def decode_queries(self, head: nn.Module, predictions: dict[str, Any]) -> dict[str, Tensor]:
        """Read class scores and boxes off the map that the heads read."""
        return _QUERIES.decode_queries(head, predictions)

    def query_losses(
        self, head: nn.Module, predictions: dict[str, Tensor], batch: Batch
    ) -> dict[str, Tensor]:
        """Set-prediction losses of all layers."""
        return _QUERIES.query_losses(head, predictions, batch)

    def read_queries(
        self, head: nn.Module, records: dict[str, Any], predictions: dict[str, Tensor]
    ) -> QueryReading:
        """Boxes, scores, and where each layer's cross-attention looked on the map that the heads read."""
        reading = _QUERIES.read_queries(head, records, predictions)
        return replace(reading, samplings={self.bev_neck: reading.sampling(None)})

    def bev_channels(self, model: nn.Module) -> int:
        """Channels of the map that the heads read."""
        return sum(model.get_submodule(self.bev_neck).out_channels)

    def bev_grid(self, model: nn.Module) -> BEVGrid:
        """The grid that features are pooled on, and the frame of the host."""
        lift = model.lift_splat
        return BEVGrid(list(lift.pc_range), model.frame, lift.size)

    def box_convention(self, model: nn.Module) -> str:
        """The published weights have mmdet3d 1.0's too."""
        return 'v1.0'

    def blank_batch(self, cfg: Config, cloud: str | None = None) -> Batch:
        """Black images, as many frames of them as the model looks at."""
        batch = blank_images(cfg)
        frames = cfg.model.get('num_frames', 1)
        metas = [batch['img_metas'][0] * frames]
        return {**batch, 'img': batch['img'].expand(-1, frames, -1, -1, -1, -1), 'img_metas': metas}

    def cost_parts(self, model: nn.Module) -> dict[str, str]:
        """Image side, depth network, pooling and BEV side."""
        name = 'depth_aggregation_net'
        more = {'aggregation': f'backbone.{name}'} if getattr(model.backbone, name) is not None else {}
        return more | {
            'backbone': 'backbone.img_backbone',
            'neck': 'backbone.img_neck',
            'depth net': 'backbone.depth_net',
            'pooling': 'backbone.lift_splat',
            'BEV backbone': 'head.trunk',
            'BEV neck': 'head.neck',
            'head': 'head',
        }


def only_map(outputs: Any) -> Tensor:
    """A map (B, C, H, W), or the only one in a list."""
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def read_heads(outputs: Any) -> TaskOutputs:
    """Tasks with one level each -> tasks."""
    return [levels[0] for levels in outputs]


def read_depth(outputs: Mapping[int, Tensor]) -> Tensor:
    """Depth logits and context -> probabilities (B * num_cams, D, h, w)."""
    return outputs[0].softmax(1)


def read_expected_depth(outputs: Any, bins: Sequence[float]) -> Tensor:
    """Depth logits and context -> mean depth (B * num_cams, 1, h, w) in metres."""
    depth = read_depth(outputs)
    return torch.einsum('ndhw,d->nhw', depth, depth.new_tensor(bins))[:, None]
