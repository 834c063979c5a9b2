"""A config is looked over before anything is built."""

import copy
import functools
import re
from pathlib import Path
from typing import Any

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common.config import CONFIG_ROOT, find_config, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.config_check import check_train_config
from projects.mmdet3d_plugin.registry import register_all

CAMERA, PILLARS, CENTER, DETR3D, BEVDEPTH, GFL = (
    f'synthetic/{name}.py' for name in (
        'bevformer_student', 'kitti_pointpillars_student_4x', 'kitti_centerpoint_teacher', 'detr3d_student',
        'bevdepth_near_student', 'coco_gfl_student',
    )
)  # fmt: skip
_READ: dict[str, Config] = {}


def config(name: str, changes: dict[str, Any]) -> Config:
    """An official config with some values changed; every name of a path must be there, but the last."""
    register_all()
    cfg = Config(_READ.setdefault(name, Config.fromfile(str(CONFIG_ROOT / name)))._cfg_dict.to_dict())
    for path, value in changes.items():
        *folders, last = path.split('.')
        node: Any = cfg._cfg_dict
        for part in folders:
            node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
        if value is ...:
            node.pop(int(last) if isinstance(node, list) else last)
        elif isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    return cfg


def official_configs() -> list[Path]:
    """All of them, fragments left out."""
    return [path for path in sorted(CONFIG_ROOT.rglob('*.py')) if '_base_' not in path.parts]


def test_every_official_config_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    read = functools.cache(Config._file2dict)  # a file in many a _base_ is executed once
    monkeypatch.setattr(Config, '_file2dict', staticmethod(lambda *names: copy.deepcopy(read(*names))))
    register_all()
    files = official_configs()
    assert len(files) > 100
    for file in files:
        check_train_config(Config.fromfile(str(file)))


