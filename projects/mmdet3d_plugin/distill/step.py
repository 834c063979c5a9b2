"""What one training step lets the terms see."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from projects.mmdet3d_plugin.distill.query_reading import QueryReading


@dataclass
class Step:
    """Everything a term, a region or a loss may look at. It lives for one training step.

    Args:
        batch: the student's batch of the current frame: ``img_metas``, ``gt_bboxes_3d``, ``gt_labels_3d``, ...
        student: what the taps of the student recorded, by module path.
        teacher: what the taps of the teacher recorded, by module path.
        predictions: the teacher's raw predictions, as its host returns them.
        epoch: epochs finished so far; 1.5 is the middle of the second.
        queries: what the distillation head read off the teacher's BEV feature, in recipes that have one.
        generated: student features (N, C, H, W) that terms generated anew, by the term's name, for later terms.
        cache: what several terms need alike, computed by the first of them.
    """

    batch: dict[str, Any]
    student: dict[str, Any]
    teacher: dict[str, Any]
    predictions: Any = None
    epoch: float = 0
    queries: QueryReading | None = None
    generated: dict[str, Tensor] = field(default_factory=dict)
    cache: dict[Hashable, Any] = field(default_factory=dict)
