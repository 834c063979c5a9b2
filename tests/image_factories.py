"""Pint-sized 2D detectors of mmdet and batches of images with 2D boxes."""

from typing import Any

import torch
from mmcv import Config
from torch import nn

from projects.configs._base_ import coco
from projects.mmdet3d_plugin.common.models import build_model

SIZE = (64, 96)  # height, width


def detector_config(kind: str, base: int = 8) -> dict[str, Any]:
    """One of RetinaNet, GFL, FCOS, Faster and Cascade R-CNN for two classes, with 32 channels of image features."""
    backbone, widths = coco.fresh_resnet(18, base), [base * 2**i for i in range(4)]
    if kind == 'faster_rcnn':
        return coco.faster_rcnn(backbone, widths, 2, channels=32, width=32)
    if kind == 'cascade_rcnn':
        return _in_two_rounds(coco.faster_rcnn(backbone, widths, 2, channels=32, width=32))
    if kind != 'fcos':
        return getattr(coco, kind)(backbone, widths, 2, channels=32, convs=1)
    base_cfg = coco.gfl(backbone, widths, 2, channels=32, convs=1)
    head = dict(
        type='FCOSHead',
        num_classes=2,
        in_channels=32,
        feat_channels=32,
        stacked_convs=1,
        strides=coco.STRIDES,
    )
    return {**base_cfg, 'type': 'FCOS', 'bbox_head': head, 'train_cfg': None}


def _in_two_rounds(cfg: dict[str, Any]) -> dict[str, Any]:
    """A Cascade R-CNN of a Faster R-CNN."""
    head, rcnn = cfg['roi_head'], cfg['train_cfg']['rcnn']
    boxes = dict(head['bbox_head'], reg_class_agnostic=True)
    rounds = dict(type='CascadeRoIHead', num_stages=2, stage_loss_weights=[1, 0.5], bbox_head=[boxes, boxes])
    return {
        **cfg,
        'type': 'CascadeRCNN',
        'roi_head': head | rounds,
        'train_cfg': cfg['train_cfg'] | dict(rcnn=[rcnn, rcnn]),
    }


def make_detector(kind: str, seed: int = 0, base: int = 8) -> nn.Module:
    """The same, built, whose initial scores lie anywhere so that it finds something."""
    torch.manual_seed(seed)
    model = build_model(Config(dict(model=detector_config(kind, base))).model)
    model.init_weights()
    for name in ('retina_cls', 'gfl_cls', 'conv_cls'):
        layer = getattr(getattr(model, 'bbox_head', None), name, None)
        if layer is not None:
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.zeros_(layer.bias)
    return model


def image_batch(samples: int = 2, seed: int = 0) -> dict[str, Any]:
    """``img`` (B, 3, 64, 96), metas, and two boxes per image."""
    generator = torch.Generator().manual_seed(seed)
    meta = dict(
        img_shape=(*SIZE, 3), pad_shape=(*SIZE, 3), ori_shape=(*SIZE, 3), scale_factor=torch.ones(4).numpy()
    )
    boxes = torch.tensor([[4.0, 6.0, 40.0, 44.0], [50.0, 20.0, 90.0, 60.0]])
    return dict(
        img=torch.randn(samples, 3, *SIZE, generator=generator),
        img_metas=[dict(meta, filename=f'{i}.jpg') for i in range(samples)],
        gt_bboxes=[boxes + i for i in range(samples)],
        gt_labels=[torch.tensor([0, 1]) for _ in range(samples)],
    )
