"""A dense head on the BEV feature: it tells every cell near an object what is there."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import bias_init_with_prob
from mmdet.models.losses import GaussianFocalLoss
from torch import Tensor, nn

from projects.mmdet3d_plugin.box_codec import CODE_SIZE, encode_boxes

LEAST_SIGMA = 0.7  # cells
REGRESSED = 0.3  # least value of the heatmap at which a cell is told about the box


class DenseBEVHead(nn.Module):
    """Heatmaps and boxes read off every BEV cell (as CenterPoint reads them), to teach short schedules.

    A set-prediction head teaches the BEV feature through few queries that first have to find their objects, and its
    loss is in metres. This one asks every cell near an object directly, in units near one: offsets in cells, velocity
    in units of ``velocity_scale``.

    Args:
        embed_dims: C.
        num_classes: classes.
        bev_shape: (H, W).
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
        velocity_scale: m/s that count as one.
        heatmap_weight: factor of the heatmap's loss.
        box_weight: factor of the boxes' loss.
    """

    def __init__(
        self,
        embed_dims: int,
        num_classes: int,
        bev_shape: tuple[int, int],
        pc_range: Sequence[float],
        velocity_scale: float = 5.0,
        heatmap_weight: float = 1.0,
        box_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.bev_shape, self.pc_range = num_classes, bev_shape, list(pc_range)
        self.velocity_scale, self.heatmap_weight, self.box_weight = velocity_scale, heatmap_weight, box_weight
        self.shared = nn.Sequential(nn.Conv2d(embed_dims, embed_dims, 3, padding=1), nn.ReLU(inplace=True))
        self.heatmap = nn.Conv2d(embed_dims, num_classes, 1)
        self.box = nn.Conv2d(embed_dims, CODE_SIZE, 1)
        self.loss_heatmap = GaussianFocalLoss()
        self.init_prior()

    def init_prior(self) -> None:
        """Class scores of 5 % everywhere: without, the many cells of nothing are all that the first steps learn."""
        nn.init.constant_(self.heatmap.bias, bias_init_with_prob(0.05))

    def forward(self, bev: Tensor) -> tuple[Tensor, Tensor]:
        """BEV feature (B, H * W, C) to heatmap logits (B, num_classes, H, W) and box codes (B, 10, H, W)."""
        shared = self.shared(bev.float().transpose(1, 2).unflatten(2, self.bev_shape))
        return self.heatmap(shared), self.box(shared)

    def loss(
        self, maps: tuple[Tensor, Tensor], gt_bboxes_3d: Sequence[Any], gt_labels_3d: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """How far the BEV feature is from saying what is there.

        Args:
            maps: what :meth:`forward` returns.
            gt_bboxes_3d: per sample, ``LiDARInstance3DBoxes`` (n, 9).
            gt_labels_3d: per sample, (n,).

        Returns:
            ``dense.loss_heatmap`` and ``dense.loss_box``.
        """
        logits, codes = maps
        pairs = zip(gt_bboxes_3d, gt_labels_3d, strict=True)
        heatmaps, targets, weights = map(
            torch.stack,
            zip(*(self.targets(boxes, labels, logits.device) for boxes, labels in pairs), strict=True),
        )
        peaks = (heatmaps == 1).sum().clamp(min=1)
        scores = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
        error = F.smooth_l1_loss(codes, targets, reduction='none').mean(1) * weights
        return {
            'dense.loss_heatmap': self.heatmap_weight * self.loss_heatmap(scores, heatmaps, avg_factor=peaks),
            'dense.loss_box': self.box_weight * error.sum() / weights.sum().clamp(min=1),
        }

    @torch.no_grad()
    def targets(self, boxes: Any, labels: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What the cells of one sample should say; boxes outside the map are left out.

        Args:
            boxes: ``LiDARInstance3DBoxes`` (n, 9).
            labels: (n,).
            device: where the targets are wanted.

        Returns:
            Heatmap (num_classes, H, W), codes (10, H, W) of the box that is nearest by the heatmap, with the centre
            relative to the cell in cells, and weights (H, W) of the codes. A code that is not known is not asked for:
            its box weighs nothing.
        """
        (h, w), (x0, y0, _, x1, y1, _) = self.bev_shape, self.pc_range
        gravity = torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], 1).to(device).float()
        cell = gravity.new_tensor([(x1 - x0) / w, (y1 - y0) / h])
        place = (gravity[:, :2] - gravity.new_tensor([x0, y0])) / cell  # (x, y) in cells, from the corner
        inside = ((place >= 0) & (place < place.new_tensor([w, h]))).all(1)
        gravity, place, labels = gravity[inside], place[inside], labels.to(device)[inside]
        heatmap = gravity.new_zeros(self.num_classes, h, w)
        if not len(gravity):
            return heatmap, gravity.new_zeros(CODE_SIZE, h, w), gravity.new_zeros(h, w)
        grid_y, grid_x = torch.meshgrid(
            torch.arange(h, device=device), torch.arange(w, device=device), indexing='ij'
        )
        centre = place.floor()[:, :, None, None]
        distance = (grid_x - centre[:, 0]) ** 2 + (grid_y - centre[:, 1]) ** 2  # (n, H, W), cells squared
        sigma = (gravity[:, 3:5].amax(1) / cell.mean() / 4).clamp(min=LEAST_SIGMA)
        near = torch.exp(-distance / (2 * sigma**2)[:, None, None])
        for label, peak in zip(labels.tolist(), near, strict=True):
            heatmap[label] = torch.maximum(heatmap[label], peak)
        best, owner = near.max(0)
        codes = encode_boxes(gravity, 'v1.0')
        known = codes.isfinite().all(1)
        codes = codes.nan_to_num(0.0)
        codes[:, 8:] /= self.velocity_scale
        codes = codes[owner].permute(2, 0, 1).contiguous()
        codes[0] = place[owner][..., 0] - grid_x - 0.5
        codes[1] = place[owner][..., 1] - grid_y - 0.5
        return heatmap, codes, best * (best >= REGRESSED) * known[owner]
