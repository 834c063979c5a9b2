"""BEVFormer: images, calibration and the previous BEV feature in, boxes and the present one out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.engine.deploy.onnx_host import (
    ONNX_HOSTS,
    Batch,
    OnnxHost,
    stacked,
)
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession
from projects.mmdet3d_plugin.hosts.bevformer.bev_memory import BEVMemory
from projects.mmdet3d_plugin.hosts.bevformer.perception_transformer import Rig
from projects.mmdet3d_plugin.hosts.detr.camera_detector import to_result


@ONNX_HOSTS.register_module(name='BEVFormer')
class BEVFormerOnnx(OnnxHost):
    """One frame of one stream: a frame needs the one before it, so that there is nothing to put into a batch."""

    outputs = (*OnnxHost.outputs, 'bev')

    def example(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """A first frame."""
        head = model.pts_bbox_head
        previous = torch.zeros(1, head.bev_h * head.bev_w, head.transformer.embed_dims)
        inputs = dict(
            img=batch['img'][:, -1].numpy(),
            **_rig([batch['img_metas'][0][-1]]),
            prev_bev=previous.numpy(),
            prev_exists=np.array([False]),
        )
        return {name: torch.from_numpy(value) for name, value in inputs.items()}

    def compute(
        self,
        model: nn.Module,
        img: Tensor,
        lidar2img: Tensor,
        can_bus: Tensor,
        prev_bev: Tensor,
        prev_exists: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            model: the detector.
            img: (1, num_cams, 3, H, W), normalised and padded.
            lidar2img: (1, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded images.
            can_bus: (1, 18), see the dataset.
            prev_bev: (1, H * W, C), ``bev`` of the frame before; not looked at where there is none.
            prev_exists: (1,), bool.

        Returns:
            (n, 9) boxes x, y, z, l, w, h, yaw, vx, vy in the LiDAR frame with gravity centres, (n,) scores, best first,
            (n,) labels, and (1, H * W, C) the BEV feature.
        """
        head = model.pts_bbox_head
        height, width = img.shape[-2:]
        size = torch.tensor([width, height], dtype=img.dtype).expand(1, img.shape[1], 2)
        feats = model.extract_feat(img)
        bev = head.encode_rig(feats, Rig(lidar2img, size, can_bus, prev_exists), prev_bev)
        ((boxes, scores, labels),) = head.get_bboxes(head.decode(bev))
        return boxes, scores, labels, bev

    def new_memory(self, session: OnnxSession) -> BEVMemory:
        """That of the detector."""
        return BEVMemory()

    def detect(self, session: OnnxSession, batch: Batch, memory: BEVMemory | None) -> list[dict[str, Any]]:
        """Frame by frame; results as of :meth:`BEVFormer.forward_test`."""
        metas = [queue[-1] for queue in batch['img_metas']]
        previous, exists = memory.recall(metas) if memory is not None else (None, None)
        results, bevs = [], []
        for i, meta in enumerate(metas):
            known = previous is not None and bool(exists[i])
            feed = dict(img=batch['img'][i : i + 1, -1].cpu().numpy(), **_rig([meta]))
            feed['prev_bev'] = (
                previous[i : i + 1].numpy() if known else np.zeros(session.shapes['prev_bev'], np.float32)
            )
            found = session(feed | dict(prev_exists=np.array([known])))
            results.append(to_result(found['boxes'], found['scores'], found['labels'], meta))
            bevs.append(found['bev'])
        if memory is not None:
            memory.store(torch.cat(bevs), metas)
        return results


def _rig(metas: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """``lidar2img`` (B, num_cams, 4, 4) and ``can_bus`` (B, 18) of B frames."""
    return dict(lidar2img=stacked(metas, 'lidar2img'), can_bus=stacked(metas, 'can_bus'))
