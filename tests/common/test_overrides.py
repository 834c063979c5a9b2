"""Overrides that fit nothing are refused."""

from typing import Any

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.overrides import override
from projects.mmdet3d_plugin.registry import register_all


@pytest.fixture
def cfg() -> Config:
    """A config with one of everything."""
    register_all()
    return Config(
        dict(
            model=dict(type='BEVFormer', img_neck=dict(type='FPN', in_channels=[8]), test_cfg=dict(score_thr=0.1)),
            data=dict(samples_per_gpu=1, train=dict(type='KittiFrames', pipeline=[dict(type='PointShuffle')])),
            optimizer=dict(type='AdamW', lr=1e-3, paramwise_cfg=dict(custom_keys=dict(img_backbone=dict(lr_mult=0.1)))),
            optimizer_config=dict(grad_clip={}),
            lr_config=dict(policy='CosineAnnealing', min_lr_ratio=0.1),
            runner=dict(type='EpochBasedRunner', max_epochs=2),
            distiller=dict(teacher=dict(checkpoint='a.pth'), terms=dict(bev=dict(type='FeatureL2', on='bev', weight=1))),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.img_neck.in_channels', [4]),
        ('model.img_neck.num_outs', 2),
        ('model.use_grid_mask', False),
        ('model.test_cfg.nms_thr', 0.1),
        ('data.workers_per_gpu', 0),
        ('data.train.split', 'testing'),
        ('data.train.pipeline.0.type', 'PointsRangeFilter'),
        ('optimizer.weight_decay', 0.1),
        ('optimizer.paramwise_cfg.custom_keys.img_neck', dict(lr_mult=0.2)),
        ('optimizer_config.grad_clip.max_norm', 35),
        ('optimizer_config.cumulative_iters', 2),
        ('lr_config.warmup', None),
        ('evaluation.save_best', 'NDS'),
        ('checkpoint_config.max_keep_ckpts', 2),
        ('load_from', 'x.pth'),
        ('distiller.terms.bev.tau', 2),
        ('evaluation.rule', 'greater'),
        ('evaluation.evaluator', 'devkit'),
        ('compute', dict(dtype='bf16')),
        ('+anything.at_all', 1),
    ],
)
def test_what_is_there_or_is_an_argument_can_be_set(cfg: Config, key: str, value: Any) -> None:
    if key == 'distiller.terms.bev.tau':
        cfg.distiller.terms.bev.type = 'ChannelWiseKL'
    override(cfg, {key: value})
    node: Any = cfg
    for part in key.removeprefix('+').split('.'):
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert node == value


@pytest.mark.parametrize(
    ('key', 'meant'),
    [
        ('optimzer.lr', "did you mean 'optimizer'"),
        ('modle.type', "did you mean 'model'"),
        ('runner.max_epoch', "did you mean 'max_epochs'"),
        ('model.img_nek.num_outs', "did you mean 'img_neck'"),
        ('model.img_neck.num_out', "did you mean 'num_outs'"),
        ('model.test_cfg.score_thrr', "did you mean 'score_thr'"),
        ('data.train.pipelin', "did you mean 'pipeline'"),
        ('model.img_neck.in_channels.0', 'give all of model.img_neck.in_channels'),
        ('data.train.pipeline.3.type', 'has 1 entries'),
        ('data.sample_per_gpu', "did you mean 'samples_per_gpu'"),
        ('lr_config.min_lr_ration', "did you mean 'min_lr_ratio'"),
        ('optimizer.learning_rate', 'optimizer has no'),
        ('optimizer.lr.value', 'which has no'),
        ('distiller.teacher.chekpoint', "did you mean 'checkpoint'"),
        ('distiller.terms.bev_l2.weight', "did you mean 'bev'"),
        ('distiller.terms.bev.wieght', "did you mean 'weight'"),
    ],
)
def test_what_fits_nothing_is_refused_with_what_was_meant(cfg: Config, key: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        override(cfg, {key: 1})
    assert str(caught.value).startswith(f'--cfg-options {key}: ')
    assert meant in str(caught.value)


def test_a_part_of_a_fixed_class_has_its_arguments() -> None:
    """Parts without a type, as BEVFormer's encoder, whose class nobody chooses."""
    cfg = load_config('bevformer_small.py')
    place = 'model.pts_bbox_head.transformer.encoder'
    override(cfg, {f'{place}.with_cp': True})
    assert cfg.model.pts_bbox_head.transformer.encoder.with_cp
    with pytest.raises(UserError, match="encoder has no 'with_pc'; did you mean 'with_cp'"):
        override(cfg, {f'{place}.with_pc': True})
