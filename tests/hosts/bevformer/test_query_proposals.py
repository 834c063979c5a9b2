"""Queries that start where a dense head on BEV sees something."""

import math

import pytest
import torch
from mmdet.models import DETECTORS
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.hosts.bevformer.query_proposals import BESIDE_A_PEAK, QueryProposals
from tests.factories import frame_batch, pint_bevformer_config

RANGE = [-8.0, -4.0, -5.0, 8.0, 4.0, 3.0]  # 16 cells of 1 m along x, 4 of 2 m along y


def _proposals() -> QueryProposals:
    torch.manual_seed(0)
    return QueryProposals(8, 3, (4, 16), RANGE, velocity_scale=5.0)


def test_a_box_that_the_dense_head_spells_out_is_where_the_first_query_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = _proposals()
    car = [2.3, 1.2, -0.5, 2.0, 1.0, 1.5, 0.3, 4.0, -1.0]
    boxes = LiDARInstance3DBoxes(torch.tensor([car]), box_dim=9, origin=(0.5, 0.5, 0.5))
    heatmap, codes, _ = stage.dense.targets(boxes, torch.tensor([1]), torch.device('cpu'))
    maps = heatmap[None].clamp(1e-3, 1 - 1e-3).logit(), codes[None]
    monkeypatch.setattr(stage.dense, 'forward', lambda _: maps)
    found = stage(torch.zeros(1, 64, 8), 5)
    low, high = torch.tensor(RANGE).view(2, 3)
    torch.testing.assert_close(found.reference[0, 0] * (high - low) + low, torch.tensor(car[:3]))
    expected = [0, 0, math.log(2), 0, 0, math.log(1.5), math.sin(0.3), math.cos(0.3), 0.8, -0.2]
    torch.testing.assert_close(found.codes[0, 0], torch.tensor(expected, dtype=torch.float32))
    assert found.logits[0, 0].argmax() == 1
    # Its neighbours stand back behind it, by class.
    beside = (maps[0] - found.logits[0].max()).amax() == 0
    assert beside
    assert found.logits[0, 1, 1] <= maps[0][0, 1, 2, 11] - BESIDE_A_PEAK + 1e-6


def test_two_samples_are_as_one_and_one() -> None:
    stage, bev = _proposals(), torch.randn(2, 64, 8)
    both, alone = stage(bev, 6), stage(bev[1:], 6)
    for name in ('reference', 'logits', 'codes', 'content', 'place'):
        torch.testing.assert_close(getattr(both, name)[1:], getattr(alone, name))


def test_the_head_starts_from_the_proposals_and_trains_both_stages() -> None:
    torch.manual_seed(0)
    config = pint_bevformer_config(proposals={})
    config['pts_bbox_head']['box_convention'] = 'v1.0'
    model = DETECTORS.build(config)
    model.init_weights()
    batch = frame_batch([0, 1])
    outs = model.train().predict_raw(batch['img'], batch['img_metas'])
    found = model.pts_bbox_head.proposals(outs['bev_embed'], 20)
    torch.testing.assert_close(outs['all_bbox_preds'][0, ..., 2:4], found.codes[..., 2:4])
    losses = model.forward_train(**batch)
    assert {'dense.loss_heatmap', 'dense.loss_box', 'loss_bbox', 'd0.loss_cls'} <= set(losses)
    sum(losses.values()).backward()
    stage = model.pts_bbox_head.proposals
    for part in (stage.content, stage.place, stage.dense.heatmap, stage.dense.box, model.img_backbone.conv1):
        assert part.weight.grad.abs().sum() > 0


def test_the_legacy_convention_is_refused() -> None:
    with pytest.raises(ValueError, match=r'BEVFormerHead: proposals=.*v1\.0'):
        DETECTORS.build(pint_bevformer_config(proposals={}))
