"""BEVFormer: Learning Bird's-Eye-View Representation from Multi-Camera Images (ECCV 2022)."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from mmdet.models import DETECTORS
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import evaluating
from projects.mmdet3d_plugin.hosts.bevformer.bev_memory import BEVMemory
from projects.mmdet3d_plugin.hosts.bevformer.dense_bev_head import DenseBEVHead
from projects.mmdet3d_plugin.hosts.bevformer.published_weights import config_hint
from projects.mmdet3d_plugin.hosts.detr.camera_detector import CameraDetector


@DETECTORS.register_module()
class BEVFormer(CameraDetector):
    """Camera detector with a temporal BEV feature.

    Args:
        dense_head: arguments of :class:`DenseBEVHead`, which teaches the BEV feature directly while training. It exists
            from :meth:`init_weights` on: a model that is built to be tested, counted or frozen has none.
        **detector: arguments of :class:`CameraDetector`; its head is a :class:`BEVFormerHead`.

    Raises:
        ValueError: the head's transformer has no encoder.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'dense_head': DenseBEVHead}

    def __init__(self, dense_head: dict[str, Any] | None = None, **detector: Any) -> None:
        super().__init__(**detector)
        if self.pts_bbox_head.transformer.encoder is None:
            raise ValueError(
                'BEVFormer: its head needs a transformer with an encoder, which makes the BEV feature.'
            )
        self._dense_head_cfg = dense_head
        self.dense_head: DenseBEVHead | None = None

    def init_weights(self) -> None:
        """Initialise everything, and make what only training needs."""
        super().init_weights()
        if self._dense_head_cfg is not None:
            head = self.pts_bbox_head
            self.dense_head = DenseBEVHead(
                head.transformer.embed_dims,
                head.num_classes,
                head.bev_shape,
                head.pc_range,
                **self._dense_head_cfg,
            )

    def weights_hint(self, state: Mapping[str, Tensor]) -> str:
        """Which config weights that do not fit belong to, for the message; '' when that is not known."""
        return config_hint(state)

    @torch.no_grad()
    def history_bev(self, img: Tensor, img_metas: list[list[dict]]) -> Tensor | None:
        """BEV feature of the frame before the present one.

        Runs in ``eval()`` whatever the present mode, and leaves every module in the mode it was in.

        Args:
            img: (B, T - 1, num_cams, 3, H, W), oldest first.
            img_metas: B lists of T - 1 dicts.

        Returns:
            (B, bev_h * bev_w, C), or None without a history.

        Raises:
            UserError: the world was augmented, and ``can_bus`` tells the motion in the world as it was.
        """
        if img.shape[1] == 0:
            return None
        if any('bda' in meta for queue in img_metas for meta in queue):
            raise UserError(
                'BEVFormer with a history cannot see a world that BEVAugmentation has turned: leave that step out of the '
                'pipeline, or give data.train.queue_length=1'
            )
        with evaluating(self):
            feats = self.extract_feat(img.flatten(0, 1))
            feats = [feat.unflatten(0, img.shape[:2]) for feat in feats]
            bev = None
            for t in range(img.shape[1]):
                frame = [feat[:, t] for feat in feats]
                bev = self.pts_bbox_head.encode(frame, [metas[t] for metas in img_metas], bev)
        return bev

    def predict_raw(
        self,
        img: Tensor,
        img_metas: list[list[dict]],
        prev_bev: Tensor | None = None,
        prev_exists: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Raw head outputs of the last frame of a queue.

        Args:
            img: (B, T, num_cams, 3, H, W).
            img_metas: B lists of T dicts.
            prev_bev: (B, bev_h * bev_w, C) of the frame before; computed from the queue if not given.
            prev_exists: (B,), bool; by default what the metas say.

        Returns:
            See :meth:`BEVFormerHead.decode`.
        """
        if prev_bev is None and img.shape[1] > 1:
            prev_bev = self.history_bev(img[:, :-1], [metas[:-1] for metas in img_metas])
        feats = self.extract_feat(img[:, -1])
        return self.pts_bbox_head(feats, [metas[-1] for metas in img_metas], prev_bev, prev_exists)

    def forward_train(
        self,
        img: Tensor,
        img_metas: list[list[dict]],
        gt_bboxes_3d: list[Any],
        gt_labels_3d: list[Tensor],
        prev_bev: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Tensor]:
        """Detection losses of the last frame; arguments as in :meth:`predict_raw` and ``BEVFormerHead.loss``."""
        outs = self.predict_raw(img, img_metas, prev_bev)
        losses = self.pts_bbox_head.loss(gt_bboxes_3d, gt_labels_3d, outs)
        if self.dense_head is not None:
            losses |= self.dense_head.loss(self.dense_head(outs['bev_embed']), gt_bboxes_3d, gt_labels_3d)
        return losses

    def new_memory(self) -> BEVMemory:
        """An empty memory, to be passed to :meth:`forward_test` frame after frame."""
        return BEVMemory()

    def forward_test(
        self, img: Tensor, img_metas: list[list[dict]], memory: BEVMemory | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """Detect objects in one frame of each stream.

        Args:
            img: (B, T, num_cams, 3, H, W); with T > 1 the earlier frames serve as history.
            img_metas: B lists of T dicts.
            memory: what was remembered of the streams; without one, the frame stands alone.

        Returns:
            Per sample ``boxes_3d`` (``LiDARInstance3DBoxes``, (n, 9)), ``scores_3d`` (n,), ``labels_3d`` (n,).
        """
        present = [metas[-1] for metas in img_metas]
        prev_bev, prev_exists = memory.recall(present) if memory is not None else (None, None)
        outs = self.predict_raw(img, img_metas, prev_bev, prev_exists)
        if memory is not None:
            memory.store(outs['bev_embed'], present)
        return self.results(outs, present)
