"""The teacher's input as the released FocalDistiller makes it."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.datasets.builder import PIPELINES

from projects.mmdet3d_plugin.common.geometry import lidar_to_image


@PIPELINES.register_module()
class UpsampledView:
    """A view made by bilinear up-sampling of the main view, after its normalisation and padding.

    A switch for parity with the published recipe: detail that the main view has lost stays lost, and its
    normalisation is the student's. :class:`ImageView` gives a teacher the resolution it was trained on.

    Args:
        name: of the new view; its tensor (num_cams, 3, H, W) becomes ``{name}_img``.
        factor: on both sides.
        pad_divisor: sides are padded with zeros to multiples of this.
    """

    def __init__(self, name: str = 'teacher', factor: float = 2.0, pad_divisor: int = 32) -> None:
        if not name:
            raise ValueError(
                "UpsampledView needs a name such as 'teacher': '' is the main view it is made from"
            )
        self.name = name
        self.factor = factor
        self.pad_divisor = pad_divisor

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add ``results['views'][name]``, made from ``results['views']['']``."""
        if '' not in results.get('views', {}):
            raise ValueError("UpsampledView needs the main view: put an ImageView with name='' before it")
        main = results['views']['']
        height, width = (int(side * self.factor) for side in main['img_shape'])
        img = F.interpolate(
            torch.from_numpy(main['img']), (height, width), mode='bilinear', align_corners=False
        )
        bottom, right = (-side % self.pad_divisor for side in (height, width))
        img = F.pad(img, (0, right, 0, bottom)).numpy()
        intrinsics = main['cam_intrinsic'].copy()
        intrinsics[:, 0] *= width / main['img_shape'][1]
        intrinsics[:, 1] *= height / main['img_shape'][0]
        results['views'][self.name] = dict(
            img=img,
            cam_intrinsic=intrinsics,
            lidar2img=lidar_to_image(intrinsics, results['cam2lidar']),
            img_shape=img.shape[-2:],
            valid_shape=[
                tuple(math.floor(side * self.factor) for side in shape) for shape in main['valid_shape']
            ],
        )
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(name={self.name!r}, factor={self.factor}, pad_divisor={self.pad_divisor})'
        )
