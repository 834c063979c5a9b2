"""BEVFormer as a graph: images, calibration and the previous BEV feature in, boxes and the present one out."""

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.bevformer import BEVFormer
from projects.mmdet3d_plugin.hosts.bevformer.perception_transformer import Rig
from projects.mmdet3d_plugin.hosts.onnx_graphs import ONNX_GRAPHS


@ONNX_GRAPHS.register_module(name='BEVFormer')
class BEVFormerGraph(nn.Module):
    """One frame of one stream, without metas.

    Args:
        detector: a trained detector, in ``eval()``.
        img_shape: (H, W) of the padded images, which a graph fixes.
    """

    INPUTS = ('img', 'lidar2img', 'can_bus', 'prev_bev', 'prev_exists')
    OUTPUTS = ('boxes', 'scores', 'labels', 'bev')
    FOUND = OUTPUTS[:3]
    """Outputs of one row per box that was found."""

    def __init__(self, detector: BEVFormer, img_shape: tuple[int, int]) -> None:
        super().__init__()
        self.detector, self.img_shape = detector, img_shape

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of the right shapes, zeros mostly."""
        head = self.detector.pts_bbox_head
        transformer = head.transformer
        num_cams = transformer.num_cams
        return (
            torch.zeros(1, num_cams, 3, *self.img_shape),
            torch.eye(4).expand(1, num_cams, 4, 4).clone(),
            torch.zeros(1, 18),
            torch.zeros(1, head.bev_h * head.bev_w, transformer.embed_dims),
            torch.zeros(1, dtype=torch.bool),
        )

    def forward(
        self, img: Tensor, lidar2img: Tensor, can_bus: Tensor, prev_bev: Tensor, prev_exists: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            img: (1, num_cams, 3, H, W), normalised and padded.
            lidar2img: (1, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded images.
            can_bus: (1, 18), see the dataset.
            prev_bev: (1, H * W, C), ``bev`` of the frame before; not looked at where there is none.
            prev_exists: (1,), bool.

        Returns:
            (n, 9) boxes x, y, z, l, w, h, yaw, vx, vy in the LiDAR frame with gravity centres, (n,) scores, best first,
            (n,) labels, and (1, H * W, C) the BEV feature.
        """
        head = self.detector.pts_bbox_head
        height, width = self.img_shape
        size = img.new_tensor([width, height]).expand(1, img.shape[1], 2)
        feats = self.detector.extract_feat(img)
        bev = head.encode_rig(feats, Rig(lidar2img, size, can_bus, prev_exists), prev_bev)
        ((boxes, scores, labels),) = head.get_bboxes(head.decode(bev))
        return boxes, scores, labels, bev
