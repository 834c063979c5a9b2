"""nuScenes' own evaluation, which holds an object per box: slow, and what ours is measured against."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

from nuscenes import NuScenes
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    load_gt_of_sample_tokens,
    load_prediction_of_sample_tokens,
)
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.evaluation.nuscenes_detection import Summary, detection_config


def score_with_devkit(
    result_path: Path, data_root: Path, version: str, split: str, tokens: list[str]
) -> Summary:
    """Score a submission file.

    Args:
        result_path: the file.
        data_root: folder in the layout of nuScenes.
        version: of the tables.
        split: that the samples belong to.
        tokens: samples to score; the file has boxes for each.

    Returns:
        What the devkit writes as ``metrics_summary.json``.

    Raises:
        UserError: the devkit refuses what it reads.
    """
    try:
        with _quiet():
            nusc = NuScenes(version=version, dataroot=str(data_root), verbose=False)
            metrics, _ = _TokenEval(nusc, result_path, split, tokens).evaluate()
    except AssertionError as error:
        raise UserError(f"nuScenes' devkit refuses the predictions or the tables: {error}") from error
    return metrics.serialize()


class _TokenEval(DetectionEval):
    """The devkit's evaluation on given samples; its own constructor insists on whole splits."""

    def __init__(self, nusc: NuScenes, result_path: Path, split: str, tokens: list[str]) -> None:
        self.nusc, self.cfg, self.eval_set, self.verbose = nusc, detection_config(), split, False
        predictions, self.meta = load_prediction_of_sample_tokens(
            str(result_path), self.cfg.max_boxes_per_sample, DetectionBox, tokens
        )
        truth = load_gt_of_sample_tokens(nusc, tokens, DetectionBox)
        self.pred_boxes, self.gt_boxes = self._in_range(predictions), self._in_range(truth)
        self.sample_tokens = self.gt_boxes.sample_tokens

    def _in_range(self, boxes: EvalBoxes) -> EvalBoxes:
        """The devkit's filter, which fails on no boxes at all: those of a network that found nothing."""
        if not boxes.all:
            return boxes
        return filter_eval_boxes(self.nusc, add_center_dist(self.nusc, boxes), self.cfg.class_range)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Swallow the devkit's prints and progress bars; exceptions pass."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
