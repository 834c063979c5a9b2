"""Decode the boxes of a set-prediction head, which needs no non-maximum suppression."""

import torch
from torch import Tensor

from projects.mmdet3d_plugin.box_codec import decode_boxes


class NMSFreeCoder:
    """Keep the best (query, class) pairs and decode their boxes.

    Args:
        box_convention: what the weights were trained to predict, see ``box_codec``.
        post_center_range: [x0, y0, z0, x1, y1, z1], metres; boxes with centres outside are dropped.
        max_num: boxes kept at the most.
        score_threshold: least score of a box.
    """

    def __init__(
        self,
        box_convention: str,
        post_center_range: list[float],
        max_num: int = 300,
        score_threshold: float = 0.0,
    ) -> None:
        self.box_convention, self.post_center_range = box_convention, post_center_range
        self.max_num, self.score_threshold = max_num, score_threshold

    def decode(self, cls_scores: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Decode one sample.

        Args:
            cls_scores: (Q, num_classes), logits.
            codes: (Q, 10), with centres in metres.

        Returns:
            (n, 9) boxes (x, y, z, l, w, h, yaw, vx, vy) with gravity centres in metres, (n,) scores, best first,
            and (n,) labels.
        """
        return self.decode_batch(cls_scores[None], codes[None])[:3]

    def decode_batch(self, cls_scores: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode B samples: (B, Q, num_classes) and (B, Q, 10) -> what :meth:`decode` gives, of one sample after the
        other, and (n,) the sample of each box."""
        num_classes = cls_scores.shape[-1]
        scores = cls_scores.float().sigmoid().flatten(1)
        if not torch.onnx.is_in_onnx_export() and not (scores.isfinite().all() and codes.isfinite().all()):
            raise FloatingPointError(
                'the detector gives scores or boxes that are not finite: its weights or its images are damaged, or it has '
                'diverged; take an earlier checkpoint'
            )
        scores, index = scores.topk(min(self.max_num, scores.shape[1]))
        query = (index // num_classes)[..., None].expand(-1, -1, codes.shape[-1])
        boxes = decode_boxes(codes.float().gather(1, query), self.box_convention)
        low, high = boxes.new_tensor(self.post_center_range).view(2, 3)
        keep = ((boxes[..., :3] >= low) & (boxes[..., :3] <= high)).all(-1) & (scores >= self.score_threshold)
        sample = torch.arange(scores.shape[0], device=scores.device)[:, None].expand_as(scores)
        return boxes[keep], scores[keep], (index % num_classes)[keep], sample[keep]
