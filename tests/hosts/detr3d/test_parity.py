"""What the original DETR3D computed from given weights and a real keyframe, ours computes too."""

import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmdet.models import DETECTORS
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor, nn

from projects.mmdet3d_plugin import hosts  # noqa: F401  registers the hosts
from projects.mmdet3d_plugin.ops.library import pure_torch
from tests.factories import PC_RANGE

PARITY = Path(os.environ.get('FD_SHARED', '../shared')) / 'data' / 'parity' / 'parity_detr3d_pint.pt'
MODEL = dict(
    type='DETR3D',
    use_grid_mask=False,
    img_backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=16,
        stem_channels=16,
        out_indices=(1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
    ),
    img_neck=dict(
        type='FPN', in_channels=[32, 64, 128], out_channels=32, add_extra_convs='on_output', num_outs=4
    ),
    pts_bbox_head=dict(
        type='DETR3DHead',
        num_query=30,
        num_classes=10,
        pc_range=PC_RANGE,
        box_convention='legacy',
        transformer=dict(
            type='DETR3DTransformer',
            embed_dims=32,
            num_cams=6,
            num_levels=4,
            decoder=dict(num_layers=2, num_heads=8, feedforward_dims=32, dropout=0.0),
        ),
        bbox_coder=dict(post_center_range=[-61.2, -61.2, -10.0, 61.2, 61.2, 10.0], max_num=20),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=0.25),
    ),
)
# The boxes that the original matched with its queries, layer by layer. Its costs have ties (two queries between two boxes
# cost the same either way round), which the last bit decides.
MATCHES = torch.tensor(
    [
        [18, 44, 63, 65, 15, 58, 61, 66, 12, 34, 27, 41, 10, 39, 14, 4, 25, 53, 23, 42, 62, 9, 59, 49, 67, 32, 11, 24, 30, 7],
        [65, 66, 16, 64, 25, 44, 14, 18, 41, 10, 11, 22, 63, 32, 27, 12, 9, 67, 30, 58, 62, 42, 24, 59, 23, 61, 34, 15, 37, 53],
    ]
)  # fmt: skip


@pytest.fixture(scope='module')
def original() -> dict[str, Any]:
    if not PARITY.exists():
        pytest.skip(f'{PARITY} is not there: it holds what the original computed')
    return torch.load(PARITY, weights_only=True)


@pytest.fixture(scope='module')
def batch(original: dict[str, Any]) -> dict[str, Any]:
    h, w = original['img'].shape[-2:]
    meta = dict(
        lidar2img=original['lidar2img'].numpy(), img_shape=[(h, w, 3)] * 6, box_type_3d=LiDARInstance3DBoxes
    )
    return dict(img=original['img'][:, None], img_metas=[[meta]])


@pytest.fixture(scope='module')
def model(original: dict[str, Any]) -> nn.Module:
    model = DETECTORS.build(MODEL).double()
    model.load_state_dict(original['state'])
    return model.train()


def test_features_scores_and_boxes(original: dict[str, Any], batch: dict[str, Any], model: nn.Module) -> None:
    with torch.no_grad():
        feats = model.extract_feat(batch['img'][:, 0])
        outs = model.predict_raw(**batch)
        with pure_torch():
            plain = model.predict_raw(**batch)
    for ours, theirs in zip(feats, original['feats'], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    for found in (outs, plain):
        torch.testing.assert_close(found['all_cls_scores'], original['cls'], rtol=0, atol=1e-9)
        torch.testing.assert_close(found['all_bbox_preds'], original['box'], rtol=0, atol=1e-9)


def as_the_original_saw_them(boxes: Tensor) -> SimpleNamespace:
    """Boxes (n, 9) of the v1.0 convention, rounded to float32 where the original did: after turning yaw to its own."""
    legacy_yaw = -boxes[:, 6:7] - math.pi / 2
    wrapped = LiDARInstance3DBoxes(boxes, box_dim=9, origin=(0.5, 0.5, 0.5))
    exact = torch.cat([boxes[:, :6].double(), -legacy_yaw.double() - math.pi / 2, boxes[:, 7:].double()], 1)
    return SimpleNamespace(gravity_center=wrapped.gravity_center.double(), tensor=exact)


def test_matching_costs_what_it_cost_the_original(original: dict[str, Any], model: nn.Module) -> None:
    head, queries = model.pts_bbox_head, torch.arange(30)
    scores, codes, labels = original['cls'][:, 0], original['box'][:, 0], original['labels']
    gt_codes = head._gt_codes(as_the_original_saw_them(original['gt_v1']), codes)
    cost = head.assigner.cost(scores, codes, labels, gt_codes)
    for layer, (query, box) in enumerate(head.assigner(scores, codes, labels, gt_codes)):
        theirs = cost[layer, queries, MATCHES[layer]].sum()
        torch.testing.assert_close(cost[layer, query, box].sum(), theirs, rtol=0, atol=1e-9)


def test_losses_and_gradients(
    original: dict[str, Any], batch: dict[str, Any], model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(torch.arange(30), boxes) for boxes in MATCHES]
    monkeypatch.setattr(model.pts_bbox_head, 'assigner', lambda *_: pairs)
    boxes = as_the_original_saw_them(original['gt_v1'])
    losses = model.forward_train(**batch, gt_bboxes_3d=[boxes], gt_labels_3d=[original['labels']])
    assert losses.keys() == original['losses'].keys()
    for name, value in original['losses'].items():
        assert losses[name].item() == pytest.approx(value, abs=1e-6), name
    model.zero_grad()
    sum(losses.values()).backward()
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
    assert norms == pytest.approx(original['grads'], rel=1e-6)
