"""Parts that configs of mmdet's 2D detectors compose, for data in COCO's layout.

Configs import this module; the values end up in them as if they were written there. Detectors are mmdet's, with its
settings, so that its published weights load and its figures can be compared.
"""

CLASSES = [
    'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'traffic light',
    'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant',
    'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard',
    'sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli',
    'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant', 'bed', 'dining table', 'toilet',
    'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster', 'sink',
    'refrigerator', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush',
]  # fmt: skip
STRIDES = [8, 16, 32, 64, 128]


def pipelines(scale: tuple[int, int]) -> tuple[list[dict], list[dict]]:
    """The pipelines of training and testing: RGB, normalised as torchvision's backbones expect it.

    Args:
        scale: the longer and the shorter side that an image may have at most, pixels.
    """
    view = [
        dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
        dict(type='Pad', size_divisor=32),
    ]
    train = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', img_scale=scale, keep_ratio=True),
        dict(type='RandomFlip', flip_ratio=0.5),
        *view,
        dict(type='DefaultFormatBundle'),
        dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels']),
    ]
    steps = [
        dict(type='Resize', keep_ratio=True),
        *view,
        dict(type='ImageToTensor', keys=['img']),
        dict(
            type='Collect',
            keys=['img'],
            meta_keys=('filename', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor'),
        ),
    ]
    once = dict(type='MultiScaleFlipAug', img_scale=scale, flip=False, transforms=steps)
    return train, [dict(type='LoadImageFromFile'), once]


def data(
    root: str, classes: list[str], scale: tuple[int, int], samples_per_gpu: int = 2, workers_per_gpu: int = 2
) -> dict:
    """``data`` of a config: COCO's folders below a root."""
    train_pipeline, test_pipeline = pipelines(scale)
    val = _split('val2017', root, classes, test_pipeline)
    return dict(
        samples_per_gpu=samples_per_gpu,
        workers_per_gpu=workers_per_gpu,
        train=_split('train2017', root, classes, train_pipeline),
        val=val,
        test=val,
    )


def _split(name: str, root: str, classes: list[str], pipeline: list[dict]) -> dict:
    return dict(
        type='CocoImages',
        data_root=root,
        ann_file=f'annotations/instances_{name}.json',
        img_prefix=f'{name}/',
        classes=classes,
        pipeline=pipeline,
    )


def resnet(depth: int, **settings: object) -> dict:
    """A ResNet with torchvision's weights, whose batch norms stay as they are."""
    return dict(
        type='ResNet',
        depth=depth,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint=f'torchvision://resnet{depth}'),
    ) | dict(settings)


def fresh_resnet(depth: int, base_channels: int) -> dict:
    """A ResNet that is trained from scratch, with batch norms that learn."""
    return resnet(depth, base_channels=base_channels, frozen_stages=-1, norm_eval=False, init_cfg=None)


def fpn(in_channels: list[int], channels: int = 256, **settings: object) -> dict:
    """Five levels of image features; the single-stage detectors take them from stride 8 on."""
    return dict(type='FPN', in_channels=in_channels, out_channels=channels, num_outs=5, **settings)


def retinanet(
    backbone: dict, in_channels: list[int], classes: int, channels: int = 256, convs: int = 4
) -> dict:
    """RetinaNet with nine anchors per cell."""
    return dict(
        type='RetinaNet',
        backbone=backbone,
        neck=fpn(in_channels, channels, start_level=1, add_extra_convs='on_input'),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=classes,
            in_channels=channels,
            feat_channels=channels,
            stacked_convs=convs,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=3,
                ratios=[0.5, 1.0, 2.0],
                strides=STRIDES,
            ),
            bbox_coder=_deltas(1.0, 1.0),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
        train_cfg=dict(assigner=_by_overlap(0.5, 0.4, 0.0), allowed_border=-1, pos_weight=-1, debug=False),
        test_cfg=_dense_test(0.5),
    )


def gfl(backbone: dict, in_channels: list[int], classes: int, channels: int = 256, convs: int = 4) -> dict:
    """GFL: class scores that tell a box's quality, and distributions of a box's edges."""
    return dict(
        type='GFL',
        backbone=backbone,
        neck=fpn(in_channels, channels, start_level=1, add_extra_convs='on_output'),
        bbox_head=dict(
            type='GFLHead',
            num_classes=classes,
            in_channels=channels,
            feat_channels=channels,
            stacked_convs=convs,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=8,
                scales_per_octave=1,
                ratios=[1.0],
                strides=STRIDES,
            ),
            reg_max=16,
            loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
            loss_dfl=dict(type='DistributionFocalLoss', loss_weight=0.25),
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        ),
        train_cfg=dict(
            assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1, debug=False
        ),
        test_cfg=_dense_test(0.6),
    )


def faster_rcnn(
    backbone: dict, in_channels: list[int], classes: int, channels: int = 256, width: int = 1024
) -> dict:
    """Faster R-CNN on five levels."""
    proposals = dict(nms_pre=1000, max_per_img=1000, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    return dict(
        type='FasterRCNN',
        backbone=backbone,
        neck=fpn(in_channels, channels),
        rpn_head=dict(
            type='RPNHead',
            in_channels=channels,
            feat_channels=channels,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, *STRIDES[:-1]]
            ),
            bbox_coder=_deltas(1.0, 1.0),
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
            loss_bbox=dict(type='L1Loss', loss_weight=1.0),
        ),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
                out_channels=channels,
                featmap_strides=[4, 8, 16, 32],
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=channels,
                fc_out_channels=width,
                roi_feat_size=7,
                num_classes=classes,
                bbox_coder=_deltas(0.1, 0.2),
                reg_class_agnostic=False,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=_by_overlap(0.7, 0.3, 0.3, match_low_quality=True),
                sampler=_sampler(256, 0.5, add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=dict(proposals, nms_pre=2000),
            rcnn=dict(
                assigner=_by_overlap(0.5, 0.5, 0.5, match_low_quality=False),
                sampler=_sampler(512, 0.25, add_gt_as_proposals=True),
                pos_weight=-1,
                debug=False,
            ),
        ),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
        ),
    )


def _deltas(centre: float, size: float) -> dict:
    stds = [centre, centre, size, size]
    return dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0], target_stds=stds)


def _by_overlap(positive: float, negative: float, least: float, **settings: object) -> dict:
    return dict(
        type='MaxIoUAssigner',
        pos_iou_thr=positive,
        neg_iou_thr=negative,
        min_pos_iou=least,
        ignore_iof_thr=-1,
        **settings,
    )


def _sampler(number: int, positive: float, **settings: object) -> dict:
    return dict(type='RandomSampler', num=number, pos_fraction=positive, neg_pos_ub=-1, **settings)


def _dense_test(overlap: float) -> dict:
    return dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms', iou_threshold=overlap),
        max_per_img=100,
    )
