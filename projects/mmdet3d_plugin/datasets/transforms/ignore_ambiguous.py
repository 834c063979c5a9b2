"""Hand doubtful boxes to the assigners, which then leave the anchors there out of the loss."""

from typing import Any

import torch
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.info_files import ambiguous_boxes

_STEPS = {'HF', 'VF', 'R', 'S', 'T'}


@PIPELINES.register_module()
class IgnoreAmbiguous:
    """Make ``gt_bboxes_ignore`` (m, 7) of a frame's ambiguous boxes, moved as the frame was; put it before the last but
    one transform, ``DefaultFormatBundle3D``, and name the key in ``Collect3D``.

    mmdet3d's flips and turns cannot carry a second set of boxes along: they would move the points twice. So what they
    have noted of themselves is done again here.

    Assigners regard these boxes where their ``ignore_iof_thr`` is above zero.
    """

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``gt_bboxes_ignore``."""
        boxes = results['box_type_3d'](torch.from_numpy(ambiguous_boxes(results).copy()))
        flow = results.get('transformation_3d_flow', [])
        if len(set(flow)) < len(flow) or not set(flow) <= _STEPS:
            raise UserError(
                f'IgnoreAmbiguous: the frame was moved by {"-".join(flow)}, which cannot be done again: flip, turn and '
                'scale once at most'
            )
        for step in flow:
            self._move(boxes, step, results)
        results['gt_bboxes_ignore'] = boxes.tensor
        return results

    @staticmethod
    def _move(boxes: Any, step: str, results: dict[str, Any]) -> None:
        """One step of what happened to the points; a frame without objects was not turned, and says no angle."""
        if step in ('HF', 'VF'):
            boxes.flip('horizontal' if step == 'HF' else 'vertical')
        elif step == 'R' and 'pcd_rotation_angle' in results:
            boxes.rotate(results['pcd_rotation_angle'])
        elif step == 'S':
            boxes.scale(results['pcd_scale_factor'])
        elif step == 'T':
            boxes.translate(results['pcd_trans'])
