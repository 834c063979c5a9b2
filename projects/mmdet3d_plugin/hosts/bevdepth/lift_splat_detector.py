"""What the detectors of the LSS family share: key frames, memory, the loss of depth, and frames of reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet3d.models.detectors.base import Base3DDetector
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.geometry import transform_boxes
from projects.mmdet3d_plugin.common.models import evaluating
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import FRAMES, CameraMatrices, lidar_to_ego
from projects.mmdet3d_plugin.hosts.bevdepth.depth_target import depth_labels, depth_loss, nearest_depth
from projects.mmdet3d_plugin.hosts.bevdepth.lift_memory import EarlierFrame, LiftMemory
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted, LiftSplat

Metas = Sequence[dict[str, Any]]


class LiftSplatDetector(Base3DDetector):
    """Camera detector whose depth distribution learns from LiDAR; one key frame, or several.

    Earlier key frames are lifted without gradient and pooled straight into the present BEV frame; the head sees the
    maps of all frames side by side, the present one first. Before a scene's start the earliest frame stands in. A
    subclass has a ``lift_splat``, a centre head ``head``, and says how images are lifted, pooled and read.

    Args:
        num_frames: key frames that the head is made for.
        frame: 'lidar', in which everything in this project lives, or 'ego', in which published weights of BEVDepth live:
            ground truth and detections are converted at the door.
        depth_weight: factor of the depth loss; 0 trains without LiDAR.
        centred_depth: see :func:`depth_labels`.
        init_cfg: initialisation, see mmcv.
    """

    head: nn.Module
    lift_splat: LiftSplat

    def __init__(
        self,
        num_frames: int = 1,
        frame: str = 'lidar',
        depth_weight: float = 3.0,
        centred_depth: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if frame not in FRAMES:
            raise UserError(f'model.frame must be one of {", ".join(FRAMES)}, got {frame!r}')
        self.num_frames, self.frame = num_frames, frame
        self.depth_weight, self.centred_depth = depth_weight, centred_depth

    def lift(self, img: Tensor, present: CameraMatrices) -> Lifted:
        """Depth and context of one frame's images (B, N, 3, H, W), seen by cameras as the present frame's stand."""
        raise NotImplementedError(f'{type(self).__name__}: implement lift()')

    def _lifted(self, img: Tensor, present: CameraMatrices) -> Lifted:
        """:meth:`lift` of as many images as there are cameras."""
        cameras = present.cam2frame.shape[1]
        if img.shape[1] != cameras:
            raise UserError(f'a sample has {img.shape[1]} images, but the calibration of {cameras} cameras')
        return self.lift(img, present)

    def pool(self, lifted: Lifted, matrices: CameraMatrices) -> Tensor:
        """BEV map (B, C, H, W) of a lifted frame, in the BEV frame that its matrices lead to."""
        raise NotImplementedError(f'{type(self).__name__}: implement pool()')

    def read(self, bev: Tensor) -> Any:
        """Maps of all frames (B, num_frames * C, H, W) -> what the centre head returns."""
        raise NotImplementedError(f'{type(self).__name__}: implement read()')

    def matrices(self, metas: Metas, present: Metas | None = None) -> CameraMatrices:
        """Camera matrices of B frames, towards the BEV frame of the present ones."""
        return CameraMatrices.of(metas, present, self.frame)

    def extract_feat(self, img: Tensor, metas: Metas) -> tuple[Tensor, Tensor]:
        """Present images (B, N, 3, H, W) -> BEV map (B, C, H, W) and depth (B * N, D, h, w)."""
        now = self.matrices(metas)
        lifted = self._lifted(img, now)
        return self.pool(lifted, now), lifted.depth

    @torch.no_grad()
    def history_bev(self, img: Tensor, img_metas: Sequence[Metas], present: Metas) -> Tensor | None:
        """BEV maps of the frames before the present one, in its BEV frame.

        Runs in ``eval()`` whatever the present mode, and leaves every module in the mode it was in. (The original runs
        earlier frames in train mode, where batch norms count them a second time.)

        Args:
            img: (B, T - 1, N, 3, H, W), oldest first.
            img_metas: B lists of T - 1 dicts.
            present: B dicts.

        Returns:
            (B, (num_frames - 1) * C, H, W), newest first; None where there is no earlier frame.
        """
        if self.num_frames == 1 or img.shape[1] == 0:
            return None
        now, maps = self.matrices(present), []
        with evaluating(self):
            for t in reversed(range(img.shape[1])):
                metas = [queue[t] for queue in img_metas]
                lifted = self._lifted(img[:, t], now)
                maps.append(self.pool(lifted, self.matrices(metas, present)))
        return self._filled(maps)

    def _filled(self, maps: list[Tensor]) -> Tensor:
        """As many earlier maps (B, C, H, W) as the head wants, newest first; the oldest stands in for what lacks."""
        wanted = self.num_frames - 1
        maps = (maps + [maps[-1]] * wanted)[:wanted]
        return torch.cat(maps, 1)

    def predict_raw(
        self, img: Tensor, img_metas: Sequence[Metas], history: Tensor | None = None
    ) -> dict[str, Any]:
        """Raw outputs for the last frame of a queue.

        Args:
            img: (B, T, N, 3, H, W).
            img_metas: B lists of T dicts.
            history: what :meth:`history_bev` gave; computed from the queue if None.

        Returns:
            ``heads``, per task a list of one dict, and ``depth`` (B * N, D, h, w).
        """
        present = [queue[-1] for queue in img_metas]
        if history is None:
            history = self.history_bev(img[:, :-1], [queue[:-1] for queue in img_metas], present)
        bev, depth = self.extract_feat(img[:, -1], present)
        return dict(heads=self.read(self._joined(bev, history)), depth=depth)

    def _joined(self, bev: Tensor, history: Tensor | None) -> Tensor:
        """Present map (B, C, H, W) and earlier ones, for which it stands in where there are none."""
        if self.num_frames == 1:
            return bev
        return torch.cat([bev, self._filled([bev.detach()]) if history is None else history], 1)

    def forward_train(
        self,
        img: Tensor,
        img_metas: Sequence[Metas],
        gt_bboxes_3d: Sequence[Any],
        gt_labels_3d: Sequence[Tensor],
        points: Sequence[Tensor] | None = None,
        history: Tensor | None = None,
        **_: Any,
    ) -> dict[str, Tensor]:
        """Losses of the last frame.

        Args:
            img: (B, T, N, 3, H, W).
            img_metas: B lists of T dicts.
            gt_bboxes_3d: B ``LiDARInstance3DBoxes`` (n, 9).
            gt_labels_3d: B of (n,).
            points: B clouds (n, 3+) of the present frame, LiDAR frame, metres.
            history: see :meth:`predict_raw`.

        Returns:
            Heatmap and box losses of every task, ``loss_depth``, and ``depth_labelled``, the share of the image features'
            cells that have a depth to learn: near 0 where points and calibration do not fit each other.

        Raises:
            UserError: the batch has no points, and the depth loss counts.
        """
        outs = self.predict_raw(img, img_metas, history)
        present = [queue[-1] for queue in img_metas]
        losses = self.head.loss(self.to_bev_frame(gt_bboxes_3d, present), gt_labels_3d, outs['heads'])
        if self.depth_weight:
            labels = self.depth_labels(points, present, outs['depth'].device)
            losses['loss_depth'] = self.depth_weight * depth_loss(outs['depth'], labels)
            losses['depth_labelled'] = (labels >= 0).float().mean()
        return losses

    def depth_labels(
        self, points: Sequence[Tensor] | None, metas: Metas, device: torch.device | None = None
    ) -> Tensor:
        """Bins (B * N, h, w) that B clouds (n, 3+) say, -1 where they say nothing."""
        if points is None:
            raise UserError(
                'the batch has no points, from which depth is learnt: put LoadPoints into the training pipeline '
                '(lifting_pipelines of projects/configs/_base_/camera.py), or set model.depth_weight=0'
            )
        lift = self.lift_splat
        lidar2img = torch.from_numpy(np.stack([meta['lidar2img'] for meta in metas])).to(device)
        nearest = nearest_depth(points, lidar2img, lift.image_size, lift.stride)
        return depth_labels(nearest, lift, self.centred_depth)

    def to_bev_frame(self, boxes: Sequence[Any], metas: Metas) -> list[Any]:
        """B ``LiDARInstance3DBoxes`` (n, 9) of the LiDAR frame in the frame of the BEV map."""
        if self.frame == 'lidar':
            return list(boxes)
        pairs = zip(boxes, metas, strict=True)
        return [_moved(item, lidar_to_ego(meta), type(item)) for item, meta in pairs]

    def new_memory(self) -> LiftMemory | None:
        """An empty memory, to be passed to :meth:`forward_test` frame after frame; None for a model of one frame."""
        return LiftMemory(self.num_frames - 1) if self.num_frames > 1 else None

    def forward_test(
        self, img: Tensor, img_metas: Sequence[Metas], memory: LiftMemory | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """Detect objects in one frame of each stream.

        Args:
            img: (B, T, N, 3, H, W); with T > 1 the earlier frames serve as history.
            img_metas: B lists of T dicts.
            memory: what was remembered of the streams; without one, the frame stands alone.

        Returns:
            Per sample ``boxes_3d`` (``LiDARInstance3DBoxes``, (n, 9)), ``scores_3d`` (n,), ``labels_3d`` (n,).
        """
        present = [queue[-1] for queue in img_metas]
        if memory is None or img.shape[1] > 1:
            outs = self.predict_raw(img, img_metas)['heads']
        else:
            now = self.matrices(present)
            lifted = self._lifted(img[:, -1], now)
            bev = self.pool(lifted, now)
            history = self._remembered(bev, memory.recall(present), present)
            memory.store(lifted, present)
            outs = self.read(self._joined(bev, history))
        found = self.get_bboxes(outs, present)
        return [
            dict(boxes_3d=boxes.to('cpu'), scores_3d=scores.cpu(), labels_3d=labels.cpu())
            for boxes, scores, labels in found
        ]

    def _remembered(self, bev: Tensor, frames: Sequence[EarlierFrame], present: Metas) -> Tensor | None:
        """Maps of remembered frames, as :meth:`history_bev`; each sample's oldest stands in for what it lacks."""
        maps = [bev]
        for frame in frames:
            pooled = self.pool(frame.lifted, self.matrices(frame.metas, present))
            maps.append(torch.where(frame.continued[:, None, None, None], pooled, maps[-1]))
        return self._filled(maps[1:]) if frames else None

    def get_bboxes(self, heads: Any, metas: Metas) -> list[tuple[Any, Tensor, Tensor]]:
        """Final boxes (n, 9) in the LiDAR frame, scores (n,) and labels (n,) of each sample."""
        found = self.head.get_bboxes(heads, list(metas))
        if self.frame == 'lidar':
            return [(boxes, scores, labels.long()) for boxes, scores, labels in found]
        return [
            (_moved(boxes, np.linalg.inv(lidar_to_ego(meta)), meta['box_type_3d']), scores, labels.long())
            for (boxes, scores, labels), meta in zip(found, metas, strict=True)
        ]

    def simple_test(self, img: Tensor, img_metas: Sequence[Metas], **kwargs: Any) -> list[dict[str, Any]]:
        """mmdet's name for :meth:`forward_test`."""
        return self.forward_test(img, img_metas, **kwargs)

    def aug_test(self, *_: Any, **__: Any) -> None:
        """Test-time augmentation is not offered."""
        raise NotImplementedError(
            f'{type(self).__name__} has no test-time augmentation here: use a test pipeline with one view.'
        )


def _moved(boxes: Any, matrix: np.ndarray, kind: type) -> Any:
    """Boxes (n, 9) of mmdet3d in another frame."""
    gravity = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], 1)
    moved = transform_boxes(gravity.double(), torch.from_numpy(matrix).to(gravity.device)).to(gravity.dtype)
    return kind(moved, box_dim=moved.shape[1], origin=(0.5, 0.5, 0.5))
