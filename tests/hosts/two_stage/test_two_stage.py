"""Detectors with a second stage, kept whole."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import torch
from mmcv import ConfigDict
from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.hosts.two_stage.box_overlap import covered_share
from projects.mmdet3d_plugin.hosts.two_stage.proposals import Proposals
from projects.mmdet3d_plugin.hosts.two_stage.roi_targets import assign_targets
from tests.lidar_factories import (
    emptied,
    fresh,
    lidar_batch,
    one_view,
    total,
    two_stage_centerpoint_config,
    two_stage_config,
    voxel_rcnn_config,
)

HOSTS = {'anchors': two_stage_config, 'cells': two_stage_centerpoint_config, 'voxels': voxel_rcnn_config}


def detector(make: Callable[[], dict[str, Any]], **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(ConfigDict(fresh({**make(), **changes})))
    model.init_weights()
    return model


def results_of(model: nn.Module, batch: dict[str, Any]) -> list[dict[str, Any]]:
    found = model(return_loss=False, points=[batch['points']], img_metas=[batch['img_metas']])
    return [one.get('pts_bbox', one) for one in found]


@pytest.mark.parametrize('kind', HOSTS)
def test_both_stages_learn_and_the_second_answers(kind: str) -> None:
    model = detector(HOSTS[kind])
    losses = model.forward_train(**lidar_batch([0, 1]))
    assert {'loss_rcnn_iou', 'loss_rcnn_box', 'loss_rcnn_corner'} < set(losses)
    total(losses).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]
    second = sum(loss for name, loss in model.forward_train(**lidar_batch([0, 1])).items() if 'rcnn' in name)
    model.zero_grad()
    second.backward()
    reached = {
        name.split('.')[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert 'roi_head' in reached
    assert any('backbone' in name or 'middle_encoder' in name for name in reached)
    assert not any('bbox_head' in name for name in reached)  # proposals are taken as given

    model.eval()
    ours = results_of(model, lidar_batch([0, 1]))
    adapter = adapter_for(model)
    with torch.no_grad():
        outputs = adapter.infer(model, lidar_batch([0, 1]))
        detections = adapter.detect(model, lidar_batch([0, 1]), outputs)
    for one, other in zip(ours, detections, strict=True):
        assert 0 < len(one['scores_3d']) <= 10
        assert torch.equal(one['boxes_3d'].tensor, other.boxes.tensor)
        assert torch.equal(one['scores_3d'], other.scores)
    alone = [results_of(model, lidar_batch([seed]))[0]['scores_3d'] for seed in (0, 1)]
    torch.testing.assert_close([one['scores_3d'] for one in ours], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kind', HOSTS)
def test_clouds_without_points(kind: str) -> None:
    model = detector(HOSTS[kind])
    for which, outside in (([0], False), ([1], True), ([0, 1], True)):
        batch = emptied(lidar_batch([0, 1]), which, outside)
        loss = total(model.train().forward_train(**batch))
        loss.backward()
        assert loss.isfinite()
        found = [len(one['scores_3d']) for one in results_of(model.eval(), batch)]
        assert [count == 0 for count in found] == [i in which for i in range(2)]


@pytest.mark.parametrize('kind', ['anchors', 'cells'])
def test_in_ignored_boxes_neither_stage_learns(kind: str) -> None:
    """As under sparse labels: anchors or cells there are left out, and so are proposals, of which the second stage is not
    told that they are background."""
    cfg = HOSTS[kind]()
    for assigner in cfg['train_cfg'].get('assigner', []):
        assigner['ignore_iof_thr'] = 0.3
    model, batch, seen = detector(lambda: cfg), lidar_batch([0, 1]), []
    model.roi_head.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    whole = model.forward_train(**batch)
    plain = seen[-1]
    box = plain.boxes[plain.remembered & (plain.batch_index == 0)][:1]
    ignored = [box, box[:0]]
    losses = model.forward_train(**batch, gt_bboxes_ignore=ignored)
    before, after = (
        total({name: loss for name, loss in found.items() if 'cls' in name or 'heatmap' in name})
        for found in (whole, losses)
    )
    assert after < before
    left, mine = seen[-1], plain.batch_index == 0
    assert 0 < len(left) < len(plain)
    assert (left.batch_index == 1).sum() == (~mine).sum()
    share = covered_share(left.boxes[left.remembered & (left.batch_index == 0)], box)
    assert not (share > 0.3).any()
    assert (covered_share(plain.boxes[mine], box) > 0.3).any()


def test_a_label_in_an_ignored_box_counts() -> None:
    """Proposals on an object are trained on, whatever box to be ignored reaches over it."""
    head, batch = detector(two_stage_config).roi_head, lidar_batch([0])
    (truth,), (labels,) = [boxes.tensor for boxes in batch['gt_bboxes_3d']], batch['gt_labels_3d']
    beside = truth.clone()
    beside[:, 1] += 0.6 * truth[:, 4]
    proposals = Proposals(
        boxes=torch.cat([truth, beside]),
        scores=torch.ones(2 * len(truth)),
        labels=labels.repeat(2),
        indices=torch.arange(2 * len(truth)),
        batch_index=torch.zeros(2 * len(truth), dtype=torch.long),
        rows=2 * len(truth),
        velocities=torch.zeros(2 * len(truth), 0),
    )
    ignored = truth * torch.tensor([1, 1, 1, 3, 3, 1, 1])
    trained: list[Proposals] = []

    def refine(sampled: Proposals, *_: object) -> None:
        trained.append(sampled)

    far = ignored + torch.tensor([100.0, 0, 0, 0, 0, 0, 0])
    matching = 'projects.mmdet3d_plugin.hosts.two_stage.roi_head.assign_targets'
    with (
        patch.object(head, 'refine', refine),
        patch.object(head, 'losses'),
        patch(matching, wraps=assign_targets) as matched,
    ):
        for unsure in (None, [ignored], [far]):
            head.training_losses(proposals, torch.zeros(0), [], [truth], [labels], unsure)
    before, after, without = (some.boxes[some.remembered] for some in trained)
    assert torch.equal(before, proposals.boxes)
    assert torch.equal(after, truth)
    assert torch.equal(without, proposals.boxes)
    # only what lies in an ignored box is matched before the sample is drawn
    assert [len(call.args[0]) for call in matched.call_args_list] == [len(proposals), 0]


def test_velocities_stay_the_first_stages() -> None:
    """As on nuScenes: both stages learn from objects that move, and final boxes have the velocity of their proposal."""
    model = detector(lambda: two_stage_centerpoint_config(velocity=True))
    batch = lidar_batch([0, 1], box_dim=9)
    total(model.forward_train(**batch)).backward()
    assert all(weight.grad is not None for weight in model.parameters())
    adapter = adapter_for(model.eval())
    with torch.no_grad():
        outputs = adapter.infer(model, batch)
    proposals = outputs.refined.proposals
    said = torch.cat([task['vel'].flatten(2) for task in outputs.heads], 2).transpose(1, 2)
    assert torch.equal(proposals.velocities, said[proposals.batch_index, proposals.indices])
    assert proposals.velocities.any()
    whole = torch.cat([outputs.refined.boxes, proposals.velocities], 1)
    for one, same in zip(adapter.detect(model, batch, outputs), results_of(model, batch), strict=True):
        boxes = one.boxes.tensor
        assert boxes.shape[1] == 9
        assert len(boxes) > 0
        assert (boxes[:, None] == whole).all(2).any(1).all()
        assert torch.equal(boxes, same['boxes_3d'].tensor)


def test_the_first_stage_is_a_plain_detector() -> None:
    """Weights of a detector without a second stage load by name, and its taps are the same."""
    plain = {key: value for key, value in two_stage_config().items() if key != 'roi_head'}
    plain = detector(lambda: dict(plain, type='VoxelNet'))
    whole = detector(two_stage_config)
    missing = whole.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(name.startswith('roi_head.') for name in missing.missing_keys)
    aliases = [adapter_for(model).aliases(model) for model in (plain, whole)]
    assert [tap.path for tap in aliases[1].pop('second_stage')] == ['roi_head']
    assert [tap.path for taps in aliases[0].values() for tap in taps] == [
        tap.path for taps in aliases[1].values() for tap in taps
    ]


def test_what_a_config_gets_wrong() -> None:
    cfg = two_stage_config()
    cfg['roi_head']['features'][0]['maps'] = dict(stage_7=8)
    with pytest.raises(UserError, match=r"reads 'stage_7', but TwoStageVoxelNet has no 'backbone.blocks.7'"):
        detector(lambda: cfg).forward_train(**lidar_batch([0]))
    cfg['roi_head']['features'][0]['maps'] = dict(neck=8)
    with pytest.raises(UserError, match="a second stage cannot read 'neck'"):
        detector(lambda: cfg).forward_train(**lidar_batch([0]))
    views = one_view([0])
    with pytest.raises(UserError, match='TwoStageVoxelNet looks at one view of each cloud'):
        detector(two_stage_config)(
            return_loss=False, points=views['points'] * 2, img_metas=views['img_metas'] * 2
        )
