"""Parts that configs of camera detectors compose: mmcv merges dictionaries but cannot edit one element of a list.

Configs import this module; the values end up in them as if they were written there.
"""

from projects.configs._base_.nuscenes import CLASSES, RANGE

BEV_AUGMENTATION = dict(rotate=22.5, scale=(0.95, 1.05), flip_x=0.5, flip_y=0.5)  # of BEVDepth
R101_DCN = dict(
    type='ResNet',
    depth=101,
    num_stages=4,
    out_indices=(1, 2, 3),
    frozen_stages=1,
    norm_cfg=dict(type='BN2d', requires_grad=False),
    norm_eval=True,
    style='caffe',
    dcn=dict(type='DCNv2', deform_groups=1, fallback_on_stride=False),
    stage_with_dcn=(False, False, True, True),
)
"""The backbone of the published BEVFormer-base and DETR3D."""
R101_FPN = dict(
    type='FPN',
    in_channels=[512, 1024, 2048],
    out_channels=256,
    start_level=0,
    add_extra_convs='on_output',
    num_outs=4,
    relu_before_extra_convs=True,
)
"""The neck behind it, four levels."""
PINT_R18 = dict(
    type='ResNet',
    depth=18,
    num_stages=3,
    strides=(1, 2, 2),
    dilations=(1, 1, 1),
    out_indices=(1, 2),
    stem_channels=16,
    base_channels=16,
    norm_eval=False,
)
"""The backbone of pint-sized detectors that learn from scratch: two stages of 32 and 64 channels."""


def caffe_view(**size: object) -> dict:
    """BGR with the mean subtracted, as caffe-style backbones expect it; ``size`` goes to ImageView."""
    return dict(type='ImageView', mean=[103.530, 116.280, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False, **size)


def torchvision_view(**size: object) -> dict:
    """RGB normalised as torchvision's backbones expect it; ``size`` goes to ImageView."""
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    return dict(type='ImageView', mean=mean, std=std, to_rgb=True, **size)


def pipelines(
    view: dict, distort: bool = True, float32: bool = True, pc_range: object = RANGE, **loading: int
) -> tuple[list[dict], list[dict]]:
    """The pipelines of training and testing around one view of the images.

    Args:
        view: an ImageView.
        distort: change colours in training.
        float32: decode to float32 before resizing, as the published weights saw their images; False is faster.
        pc_range: what boxes are learnt in.
        loading: further arguments of LoadMultiViewImages in training.
    """
    load, format_frame = dict(type='LoadMultiViewImages', to_float32=float32), dict(type='FormatFrame')
    train = [
        load | loading,
        *([dict(type='PhotoMetricDistortionMultiView')] if distort else []),
        dict(type='LoadAnnotations3D', with_bbox_3d=True, with_label_3d=True, with_attr_label=False),
        dict(type='ObjectRangeFilter', point_cloud_range=pc_range),
        dict(type='ObjectNameFilter', classes=CLASSES),
        view,
        format_frame,
    ]
    return train, [load, view, format_frame]


def lifting_pipelines(
    crop: tuple[int, int],
    scale: float | tuple[int, int],
    augment: dict | None,
    bev: dict | None = BEV_AUGMENTATION,
    float32: bool = True,
    pc_range: list[float] = RANGE,
) -> tuple[list[dict], list[dict]]:
    """The pipelines of lift-splat detectors: points, from which depth is learnt, and augmentation of images and BEV.

    Args:
        crop: (width, height) of the images.
        scale: on which they are resized before, in testing; or the (width, height) that they then have, whatever they were.
        augment: of the images in training, see ImageView; None for none.
        bev: arguments of BEVAugmentation; None for none.
        float32: see :func:`pipelines`.
        pc_range: what boxes are learnt in.
    """
    view = torchvision_view(crop=crop, **{'scale' if isinstance(scale, float) else 'size': scale})
    train, test = pipelines(view, distort=False, float32=float32, pc_range=pc_range)
    points = dict(type='LoadPoints', coord_type='LIDAR', load_dim=5, use_dim=[0, 1, 2])
    place = next(i for i, step in enumerate(train) if step['type'] == 'LoadAnnotations3D') + 1
    moved = [] if bev is None else [dict(type='BEVAugmentation', **bev)]
    train = [train[0], points, *train[1:place], *moved, *train[place:]]
    changes = dict(augment=augment) if augment else {}
    return [step | changes if step['type'] == 'ImageView' else step for step in train], test


def data(train_pipeline: list[dict], test_pipeline: list[dict], **train: object) -> dict:
    """The ``data`` of a config that has pipelines of its own; ``train`` are further settings of its training set."""
    test = dict(pipeline=test_pipeline)
    return dict(train=dict(pipeline=train_pipeline, **train), val=test, test=test)


def torchvision_resnet(depth: int, out_indices: tuple[int, ...]) -> dict:
    """A ResNet with torchvision's weights, in place of the base's backbone."""
    return dict(
        _delete_=True,
        type='ResNet',
        depth=depth,
        num_stages=4,
        out_indices=out_indices,
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint=f'torchvision://resnet{depth}'),
    )
