"""The last step of a pipeline."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.parallel import DataContainer
from mmdet.datasets.builder import PIPELINES

_META_KEYS = (
    'sample_token', 'scene_token', 'can_bus', 'cam2lidar', 'lidar2ego', 'ego2global', 'box_type_3d', 'pc_range',
)  # fmt: skip


@PIPELINES.register_module()
class FormatFrame:
    """Turn the views of a frame into tensors with metas, and keep only what a network takes.

    A view called '' gives ``img`` (num_cams, 3, H, W) and ``img_metas``, a view called 'teacher' gives
    ``teacher_img`` and ``teacher_img_metas``, a cloud of that name ``teacher_points``. Ground truth and points are kept where the pipeline loaded them.

    Args:
        keys: which of ``gt_bboxes_3d``, ``gt_labels_3d`` and ``points`` to keep; by default all that are there.
    """

    def __init__(self, keys: Sequence[str] = ('gt_bboxes_3d', 'gt_labels_3d', 'points')) -> None:
        self.keys = tuple(keys)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns a dict of DataContainers; arrays in the metas are copies."""
        if not results.get('views'):
            raise ValueError('the frame has no view: put an ImageView before FormatFrame')
        out: dict[str, Any] = {}
        for name, view in results['views'].items():
            prefix = f'{name}_' if name else ''
            out[f'{prefix}img'] = DataContainer(torch.from_numpy(view['img']), stack=True, pad_dims=None)
            out[f'{prefix}img_metas'] = DataContainer(_view_meta(results, name, view), cpu_only=True)
        for name, cloud in results.get('clouds', {}).items():
            out[f'{name}_points'] = _container('points', cloud)
        for key in self.keys:
            if key in results:
                out[key] = _container(key, results[key])
        return out

    def __repr__(self) -> str:
        return f'{type(self).__name__}(keys={self.keys})'


def _view_meta(results: dict[str, Any], name: str, view: dict[str, Any]) -> dict[str, Any]:
    meta = {key: copy.copy(results[key]) for key in _META_KEYS}
    cams = len(view['img'])
    if 'cam_names' in results:  # made-up frames of studies have none
        meta['cam_names'] = list(results['cam_names'])
    meta.update(
        {key: source[key].copy() for source, key in ((view, 'ida'), (results, 'bda')) if key in source}
    )
    meta.update(
        view=name or 'student',
        filename=list(results['img_filename']),
        lidar2img=view['lidar2img'].copy(),
        cam_intrinsic=view['cam_intrinsic'].copy(),
        img_shape=[(*view['img_shape'], 3)] * cams,
        pad_shape=[(*view['img_shape'], 3)] * cams,
        valid_shape=[(*shape, 3) for shape in view['valid_shape']],
    )
    return meta


def _container(key: str, value: Any) -> DataContainer:
    if key == 'gt_bboxes_3d':
        return DataContainer(value, cpu_only=True)
    if isinstance(value, np.ndarray):
        return DataContainer(torch.from_numpy(value))
    return DataContainer(getattr(value, 'tensor', value))
