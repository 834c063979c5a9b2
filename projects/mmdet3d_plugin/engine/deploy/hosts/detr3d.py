"""DETR3D: images and calibration in, boxes out; any number of frames at once."""

from typing import Any

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.engine.deploy.onnx_host import (
    ONNX_HOSTS,
    Batch,
    OnnxHost,
    camera_results,
    stacked,
)
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession


@ONNX_HOSTS.register_module(name='DETR3D')
class DETR3DOnnx(OnnxHost):
    """Frames stand alone, so that a batch may hold any number of them; ``frames`` says whose each box is."""

    outputs = (*OnnxHost.outputs, 'frames')
    axes = OnnxHost.axes | {'frames': {0: 'boxes'}, 'img': {0: 'batch'}, 'lidar2img': {0: 'batch'}}

    def example(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Two frames, since a traced batch of one would stay one."""
        metas = [batch['img_metas'][0][-1]] * 2
        img = batch['img'][:, -1].expand(2, -1, -1, -1, -1)
        return dict(img=img, lidar2img=torch.from_numpy(stacked(metas, 'lidar2img')))

    def compute(
        self, model: nn.Module, img: Tensor, lidar2img: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            model: the detector.
            img: (B, num_cams, 3, H, W), normalised and padded.
            lidar2img: (B, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded images.

        Returns:
            (n, 9) boxes x, y, z, l, w, h, yaw, vx, vy in the LiDAR frame with gravity centres, (n,) scores, best first
            in each frame, (n,) labels, and (n,) frames in [0, B), sorted.
        """
        head = model.pts_bbox_head
        height, width = img.shape[-2:]
        size = torch.tensor([[[width, height]]], dtype=img.dtype)
        found = head.transformer.refine(
            model.extract_feat(img), lidar2img, size, head.query_embedding.weight, head.reg_branches
        )
        outs = head.read_boxes(*found)
        return head.bbox_coder.decode_batch(outs['all_cls_scores'][-1], outs['all_bbox_preds'][-1])

    def detect(self, session: OnnxSession, batch: Batch, memory: None) -> list[dict[str, Any]]:
        """All frames at once; results as of :meth:`DETR3D.forward_test`."""
        metas = [queue[-1] for queue in batch['img_metas']]
        found = session(dict(img=batch['img'][:, -1].cpu().numpy(), lidar2img=stacked(metas, 'lidar2img')))
        return camera_results(found, found['frames'], metas)
