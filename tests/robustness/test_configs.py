"""Mutants of configs, of overrides and of options, through tools/train.py."""

from pathlib import Path
from typing import Any

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.engine import train
from tests.robustness.conftest import GONE, changed, save
from tests.robustness.forked import Ended, assert_one_line, run

HEAD = 'model.pts_bbox_head'
KITTI = ['Pedestrian', 'Cyclist', 'Car']
BAD_CAMERA: list[tuple[dict[str, Any], str]] = [
    # wrong types and missing keys
    ({'model': 3}, 'model'),
    ({'model': GONE}, '"model"'),
    ({'model.type': GONE}, "model has no 'type'"),
    ({'model.img_backbone': GONE}, 'img_backbone'),
    ({'model.img_backbone': 'ResNet'}, r'model\.img_backbone'),
    ({'model.img_backbone.depth': '18'}, r'depth'),
    ({'model.img_backbone.depth': 19}, r'model\.img_backbone'),
    ({'model.img_backbone.depth': GONE}, r'model\.img_backbone.*depth'),
    ({'model.img_backbone.norm_cfg': dict(type='BNN')}, r'norm_cfg.*BNN'),
    ({'model.img_backbone.out_indices': (1, 7)}, r'model\.img_backbone|img_neck'),
    ({'model.img_backbone.init_cfg': dict(type='Pretraned')}, r'init_cfg'),
    ({'model.img_neck': GONE}, 'img_neck'),
    ({'model.img_neck.in_channels': [32]}, 'img_neck'),
    ({'model.img_neck.in_channels': 32}, 'img_neck'),
    ({'model.img_neck.in_channels': [32, 65]}, 'img_neck'),
    ({'model.img_neck.num_outs': 3}, 'num_levels|num_outs'),
    ({'model.img_neck.out_channels': 65}, 'out_channels'),
    ({f'{HEAD}.type': 'BEVHead'}, r'pts_bbox_head\.type'),
    ({f'{HEAD}.pc_range': GONE}, 'pts_bbox_head.*pc_range'),
    ({f'{HEAD}.pc_range': [0, 0, 0, 1]}, 'pc_range'),
    ({f'{HEAD}.pc_range': 'all'}, 'pc_range'),
    ({f'{HEAD}.pc_range': [-51.2, -51.2, -5.0, 51.2, 51.2, float('nan')]}, 'pc_range'),
    ({f'{HEAD}.box_convention': 'v2'}, 'box_convention'),
    ({f'{HEAD}.loss_cls': GONE}, 'loss_cls'),
    ({f'{HEAD}.loss_cls.gama': 2}, r"loss_cls.*'gamma'"),
    ({f'{HEAD}.loss_cls.loss_weight': float('inf')}, 'loss_weight'),
    ({f'{HEAD}.transformer': {}}, 'transformer'),
    ({f'{HEAD}.transformer.type': 'Transformr'}, r'transformer\.type'),
    ({f'{HEAD}.transformer.legacy': ['shfit']}, 'transformer.*shfit'),
    ({f'{HEAD}.transformer.encoder': 3}, r'transformer\.encoder'),
    ({f'{HEAD}.transformer.encoder.num_points': 5}, 'num_points'),
    ({f'{HEAD}.transformer.encoder.dropout': 1.5}, 'dropout'),
    ({f'{HEAD}.transformer.decoder.num_heads': 7}, r'decoder\.num_heads'),
    ({f'{HEAD}.transformer.embed_dims': 63}, 'embed_dims'),
    ({f'{HEAD}.bev_h': 0}, 'bev_h'),
    ({f'{HEAD}.bev_w': -20}, 'bev_w'),
    ({f'{HEAD}.bev_w': 20.5}, 'bev_w'),
    ({f'{HEAD}.num_query': True}, 'num_query'),
    ({f'{HEAD}.num_classes': 3}, r'num_classes is 3, but .*data\.train\.classes is 10'),
    ({f'{HEAD}.code_weights': [1.0]}, 'code_weights'),
    ({f'{HEAD}.bbox_coder.post_center_range': [61, 61, 10, -61, -61, -10]}, 'post_center_range'),
    # data
    ({'data': []}, 'data'),
    ({'data.train': GONE}, r'data\.train'),
    ({'data.train.type': GONE}, r"data\.train has no 'type'"),
    ({'data.train.ann_file': GONE}, r'data\.train.*ann_file'),
    ({'data.train.ann_file': 'nowhere.pkl'}, r'nowhere\.pkl'),
    ({'data.train.data_root': '/nowhere'}, r'nuscenes_infos_temporal_train\.pkl|/nowhere'),
    ({'data.train.classes': []}, r'data\.train\.classes'),
    ({'data.train.classes': 'car'}, r'classes'),
    ({'data.train.classes': ['car', 'truc']}, 'classes'),
    ({'data.train.pipeline': GONE}, r'data\.train.*pipeline'),
    ({'data.train.pipeline.0': GONE}, r'pipeline|img|image'),
    ({'data.train.pipeline.5': GONE}, r'pipeline|FormatFrame'),
    ({'data.train.pipeline.0.to_flaot32': True}, r'data\.train\.pipeline\[0\]'),
    ({'data.train.pipeline.2.point_cloud_range': [0, 0, 0, -1, -1, -1]}, r'pipeline\[2\]\.point_cloud_range'),
    ({'data.train.point_cloud_range': [-40, -40, -5, 40, 40, 3]}, r'data\.train\.point_cloud_range'),
    ({'data.val.point_cloud_range': [-40, -40, -5, 40, 40, 3]}, r'data\.val\.point_cloud_range'),
    ({'data.val.classes': ['truck', 'car']}, r'data\.val\.classes'),
    ({'data.train.info_convention': 'v3'}, r'data\.train.*v3'),
    ({'data.train.queue_length': -1}, 'queue_length'),
    ({'data.samples_per_gpu': '2'}, 'samples_per_gpu'),
    ({'data.workers_per_gpu': 1.5}, 'workers_per_gpu'),
    # the run
    ({'optimizer.lr': 0}, r'optimizer\.lr'),
    ({'optimizer.lr': '1e-3'}, r'optimizer\.lr'),
    ({'optimizer.weight_decay': -1}, r'optimizer\.weight_decay'),
    ({'optimizer.betas': (0.9, 1.5)}, r'optimizer.*1\.5'),
    ({'optimizer.constructor': 'NoSuchConstructor'}, r'optimizer\.constructor'),
    ({'optimizer.paramwise_cfg': dict(custom_keys=3)}, 'optimizer'),
    ({'lr_config.warmup': 'linaer'}, 'lr_config.*linaer'),
    ({'lr_config.warmup_iters': -3}, 'warmup_iters'),
    ({'lr_config.policy': GONE}, 'policy'),
    ({'lr_config': dict(policy='step', step='late')}, 'lr_config'),
    ({'momentum_config': dict(policy='Cyclc')}, r'momentum_config\.policy'),
    ({'runner': 3}, 'runner'),
    ({'runner.max_epochs': -1}, r'runner\.max_epochs'),
    ({'runner.max_epochs': float('inf')}, r'runner\.max_epochs'),
    ({'checkpoint_config.max_keep_ckpts': 0}, 'max_keep_ckpts'),
    ({'checkpoint_config.interval': 'often'}, r'checkpoint_config\.interval'),
    ({'log_config.interval': 0}, r'log_config\.interval'),
    ({'log_config.hooks': 'TextLoggerHook'}, r'log_config\.hooks'),
    ({'custom_hooks': [dict(type='EMAHook', momentum='x')]}, 'custom_hooks|EMAHook'),
    ({'custom_hooks': [dict(type='EMAHook', momentun=0.1)]}, 'momentun'),
    ({'custom_hooks': [dict(type='EMAHook', warm_up=0)]}, r'custom_hooks\[0\]\.warm_up'),
    ({'evaluation': dict(interval=1, save_best='mAPP')}, 'mAPP'),
    ({'evaluation': dict(interval=1, save_best='AP/cat')}, 'AP/cat'),
    ({'evaluation': dict(interval=1, save_best=3)}, r'evaluation\.save_best is 3'),
    ({'evaluation': dict(interval=1, save_best=['NDS'])}, r'evaluation\.save_best'),
    ({'evaluation': dict(interval=1, save_best='NDS', rule='bigger')}, r'evaluation\.rule'),
    ({'evaluation': dict(interval=1, intervall=2)}, 'intervall'),
    ({'evaluation': dict(interval=-1)}, r'evaluation\.interval'),
    ({'evaluation': dict(interval=1, evaluator='devkt')}, r"evaluator 'devkt'; it has"),
    ({'optimizer.paramwise_cfg': dict(custom_keys={'img_bakcbone': dict(lr_mult=0.1)})}, r"custom_keys: 'img_bakcbone' .*did you mean 'img_backbone'"),
    ({'seed': 'x'}, 'seed'),
    ({'seed': 2**70}, 'seed'),
    ({'amp': 'fp8'}, 'amp|fp8'),
    ({'load_from': '/nowhere/w.pth'}, r'/nowhere/w\.pth'),
    ({'fp16': dict(loss_scale=512.0)}, 'fp16'),
]  # fmt: skip
BAD_PILLARS: list[tuple[dict[str, Any], str]] = [
    ({'model.type': 'VoxelNett'}, r'model\.type'),
    ({'model.bbox_head.num_classes': 2}, r'num_classes'),
    ({'data.train.classes': ['Car']}, r'data\.train\.classes'),
    ({f'data.{split}.classes': KITTI[::-1] for split in ('train', 'val')}, r'data\.test\.classes'),
    ({f'data.{split}.classes': ['Car'] for split in ('train', 'val', 'test')}, 'num_classes is 3'),
    ({'model.bbox_head.anchor_generator.sizes': [[0.8, 0.6, 1.73]]}, r'anchor_generator\.sizes'),
    ({'model.bbox_head.anchor_generator.sizes': [[0.8, 0.6, -1.73]] * 3}, r'anchor_generator\.sizes'),
    ({'model.bbox_head.anchor_generator.type': 'AlignedAnchor3DRangeGen'}, r'anchor_generator\.type'),
    ({'model.voxel_layer.voxel_size': [0.32, 0.32]}, 'voxel_size'),
    ({'model.voxel_layer.voxel_size': [0.32, -0.32, 4]}, 'voxel_size'),
    ({'model.voxel_layer.max_num_points': 0}, 'max_num_points'),
    ({'model.voxel_layer.max_voxels': (0, 0)}, 'max_voxels'),
    ({'model.voxel_encoder.feat_channels': [17]}, 'feat_channels'),
    ({'model.middle_encoder.output_shape': [112, 113]}, 'output_shape'),
    ({'model.backbone.out_channels': [24, 49]}, 'out_channels'),
    ({'model.backbone.layer_strides': [2]}, 'layer_strides'),
    ({'model.neck.upsample_strides': [1]}, 'upsample_strides'),
    ({'model.bbox_head.feat_channels': 0}, 'feat_channels'),
    ({'model.train_cfg': None}, 'train_cfg|bbox_head'),
    ({'data.train.pipeline.0.use_dim': 3}, 'use_dim'),
    ({'data.train.pipeline.0.load_dim': 0}, 'load_dim'),
    ({'data.train.pipeline.2.flip_ratio_bev_horizontal': 2}, 'flip_ratio'),
    ({'data.train.pts_prefix': 'velodyn'}, 'velodyn'),
]  # fmt: skip
OVERRIDES = [
    ('optimzer.lr=1e-5', 'optimizer'),
    ('modle.type=x', 'model'),
    ('runner.max_epoch=3', 'max_epochs'),
    ('model.pts_bbox_head.num_querys=3', 'num_query'),
    ('data.train.pipeline.9.type=x', r'data\.train\.pipeline'),
    ('data.train.queue=2', 'queue_length'),
    ('model=3', 'model'),
    ('runner.max_epochs=0', r'runner\.max_epochs'),
    ('optimizer.lr=-1', r'optimizer\.lr'),
    ('data.samples_per_gpu=None', 'samples_per_gpu'),
]
OPTIONS = [
    (('--seed', -1), 'seed'),
    (('--seed', 10**22), 'seed'),
    (('--resume', '/nowhere.pth'), r'/nowhere\.pth'),
    (('--data-root', '/nowhere'), '/nowhere'),
    (('--data-root', ''), 'data-root'),
    (('--threads', 0), '--threads'),
    (('--work-dir', '/dev/null/run'), '/dev/null'),
]  # fmt: skip


