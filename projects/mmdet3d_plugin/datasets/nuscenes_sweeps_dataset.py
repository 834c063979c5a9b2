"""nuScenes as single point clouds, each joined with the sweeps before it: what LiDAR detectors train on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets.builder import DATASETS
from mmdet3d.core.bbox import Box3DMode

from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.info_files import mined_boxes
from projects.mmdet3d_plugin.datasets.nuscenes_temporal_dataset import NuScenesTemporalDataset
from projects.mmdet3d_plugin.evaluation.nuscenes_predictions import NuScenesPredictions


@DATASETS.register_module()
class NuScenesSweepsDataset(NuScenesTemporalDataset):
    """One LiDAR keyframe per sample, on the info files of :class:`NuScenesTemporalDataset`.

    The pipeline is made of mmdet3d's transforms, from ``LoadPointsFromFile`` and ``LoadPointsFromMultiSweeps`` to
    ``Collect3D``. A collated training batch has ``points`` (list of (N_i, 5): x, y, z in metres, LiDAR frame,
    intensity, seconds since the sweep), ``img_metas`` (list of dict), ``gt_bboxes_3d`` and ``gt_labels_3d``.

    Args:
        data_root: folder in the layout of nuScenes.
        ann_file: info file, relative to ``data_root`` or absolute.
        pipeline: transforms of one point cloud.
        classes: names to detect, in the order of the labels.
        point_cloud_range: (x0, y0, z0, x1, y1, z1), metres, LiDAR frame.
        test_mode: samples in order, without ground truth and without chance.
        kwargs: the rest, as for :class:`NuScenesTemporalDataset`.
    """

    SENSOR = 'lidar'

    def get_frame(self, index: int) -> dict[str, Any]:
        """What mmdet3d's transforms start from."""
        frame = super().get_frame(index)
        images = dict.fromkeys(('img_fields', 'bbox_fields', 'mask_fields', 'seg_fields'), ())  # none to flip
        names = dict(sample_idx=frame['sample_token'], box_mode_3d=Box3DMode.LIDAR)
        return {**frame, **images, **names, **mined_boxes(self.infos[index])}

    def _predictions(self, results: Sequence[dict[str, Any]]) -> NuScenesPredictions:
        return super()._predictions(
            [result.get('pts_bbox', result) for result in results]
        )  # MVX names its branch

    def _queue(self, indices: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """Load the one frame of the queue; mmdet3d's transforms draw from global generators."""
        with drawn_from(int(rng.integers(2**32))):
            return self.pipeline(self.get_frame(indices[-1]))
