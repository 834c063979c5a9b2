"""Paste objects of other frames where nothing is known to be."""

from typing import Any

import numpy as np
from mmdet.datasets.builder import PIPELINES
from mmdet3d.datasets.pipelines import ObjectSample

from projects.mmdet3d_plugin.datasets.info_files import mined_boxes


@PIPELINES.register_module()
class AvoidingObjectSample(ObjectSample):
    """mmdet3d's ``ObjectSample`` that also keeps clear of what was mined in a frame and of its ambiguous boxes.

    Args:
        **kwargs: as for ``ObjectSample``; its ``db_sampler`` must be an ``ObjectDatabase``.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Paste, with (n, 7) further boxes that must not be touched."""
        occupied = [np.asarray(boxes, np.float32) for boxes in mined_boxes(results).values()]
        with self.db_sampler.avoiding(np.concatenate(occupied) if occupied else np.zeros((0, 7), np.float32)):
            return super().__call__(results)
