"""COCO's average precision of 2D boxes, unrounded, with pycocotools (Lin et al., 2014)."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval

_IOUS = {'mAP': slice(None), 'mAP_50': slice(0, 1), 'mAP_75': slice(5, 6)}  # of 0.50, 0.55, ..., 0.95
_AREAS = {'mAP_s': 1, 'mAP_m': 2, 'mAP_l': 3}  # below 32^2 pixels, below 96^2, above; 0 is all


def metric_names(classes: Sequence[str]) -> list[str]:
    """Names of what :func:`evaluate_coco` may give.

    Example:
        >>> metric_names(['car'])
        ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AP/car']
    """
    return [*_IOUS, *_AREAS, *(f'AP/{name}' for name in classes)]


def evaluate_coco(
    truth: COCO, detections: Sequence[dict[str, Any]], category_ids: Sequence[int], classes: Sequence[str]
) -> dict[str, float]:
    """Average precision over the IoUs 0.50, 0.55, ..., 0.95, with at most 100 boxes per image.

    Args:
        truth: the annotations; what is ``iscrowd`` counts neither as found nor as missed.
        detections: rows of a result file: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) in pixels and
            ``score``.
        category_ids: of the classes.
        classes: their names.

    Returns:
        Fractions by :func:`metric_names`; what has no object in the ground truth is left out.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
        study = COCOeval(truth, _as_coco(truth, detections), 'bbox')
        study.params.catIds, study.params.imgIds = list(category_ids), sorted(truth.imgs)
        study.evaluate()
        study.accumulate()
    precision = study.eval['precision'][..., -1]  # (IoU, recall, class, area)
    values = {name: _mean(precision[ious, :, :, 0]) for name, ious in _IOUS.items()}
    values |= {name: _mean(precision[..., area]) for name, area in _AREAS.items()}
    values |= {f'AP/{name}': _mean(precision[:, :, i, 0]) for i, name in enumerate(classes)}
    return {name: value for name, value in values.items() if value is not None}


def _mean(precision: np.ndarray) -> float | None:
    """Mean of what is defined; pycocotools says -1 where there is no object."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None


def _as_coco(truth: COCO, detections: Sequence[dict[str, Any]]) -> COCO:
    """Detections as pycocotools wants them; its own ``loadRes`` fails where there are none."""
    if detections:
        return truth.loadRes(list(detections))
    empty = COCO()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