REFUSED = [
    # what is named must exist
    (CAMERA, {'model.type': 'BEVFormerr'}, r"^model\.type: there is no model 'BEVFormerr'; did you mean 'BEVFormer'"),
    (CAMERA, {'model.img_backbone.type': 'ResNett'}, r"^model\.img_backbone\.type: .*did you mean 'ResNet'"),
    (CAMERA, {'model.img_backbone.type': ...}, r"^model\.img_backbone has no 'type'"),
    (CAMERA, {'model.img_backbone': None}, r'^model\.img_backbone is None, but BEVFormer needs it'),
    (CAMERA, {'model.img_backbone': 'ResNet'}, r"^model\.img_backbone is 'ResNet'"),
    (CAMERA, {'model.pts_bbox_head.num_classes': None}, r'^model\.pts_bbox_head\.num_classes is None, but BEVFormerHead needs it'),
    (CAMERA, {'optimizer.lr': 10**400}, r'^optimizer\.lr is 1'),
    (CAMERA, {'optimizer.lr': [1e-3]}, r'^optimizer\.lr is \[0\.001\]: .*not a list'),
    (CAMERA, {'optimizer.paramwise_cfg': dict(custom_key={})}, r"^optimizer\.paramwise_cfg takes no 'custom_key'; did you mean 'custom_keys'"),
    (CAMERA, {'optimizer.paramwise_cfg': dict(custom_keys=3)}, r'^optimizer\.paramwise_cfg\.custom_keys is 3'),
    (CAMERA, {'optimizer.paramwise_cfg': dict(custom_keys=dict(img_backbone=0.1))}, r"custom_keys\['img_backbone'\] is 0\.1: it must be a dict"),
    (CAMERA, {'optimizer.paramwise_cfg': dict(custom_keys=dict(img_backbone=dict(lr_mutl=0.1)))}, r"takes no 'lr_mutl'; did you mean 'lr_mult'"),
    (CAMERA, {'optimizer.paramwise_cfg': dict(custom_keys=dict(img_backbone=dict(lr_mult=-1)))}, r'lr_mult is -1'),
    (CAMERA, {'optimizer_config.grad_clip': dict(maxnorm=3)}, r"^optimizer_config\.grad_clip takes no 'maxnorm'; did you mean 'max_norm'"),
    (CAMERA, {'optimizer_config.grad_clip': 3}, r'^optimizer_config\.grad_clip is 3: it must be a dict'),
    (CAMERA, {'optimizer_config.grad_clip': dict(norm_type=2)}, r"^optimizer_config\.grad_clip has no 'max_norm'"),
    (CAMERA, {'optimizer_config.grad_clip': dict(max_norm=3, norm_type='x')}, r"grad_clip\.norm_type is 'x'"),
    (CAMERA, {'custom_hooks': ['EMAHook']}, r"^custom_hooks\[0\] is 'EMAHook': it must be a dict with a type"),
    (CAMERA, {'log_config.hooks': [None]}, r'^log_config\.hooks\[0\] is None'),
    (CAMERA, {'data.train.pipeline.0': None}, r'^data\.train\.pipeline\[0\] is None: it must be a dict'),
    (CAMERA, {'data.train.classes': 3}, r'^data\.train\.classes is 3: it must be a list of names'),
    (CAMERA, {'model.pts_bbox_head.loss_cls.gamma': -2}, r'loss_cls\.gamma is -2'),
    (CAMERA, {'model.img_neck.out_chanels': 3}, r"^model\.img_neck: FPN takes no 'out_chanels'; did you mean 'out_channels'"),
    (CAMERA, {'model.pts_bbox_head.bbox_coder.max_nums': 3}, r"^model\.pts_bbox_head\.bbox_coder: NMSFreeCoder takes no 'max_nums'"),
    (CAMERA, {'model.pts_bbox_head.transformer.encoder.num_layer': 1}, r"encoder: BEVFormerEncoder takes no 'num_layer'; did you mean 'num_layers'"),
    (CAMERA, {'model.pts_bbox_head.loss_cls.type': 'FocalLos'}, r"^model\.pts_bbox_head\.loss_cls\.type: .*'FocalLoss'"),
    (CAMERA, {'data.train.type': 'NuScenesTemporalDatset'}, r"^data\.train\.type: .*'NuScenesTemporalDataset'"),
    (CAMERA, {'data.train.queue_len': 3}, r"^data\.train: .*takes no 'queue_len'; did you mean 'queue_length'"),
    (CAMERA, {'data.train.pipeline.0.type': 'LoadMultiViewImage'}, r"^data\.train\.pipeline\[0\]\.type: .*LoadMultiViewImages"),
    (CAMERA, {'data.val.pipeline': []}, r'^data\.val\.pipeline is \[\]'),
    (CAMERA, {'data.train': [3]}, r'^data holds 3 where the config of a dataset belongs'),
    (CAMERA, {'data.trian': {}}, r"^data has no 'trian'; did you mean 'train'"),
    (CAMERA, {'optimizer.type': 'AdamWW'}, r"^optimizer\.type: there is no optimizer 'AdamWW'; did you mean 'AdamW'"),
    (CAMERA, {'optimizer.learning_rate': 1.0}, r"^optimizer: AdamW takes no 'learning_rate'"),
    (CAMERA, {'optimizer': ...}, r'^the config has no "optimizer"'),
    (CAMERA, {'optimizer': 'AdamW'}, r"^optimizer is 'AdamW': it must be a dict"),
    (CAMERA, {'optimizer': ..., 'optimzer': dict(type='SGD')}, r"did you misspell it as 'optimzer'"),
    (CAMERA, {'optimizer_config.grad_clipp': 1}, r"^optimizer_config takes no 'grad_clipp'; did you mean 'grad_clip'"),
    (CAMERA, {'lr_config.policy': 'CosineAnealing'}, r"^lr_config\.policy: .*did you mean 'CosineAnnealing'"),
    (CAMERA, {'lr_config.min_lr_ration': 1}, r"^lr_config: CosineAnnealingLrUpdaterHook takes no 'min_lr_ration'"),
    (CAMERA, {'checkpoint_config.intervall': 1}, r"^checkpoint_config takes no 'intervall'"),
    (CAMERA, {'log_config.hooks.0.type': 'TextLogerHook'}, r"^log_config\.hooks\[0\]\.type: .*'TextLoggerHook'"),
    (CAMERA, {'custom_hooks': [dict(type='EMAHook', resume_from='a.pth')]}, r'^custom_hooks\[0\]\.resume_from: leave it out'),
    (CAMERA, {'custom_hooks': [dict(type='EMAHok')]}, r"^custom_hooks\[0\]\.type: .*'EMAHook'"),
    (CAMERA, {'runner.type': 'IterBasedRunner'}, r'^runner\.type'),
    (CAMERA, {'runner.max_epoch': 2}, r"^runner takes no 'max_epoch'; did you mean 'max_epochs'"),
    # numbers must make sense
    (CAMERA, {'runner.max_epochs': 0}, r'^runner\.max_epochs is 0: it must be a whole number of at least 1'),
    (CAMERA, {'runner.max_epochs': 'two'}, r"^runner\.max_epochs is 'two'"),
    (CAMERA, {'runner.max_epochs': 1.5}, r'^runner\.max_epochs is 1\.5'),
    (CAMERA, {'seed': -1}, r'^seed is -1'),
    (CAMERA, {'data.samples_per_gpu': 0}, r'^data\.samples_per_gpu is 0'),
    (CAMERA, {'data.workers_per_gpu': -1}, r'^data\.workers_per_gpu is -1'),
    (CAMERA, {'optimizer.lr': -1e-3}, r'^optimizer\.lr is -0\.001: it must be a number above 0'),
    (CAMERA, {'optimizer.lr': float('nan')}, r'^optimizer\.lr is nan'),
    (CAMERA, {'optimizer_config.grad_clip.max_norm': -35}, r'^optimizer_config\.grad_clip\.max_norm is -35'),
    (CAMERA, {'checkpoint_config.interval': 0}, r'^checkpoint_config\.interval is 0'),
    (CAMERA, {'evaluation.interval': 0}, r'^evaluation\.interval is 0'),
    (CAMERA, {'model.pts_bbox_head.num_query': 0}, r'^model\.pts_bbox_head\.num_query is 0'),
    (CAMERA, {'model.pts_bbox_head.transformer.encoder.num_layers': 0}, r'encoder\.num_layers is 0'),
    (CAMERA, {'model.pts_bbox_head.bbox_coder.max_num': 0}, r'bbox_coder\.max_num is 0'),
    (CAMERA, {'model.pts_bbox_head.loss_bbox.loss_weight': -1}, r'loss_bbox\.loss_weight is -1'),
    (CAMERA, {'data.train.queue_length': 0}, r'^data\.train\.queue_length is 0'),
    (CAMERA, {'model.pts_bbox_head.pc_range': [51, -51, -5, -51, 51, 3]}, r'pc_range is .* each end above its beginning'),
    (PILLARS, {'model.voxel_layer.voxel_size': [0.32, 0, 4]}, r'^model\.voxel_layer\.voxel_size\[1\] is 0'),
    (CAMERA, {'model.pts_bbox_head.code_weights': [0.0] * 10}, r'^model\.pts_bbox_head\.code_weights is \[0.*not all 0'),
    (PILLARS, {'model.train_cfg.code_weight': [0] * 7}, r'^model\.train_cfg\.code_weight is \[0.*not all 0'),
    (CAMERA, {'model.train_cfg': 3}, r'^model\.train_cfg is 3: it must be a dict'),
    (BEVDEPTH, {'model.test_cfg': 'fast'}, r"^model\.test_cfg is 'fast': it must be a dict"),
    (CAMERA, {'data.train.ann_file': []}, r'^data\.train\.ann_file is \[\]: it must be an info file or a list'),
    (CAMERA, {'data.train': dict(type='RepeatDataset', times=2, dataset={}, tims=3)}, r"^data\.train: RepeatDataset takes no 'tims'; did you mean 'times'"),
    (CAMERA, {'data.train': [dict(type='RepeatDataset', dataset={})]}, r"^data\.train\[0\]: RepeatDataset needs 'times'"),
    (CAMERA, {'data.train': dict(type='ConcatDataset', datasets={})}, r'^data\.train\.datasets must be a list'),
    (CAMERA, {'data.train': dict(type='CBGSDataset', dataset=dict(type='ClassBalancedDataset', dataset={}, oversample_thr=-1))}, r'^data\.train\.dataset\.oversample_thr is -1'),
    (CAMERA, {'data.train.ann_file': [3]}, r'^data\.train\.ann_file is \[3\]'),
    (CAMERA, {'data.train': []}, r'^data\.train has no dataset in it'),
    (CAMERA, {'data.val': dict(type='ConcatDataset', datasets=[])}, r'^data\.val has no dataset in it'),
    # numbers must agree
    (BEVDEPTH, {'model.backbone.lift_splat.image_size': (64, 160)}, r'lift_splat\.image_size, turned around, is \[160, 64\], but data\.train\.pipeline\[\d\]\.\w+, padded to multiples of 32, is \[128, 64\]'),
    (CAMERA, {'model.pts_bbox_head.num_classes': 11}, r'^number of classes: model\.pts_bbox_head\.num_classes is 11, but .*data\.train\.classes is 10'),
    (CAMERA, {f'data.{s}.classes': ['car', 'pedestrian', 'truck'] for s in ('train', 'val', 'test')}, r'num_classes is 10, but .* is 3'),
    (CAMERA, {'data.train.classes': ['car', 'pedestrian']}, r'^classes: data\.train\.classes is .* but data\.val\.classes is'),
    (CAMERA, {'data.val.classes': ['truck', 'car', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian', 'traffic_cone']}, r'^classes: data\.train\.classes'),
    (CAMERA, {'data.train.classes': ['car', 'car']}, r'names a class twice'),
    (CAMERA, {'data.train.pipeline.3.classes': ['car']}, r'^classes: .*data\.train\.pipeline\[3\]\.classes'),
    (CAMERA, {'model.pts_bbox_head.pc_range': [-40, -40, -5, 40, 40, 3]}, r'^range: model\.pts_bbox_head\.pc_range is .*data\.train\.point_cloud_range'),
    (CAMERA, {'model.pts_bbox_head.transformer.embed_dims': 32}, r'^channels: .*embed_dims is 32, but model\.img_neck\.out_channels is 64'),
    (CAMERA, {'model.pts_bbox_head.transformer.encoder.num_levels': 1}, r'^levels: .*num_levels is 1, but model\.img_neck\.num_outs is 2'),
    (CAMERA, {'model.pts_bbox_head.transformer.encoder.num_heads': 5}, r'encoder\.num_heads is 5: .*embed_dims=64 must be a multiple'),
    (CAMERA, {'model.img_neck.in_channels': [32, 128]}, r'^channels: model\.img_backbone is \[32, 64\], but model\.img_neck\.in_channels'),
    (CAMERA, {'model.img_neck.in_channels': [64]}, r'^levels: the number of model\.img_backbone\.out_indices is 2'),
    (CAMERA, {'model.pts_bbox_head.bbox_coder.max_num': 3000}, r'give only 1500 boxes'),
    (CAMERA, {'model.pts_bbox_head.code_weights': [1.0] * 8}, r'code_weights has 8 numbers'),
    (PILLARS, {'data.train.classes': ['Car']}, r'^classes: data\.train\.classes'),
    (PILLARS, {'model.bbox_head.num_classes': 2}, r'^number of classes: model\.bbox_head\.num_classes is 2'),
    (PILLARS, {'model.bbox_head.num_classes': 4}, r'^number of classes: model\.bbox_head\.num_classes is 4'),
    (PILLARS, {**{f'data.{s}.classes': ['Car'] for s in ('train', 'val', 'test')}, 'model.bbox_head.num_classes': 1}, r'^number of classes: .* is 1, but the number of model\.bbox_head\.anchor_generator\.sizes is 3'),
    (PILLARS, {'data.val.classes': ['Car', 'Cyclist', 'Pedestrian']}, r'^classes: '),
    (PILLARS, {'model.train_cfg.assigner.2': ..., }, r'the number of model\.train_cfg\.assigner is 2'),
    (PILLARS, {'model.bbox_head.anchor_generator.ranges.0': [0, -40, -0.6, 35.84, 40, -0.6]}, r'^range: .*anchor_generator\.ranges\[0\]'),
    (PILLARS, {'model.voxel_layer.point_cloud_range': [0, -17.92, -3, 40, 17.92, 1]}, r'^range: '),
    (PILLARS, {'model.voxel_encoder.voxel_size': [0.3, 0.32, 4]}, r'^voxel size: '),
    (PILLARS, {'model.middle_encoder.output_shape': [112, 100]}, r'^cells \(y, x\): .* is \[112, 112\], but model\.middle_encoder\.output_shape is \[112, 100\]'),
    (PILLARS, {'model.middle_encoder.in_channels': 8}, r'^channels: the last of model\.voxel_encoder\.feat_channels is 16'),
    (PILLARS, {'model.backbone.in_channels': 8}, r'^channels: model\.middle_encoder\.in_channels is 16'),
    (PILLARS, {'model.neck.in_channels': [24, 50]}, r'^channels: model\.backbone\.out_channels'),
    (PILLARS, {'model.bbox_head.in_channels': 60}, r'^channels: the sum of model\.neck\.out_channels is 64'),
    (PILLARS, {'model.backbone.layer_nums': [3]}, r'^stages: '),
    (PILLARS, {'model.voxel_encoder.in_channels': 5}, r'^numbers per point: model\.voxel_encoder\.in_channels is 5, but data\.train\.pipeline\[0\]\.use_dim is 4'),
    (PILLARS, {'data.train.pipeline.4.point_cloud_range': [0, -10, -3, 20, 10, 1]}, r'^data\.train\.pipeline\[4\]\.point_cloud_range is .* cuts away'),
    (CENTER, {'model.pts_bbox_head.tasks': [dict(num_class=2, class_names=['Car', 'Cyclist'])]}, r'^classes: data\.train\.classes .*class_names of model\.pts_bbox_head\.tasks'),
    (CENTER, {'model.pts_bbox_head.tasks.0.num_class': 2}, r'^number of classes: model\.pts_bbox_head\.tasks\[0\]\.num_class is 2'),
    (CENTER, {'model.train_cfg.pts.grid_size': [100, 112, 1]}, r'^cells: '),
    (CENTER, {'model.train_cfg.pts.voxel_size': [0.1, 0.32, 4]}, r'^voxel size: '),
    (CENTER, {'model.test_cfg.pts.pc_range': [0, -20]}, r'^range: .*model\.test_cfg\.pts\.pc_range'),
    (CENTER, {'model.pts_bbox_head.bbox_coder.out_size_factor': 4}, r'^out_size_factor: strides of backbone and neck is 2'),
    (CENTER, {'model.train_cfg.pts.code_weights': [1.0] * 10}, r'^numbers of a box: '),
    (CENTER, {'model.pts_bbox_head.bbox_coder.code_size': 9}, r'^numbers of a box: '),
    # values are what the constructors of this project say
    (CAMERA, {'model.use_grid_mask': 'yes'}, r"^model\.use_grid_mask is 'yes': it must be True or False"),
    (CAMERA, {'data.train.filter_empty': 'x'}, r'^data\.train\.filter_empty is .x.: it must be True or False'),
    (CAMERA, {'data.train.classes': None}, r'^data\.train\.classes is None: it must be a list'),
    (CAMERA, {'model.dense_head': 3}, r'^model.*dense_head is 3: it must be a dict'),
    (CAMERA, {'model.dense_head': dict(chanels=3)}, r"^model\.dense_head: DenseBEVHead takes no 'chanels'"),
    (CAMERA, {'model.pts_bbox_head.proposals': dict(x=1)}, r"^model\.pts_bbox_head\.proposals: DenseBEVHead takes no 'x'"),
    (CAMERA, {'model.pts_bbox_head.velocity_scale': 0}, r'velocity_scale is 0: it must be a number above 0'),
    (CAMERA, {'model.img_backbone.style': 'pytorh'}, r"img_backbone\.style is 'pytorh': it must be 'pytorch' or 'caffe'"),
    (CAMERA, {'checkpoint_config.save_last': 'x'}, r"^checkpoint_config\.save_last is 'x': it must be True or False"),
    (CAMERA, {'lr_config': dict(policy='step', step=[3, 2])}, r'^lr_config\.step is \[3, 2\]: .* each above the one before'),
    (CAMERA, {'find_unused_parameters': 'no'}, r"find_unused_parameters is 'no': it must be True or False"),
    (CAMERA, {'load_from': 3}, r'load_from is 3: it must be a text or None'),
    (CAMERA, {'resume_from': 'epoch_1.pth'}, r'^resume_from .* --resume'),
    (CAMERA, {'workflow': [('train', 1), ('val', 1)]}, r'^workflow'),
    (CAMERA, {'compute': dict(dtype='bf16')}, r"^compute has no 'modules'"),
    (CAMERA, {'compute': dict(modules=['img_neck'], dtypes='bf16')}, r"^compute takes no 'dtypes'; did you mean 'dtype'"),
    (CAMERA, {'evaluation': dict(interval=1, jsonfile_prefix='x')}, r"^evaluation takes no 'jsonfile_prefix'"),
    # hooks that a run has already, or cannot have twice
    (CAMERA, {'custom_hooks': [dict(type='CheckpointHook', interval=1)]}, r'^custom_hooks\[0\]\.type=CheckpointHook: leave it out, checkpoint_config'),
    (CAMERA, {'custom_hooks': [dict(type='StepLrUpdaterHook', step=[1])]}, r'leave it out, lr_config says it'),
    (CAMERA, {'custom_hooks': [dict(type='GradientCumulativeOptimizerHook')]}, r'leave it out, optimizer_config says it'),
    (CAMERA, {'custom_hooks': [dict(type='EMAHook'), dict(type='ExpMomentumEMAHook')]}, r'both average the weights'),
    (CAMERA, {'custom_hooks': [dict(type='EMAHook', warm_up=-5)]}, r'^custom_hooks\[0\]\.warm_up is -5'),
    # DETR3D and BEVDepth
    (DETR3D, {'model.pts_bbox_head.num_classes': 9}, r'^number of classes: .* is 9'),
    (DETR3D, {'model.pts_bbox_head.pc_range': [-50, -50, -5, 50, 50, 3]}, r'^range: '),
    (DETR3D, {'model.pts_bbox_head.transformer.num_levels': 2}, r'^levels: .* is 2, but model\.img_neck\.num_outs is 3'),
    (BEVDEPTH, {'model.head.tasks.1.class_names': ['truck', 'car']}, r'^classes: data\.train\.classes'),
    (BEVDEPTH, {'model.head.tasks.0.class_names': ['car', 'bus']}, r'^number of classes: model\.head\.tasks\[0\]\.num_class is 1'),
    (BEVDEPTH, {'model.train_cfg.grid_size': [64, 64, 1]}, r'^cells: '),
    (BEVDEPTH, {'model.train_cfg.code_weights': [1.0]}, r'^numbers of a box: '),
    (BEVDEPTH, {'model.head.common_heads': dict(reg=(2, 2))}, r'common_heads has no dim, height, rot'),
    (BEVDEPTH, {'model.head.bbox_coder.voxel_size': [0.3, 0.3, 8]}, r'^(cell|voxel size): '),
    (BEVDEPTH, {'model.train_cfg': None}, r'^model\.train_cfg is missing'),
    (BEVDEPTH, {'model.depth_weight': -1}, r'^model\.depth_weight is -1'),
    (BEVDEPTH, {'model.num_frames': 0}, r'^model\.num_frames is 0'),
    (BEVDEPTH, {'model.backbone.lift_splat.cells': 3}, r"^model\.backbone\.lift_splat: LiftSplat takes no 'cells'; did you mean 'cell'"),
    (BEVDEPTH, {'model.backbone.lift_splat.truncate': 3}, r'^model\.backbone\.lift_splat\.truncate is 3'),
    (BEVDEPTH, {'model.backbone.depth_net.mid_channels': 0}, r'mid_channels is 0'),
    (BEVDEPTH, {'model.test_cfg.nms_type': 'circles'}, r"nms_type is 'circles': it must be 'rotate' or 'circle'"),
    (BEVDEPTH, {'model.test_cfg.nms_thr': 'x'}, r"nms_thr is 'x'"),
    # mmdet's detectors on images
    (GFL, {'model.bbox_head.num_classes': 9}, r'^number of classes: model\.bbox_head\.num_classes is 9, but .* is 10'),
    (GFL, {'model.bbox_head.in_channels': 32}, r'^channels: model\.neck\.out_channels is 64, but model\.bbox_head\.in_channels is 32'),
    (GFL, {'model.bbox_head.anchor_generator.strides': [8, 16]}, r'^levels: model\.neck\.num_outs is 5, but the number of .*strides is 2'),
    (GFL, {'model.neck.in_channels': [16, 32, 64]}, r'^levels: the number of model\.backbone\.out_indices is 4'),
    (GFL, {'model.neck.in_channels': [16, 32, 64, 64]}, r'^channels: model\.backbone is \[16, 32, 64, 128\]'),
    (GFL, {'model.test_cfg.nms.iou_threshold': 2}, r'iou_threshold is 2'),
    (GFL, {'evaluation': dict(interval=1, classwise=True)}, r"^evaluation takes no 'classwise'"),
    ('coco/faster_rcnn_r50.py', {'model.roi_head.bbox_head.num_classes': 10}, r'^number of classes: model\.roi_head\.bbox_head\.num_classes is 10, but .* is 80'),
    ('coco/faster_rcnn_r50.py', {'model.rpn_head.anchor_generator.strides': [4]}, r'^levels: '),
]  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'changes', 'message'), REFUSED, ids=[f'{i}-{next(iter(c[1]))}' for i, c in enumerate(REFUSED)]
)
def test_what_cannot_be_right_is_refused_with_its_key(
    name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_train_config(config(name, changes))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        (CAMERA, {**{f'data.{s}.classes': ['car'] for s in ('train', 'val', 'test')}, 'model.pts_bbox_head.num_classes': 1}),
        (CAMERA, {'data.train.classes': ('car', 'truck', 'construction_vehicle', 'bus', 'trailer', 'barrier', 'motorcycle', 'bicycle', 'pedestrian', 'traffic_cone')}),
        (CAMERA, {'optimizer': dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True)}),
        (CAMERA, {'lr_config': None, 'evaluation': None, 'custom_hooks': [dict(type='EMAHook', momentum=0.0002, priority='NORMAL')]}),
        (CAMERA, {'data.train.ann_file': ['a.pkl', 'b.pkl'], 'data.val.ann_file': ('b.pkl',)}),
        (CAMERA, {'data.train': dict(type='RepeatDataset', times=2, dataset=dict(type='NuScenesTemporalDataset', data_root='x', ann_file='y', pipeline=[dict(type='FormatFrame')]))}),
        (CAMERA, {'evaluation': dict(interval=1, evaluator='devkit'), 'model.pts_bbox_head.code_weights': [1] * 10}),
        (PILLARS, {'data.train.pipeline.4.point_cloud_range': [-1, -40, -5, 70, 40, 5]}),
    ],
)  # fmt: skip
def test_what_is_unusual_but_right_passes(name: str, changes: dict[str, Any]) -> None:
    check_train_config(config(name, changes))


