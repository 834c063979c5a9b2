"""What the distiller knows about mmdet's detectors of 2D boxes."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from mmcv import Config
from mmdet.models.detectors import DETR
from mmdet.models.roi_heads import BBoxHead
from torch import Tensor, nn

from projects.mmdet3d_plugin.datasets.blank_batch import blank_image
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections, HostAdapter
from projects.mmdet3d_plugin.distill.registry import ADAPTERS
from projects.mmdet3d_plugin.distill.taps import Tap


class MMDet2DAdapter(HostAdapter):
    """Detectors of mmdet that see single images: ``pv`` is one (B, C, h, w) per level of the neck.

    Boxes are (n, 4), left, top, right, bottom, in pixels of the detector's input image; so are those of the ground truth
    (``gt_bboxes``, list of B).
    """

    shape_only = ('backbone', 'neck')

    def present(self, model: nn.Module, batch: Batch) -> Batch:
        """Note the size of the padded batch in its metas, as mmdet's detectors do before they run."""
        size = tuple(batch['img'].shape[-2:])
        metas = [{**meta, 'batch_input_shape': size} for meta in batch['img_metas']]
        return {**batch, 'img_metas': metas}

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv', see the class; none for a detector without a neck, whose modules are tapped by their paths."""
        neck = getattr(model, 'neck', None)
        channels = [] if neck is None else level_channels(neck)
        taps = [
            Tap('neck', convert=itemgetter(level), channels=width, level=level)
            for level, width in enumerate(channels)
        ]
        return {'pv': taps} if taps else {}

    def blank_batch(self, cfg: Config, cloud: str | None = None) -> Batch:
        """One black image, ``img`` (1, 3, H, W), as the config's test pipeline makes it of one of 1280x800 pixels."""
        return blank_image(cfg)

    def predict(self, model: nn.Module, batch: Batch, memory: Any = None) -> list[Any]:
        """Final boxes: per sample and class an array (n, 5) of boxes and scores."""
        return model(return_loss=False, rescale=True, img=[batch['img']], img_metas=[batch['img_metas']])

    def detections(self, found: Sequence[tuple[Tensor, Tensor]]) -> list[Detections]:
        """mmdet's pairs of (n, 5) boxes with scores and (n,) labels."""
        return [Detections(boxes[:, :4], boxes[:, 4], labels) for boxes, labels in found]


@ADAPTERS.register_module(name='SingleStageDetector')
class SingleStageAdapter(MMDet2DAdapter):
    """Single-stage detectors such as RetinaNet, FCOS and GFL.

    ``logits`` is the head's class scores before the sigmoid, one (B, A * K, h, w) per level: A anchors, K classes.
    """

    head = 'bbox_head'

    def infer(self, model: nn.Module, batch: Batch) -> tuple[list[Tensor], ...]:
        """What the head returns: lists over levels, class scores first."""
        features = model.extract_feat(batch['img'])
        return model.bbox_head(features, *([batch['img_metas']] if isinstance(model, DETR) else []))

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Boxes after the host's own threshold and non-maximum suppression."""
        predictions = self.infer(model, batch) if predictions is None else predictions
        return self.detections(
            model.bbox_head.get_bboxes(*predictions, img_metas=batch['img_metas'], rescale=False)
        )

    def aliases(self, model: nn.Module) -> dict[str, list[Tap]]:
        """'pv' and 'logits', see the classes."""
        found = super().aliases(model)
        levels = range(len(found.get('pv', ())))
        channels = getattr(model.bbox_head, 'cls_out_channels', None)
        if channels is not None:
            channels *= getattr(model.bbox_head, 'num_base_priors', 1)
        logits = [Tap('bbox_head', ScoresOf(level), channels, level=level) for level in levels]
        return found | ({'logits': logits} if logits else {})


class ScoresOf:
    """Class scores (B, A * K, h, w) of one level of what a dense head returns.

    Args:
        level: which.
    """

    def __init__(self, level: int) -> None:
        self.level = level

    def __call__(self, outputs: Sequence[Sequence[Tensor]]) -> Tensor:
        """The first of the lists over levels holds class scores."""
        return outputs[0][self.level]


@ADAPTERS.register_module(name='TwoStageDetector')
class TwoStageAdapter(MMDet2DAdapter):
    """Two-stage detectors such as Faster R-CNN.

    As a teacher they stop after their region proposals' scores, and go on when boxes are asked for.
    """

    head = 'roi_head'

    def infer(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """``features``, a tuple over levels of (B, C, h, w), and ``rpn``, what the proposal network returns."""
        features = model.extract_feat(batch['img'])
        return {'features': features, 'rpn': model.rpn_head(features)}

    def detect(self, model: nn.Module, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Boxes of the second stage after its threshold and non-maximum suppression."""
        predictions = self.infer(model, batch) if predictions is None else predictions
        metas = batch['img_metas']
        proposals = model.rpn_head.get_bboxes(*predictions['rpn'], img_metas=metas)
        features = predictions['features']
        results = model.roi_head.simple_test(features, proposals, metas, rescale=False)
        return self.detections([joined_classes(result, features[0].device) for result in results])

    def cost_parts(self, model: nn.Module) -> dict[str, str]:
        """Backbone, neck and both stages; mmdet runs the second by its inner head."""
        parts = super().cost_parts(model)
        inner = isinstance(getattr(model.roi_head, 'bbox_head', None), BBoxHead)
        return parts | ({'roi_head': 'roi_head.bbox_head'} if inner else {})

    def run_for_cost(self, model: nn.Module, batch: Batch) -> Any:
        """Both stages, with as many proposals as testing keeps at most, wherever they lie."""
        predictions = self.infer(model, batch)
        features = predictions['features']
        return model.roi_head.forward_dummy(
            features, features[0].new_zeros(model.test_cfg.rpn.max_per_img, 4)
        )


def joined_classes(result: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """mmdet's final result of an image, arrays (n, 5) by class: (m, 5) boxes with scores, and (m,) labels."""
    by_class = result[0] if isinstance(result, tuple) else result  # beside masks
    counts = torch.tensor([len(boxes) for boxes in by_class], device=device)
    labels = torch.repeat_interleave(torch.arange(len(by_class), device=device), counts)
    return torch.as_tensor(np.concatenate(by_class), device=device), labels


def level_channels(neck: nn.Module) -> list[int]:
    """Channels of every level that a neck returns; [] where its class does not say."""
    channels = getattr(neck, 'out_channels', None)
    if isinstance(channels, int):
        return [channels] * getattr(neck, 'num_outs', 0)
    return list(channels) if isinstance(channels, list | tuple) else []
