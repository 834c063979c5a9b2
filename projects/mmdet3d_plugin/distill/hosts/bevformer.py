"""What the distiller knows about BEVFormer."""

from functools import partial
from operator import itemgetter
from typing import Any

from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, HostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap


@ADAPTERS.register_module(name='BEVFormer')
class BEVFormerAdapter(HostAdapter):
    """BEVFormer: ``pv`` is one (B * num_cams, C, h, w) per FPN level, ``bev`` is (B, C, H, W), row = y, column = x."""

    head = 'pts_bbox_head'

    def prepare(self, model: nn.Module, batch: Batch) -> Batch:
        """Compute the BEV of the earlier frames without gradient; keep the last frame.

        Args:
            model: a BEVFormer.
            batch: ``img`` (B, T, num_cams, 3, H, W), ``img_metas`` list[B] of list[T], and the rest.

        Returns:
            The batch with T = 1 and ``prev_bev`` (B, bev_h * bev_w, C), or None at T = 1.
        """
        img, metas = batch['img'], batch['img_metas']
        prev_bev = batch.get('prev_bev')
        if img.shape[1] > 1:
            prev_bev = model.history_bev(img[:, :-1], [queue[:-1] for queue in metas])
        return {
            **batch,
            'img': img[:, -1:],
            'img_metas': [queue[-1:] for queue in metas],
            'prev_bev': prev_bev,
        }

    def infer(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Raw predictions of the current frame: ``bev_embed``, ``all_cls_scores``, ``all_bbox_preds``."""
        return model.predict_raw(batch['img'], batch['img_metas'], batch['prev_bev'])

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv': each FPN level's output convolution; 'bev': the encoder's output; 'queries': (num_layers, B, Q, C)."""
        head = model.pts_bbox_head
        h, w = head.bev_h, head.bev_w
        levels = model.img_neck.fpn_convs
        return {
            'pv': [
                Tap(f'img_neck.fpn_convs.{i}.conv', channels=level.out_channels)
                for i, level in enumerate(levels)
            ],
            'bev': [
                Tap(
                    'pts_bbox_head.transformer.encoder',
                    read=partial(unflatten_bev, size=(h, w)),
                    channels=head.transformer.embed_dims,
                    size=(h, w),
                )
            ],
            'queries': [Tap('pts_bbox_head.transformer.decoder', read=itemgetter(0))],
        }

    def box_convention(self, model: nn.Module) -> str | None:
        """The convention of the head's box codes."""
        return model.pts_bbox_head.box_convention

    def grids(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        """The learned BEV queries and their row and column positions."""
        h, w = model.pts_bbox_head.bev_h, model.pts_bbox_head.bev_w
        return {
            'pts_bbox_head.bev_embedding.weight': (h, w),
            'pts_bbox_head.positional_encoding.row_embed.weight': (h,),
            'pts_bbox_head.positional_encoding.col_embed.weight': (w,),
        }


def unflatten_bev(bev: Any, size: tuple[int, int]) -> Tensor:
    """(B, H * W, C), rows first -> (B, C, H, W)."""
    b, cells, c = bev.shape
    if cells != size[0] * size[1]:
        raise ValueError(f'a BEV of {size[0]} x {size[1]} cells was expected, the encoder returned {cells}')
    return bev.transpose(1, 2).reshape(b, c, *size)