def test_other_classes_of_the_same_number_train_alone_and_are_not_scored_as_others() -> None:
    """mmdet3d's transforms go by the number of a class; a split that nobody reads need not have the same."""
    changed = config(PILLARS, {'data.train.classes': ['Pedestrian', 'Cyclist', 'Truck']})
    check_train_config(changed, validate=False)
    with pytest.raises(UserError, match=r'^classes: data.train.classes is .* but data.val.classes is'):
        check_train_config(changed)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(\n', r'broken\.py: .*\(<unknown>, line 1\)$'),
        ('import no_such_module\n', r"ModuleNotFoundError: No module named 'no_such_module' \(\S*broken\.py, line 1\)$"),
        ('a = 1\nb = a.c\n', r'AttributeError: .*\(\S*broken\.py, line 2\)$'),
        ("_base_ = ['./nowhere.py']\n", r'nowhere\.py'),
        ("_base_ = ['./base.py']\na = {{_base_.nothing}}\n", r"nothing"),
        ("_base_ = ['./base.py']\na = dict(x=1)\n", r'a'),
        ('', r'the config has no "model"'),
    ],
)  # fmt: skip
def test_an_error_within_a_config_is_told_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str, message: str
) -> None:
    (tmp_path / 'base.py').write_text('a = 3\n')
    (tmp_path / 'broken.py').write_text(text)
    with pytest.raises(UserError) as caught:
        check_train_config(load_config(find_config(tmp_path / 'broken.py')))
    assert re.search(message, str(caught.value)), str(caught.value)
    assert capsys.readouterr().err == ''