def train_with(cfg: Config, folder: Path, *options: object) -> Ended:
    """Train a config in a fork."""
    path = save(cfg, folder / 'config.py')
    work = () if '--work-dir' in options else ('--work-dir', folder / 'run')
    return run(train.main, path, '--device', 'cpu', *work, *options)


def names(cases: list[tuple[Any, str]]) -> list[str]:
    """Names of test cases."""
    return [f'{i}-{next(iter(c[0])) if isinstance(c[0], dict) else c[0]}' for i, c in enumerate(cases)]


@pytest.mark.parametrize(('changes', 'named'), BAD_CAMERA, ids=names(BAD_CAMERA))
def test_camera_config(camera: Config, tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    assert_one_line(train_with(changed(camera, changes), tmp_path), named)


@pytest.mark.parametrize(('changes', 'named'), BAD_PILLARS, ids=names(BAD_PILLARS))
def test_lidar_config(pillars: Config, tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    assert_one_line(train_with(changed(pillars, changes), tmp_path), named)


@pytest.mark.parametrize(('override', 'named'), OVERRIDES, ids=[o[0] for o in OVERRIDES])
def test_override(camera: Config, tmp_path: Path, override: str, named: str) -> None:
    assert_one_line(train_with(camera, tmp_path, '--cfg-options', override), named)


@pytest.mark.parametrize(('options', 'named'), OPTIONS, ids=[str(o[0]) for o in OPTIONS])
def test_option(camera: Config, tmp_path: Path, options: tuple[object, ...], named: str) -> None:
    assert_one_line(train_with(camera, tmp_path, *options), named)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'data.train.queue_length': 2, 'optimizer': dict(type='SGD', lr=1e-3, momentum=0.9)},
        {'custom_hooks': [dict(type='EMAHook', momentum=0.1)], 'optimizer_config.cumulative_iters': 2},
        {**{f'data.{s}.classes': ['car', 'truck'] for s in ('train', 'val', 'test')}, f'{HEAD}.num_classes': 2},
    ],
    ids=['plain', 'queue', 'ema', 'two classes'],
)  # fmt: skip
def test_right_run(camera: Config, tmp_path: Path, changes: dict[str, Any]) -> None:
    ended = train_with(changed(camera, changes), tmp_path)
    assert ended.status == 0, ended.text[-3000:]
    assert (tmp_path / 'run/epoch_1.pth').is_file()
    assert not ended.errors
