"""The auxiliary head that only training has."""

import math
from pathlib import Path

import pytest
import torch
from mmdet.models import DETECTORS
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.checkpoint import load_weights, write_checkpoint
from projects.mmdet3d_plugin.engine.export import export_student
from projects.mmdet3d_plugin.hosts.bevformer.dense_bev_head import REGRESSED, DenseBEVHead
from tests.factories import frame_batch, pint_bevformer_config

RANGE = [-8.0, -4.0, -5.0, 8.0, 4.0, 3.0]  # 16 cells of 1 m along x, 4 of 2 m along y


def _head() -> DenseBEVHead:
    torch.manual_seed(0)
    return DenseBEVHead(8, 3, (4, 16), RANGE)


def _boxes(*rows: list[float]) -> LiDARInstance3DBoxes:
    return LiDARInstance3DBoxes(torch.tensor(rows).view(-1, 9), box_dim=9, origin=(0.5, 0.5, 0.5))


def test_targets_by_hand() -> None:
    car = [2.25, 1.0, -0.5, 2.0, 1.0, 1.5, 0.3, 4.0, -1.0]
    heatmap, codes, weights = _head().targets(_boxes(car), torch.tensor([1]), torch.device('cpu'))
    row, column = 2, 10  # y = 1 lies in the third row of [-4, 4], x = 2.25 in the eleventh column of [-8, 8]
    assert (heatmap == 1).nonzero().tolist() == [[1, row, column]]
    assert heatmap[[0, 2]].sum() == 0
    assert weights[row, column] == 1
    expected = [-0.25, 0.0, math.log(2), 0.0, -0.5, math.log(1.5), math.sin(0.3), math.cos(0.3), 0.8, -0.2]
    torch.testing.assert_close(codes[:, row, column], torch.tensor(expected))
    # The neighbour is told about the same box, relative to itself, by how near it is.
    torch.testing.assert_close(codes[0, row, column + 1], torch.tensor(-1.25))
    assert REGRESSED <= weights[row, column + 1] == heatmap[1, row, column + 1] < 1
    assert weights[0, 0] == 0


def test_boxes_outside_and_unknown_velocities_are_not_asked_for() -> None:
    outside = [8.5, 0.0, 0.0, 2.0, 1.0, 1.5, 0.0, 0.0, 0.0]
    unknown = [0.5, 0.5, 0.0, 2.0, 1.0, 1.5, 0.0, math.nan, math.nan]
    heatmap, codes, weights = _head().targets(
        _boxes(outside, unknown), torch.tensor([0, 2]), torch.device('cpu')
    )
    assert heatmap[0].sum() == 0
    assert heatmap[2].max() == 1
    assert weights.sum() == 0
    assert codes.isfinite().all()


def test_no_boxes_give_a_finite_loss_that_teaches_the_background() -> None:
    head, bev = _head(), torch.randn(2, 64, 8, requires_grad=True)
    losses = head.loss(head(bev), [_boxes(), _boxes()], [torch.zeros(0, dtype=torch.long)] * 2)
    assert losses['dense.loss_box'] == 0
    sum(losses.values()).backward()
    assert bev.grad.isfinite().all()
    assert head.heatmap.bias.grad.gt(0).all()


def test_a_feature_that_spells_out_the_boxes_is_learned_heading_and_velocity_included() -> None:
    head = _head()
    cars = _boxes(
        [2.25, 1.0, -0.5, 2.0, 1.0, 1.5, 2.3, 4.0, -1.0], [-4.5, -3.0, -0.5, 2.0, 1.0, 1.5, -0.7, 0.0, 3.0]
    )
    labels = torch.tensor([1, 1])
    heatmap, codes, _ = head.targets(cars, labels, torch.device('cpu'))
    bev = torch.randn(1, 64, 8)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(250):
        optimizer.zero_grad()
        sum(head.loss(head(bev), [cars], [labels]).values()).backward()
        optimizer.step()
    logits, read = head(bev)
    assert ((logits[0].sigmoid() > 0.5) == (heatmap == 1)).all()
    for row, column in ((2, 10), (0, 3)):
        torch.testing.assert_close(read[0, :, row, column], codes[:, row, column], atol=0.1, rtol=0)


def test_it_exists_in_training_only_and_is_in_no_exported_student(tmp_path: Path) -> None:
    config = {**pint_bevformer_config(), 'dense_head': {}}
    built = DETECTORS.build(config)
    plain = set(built.state_dict())
    assert not any(name.startswith('dense_head.') for name in plain)

    trained = DETECTORS.build(config)
    trained.init_weights()
    assert set(trained.state_dict()) - plain == {
        f'dense_head.{part}.{kind}' for part in ('shared.0', 'heatmap', 'box') for kind in ('weight', 'bias')
    }
    whole, student = tmp_path / 'whole.pth', tmp_path / 'student.pth'
    write_checkpoint(whole, dict(meta={}, state_dict=trained.state_dict()))
    export_student(whole, student)
    assert set(torch.load(student, weights_only=True)['state_dict']) == plain
    load_weights(built, str(whole))  # strictly: testing, freezing as a teacher
    resumed = DETECTORS.build(config)
    resumed.init_weights()
    load_weights(resumed, str(whole))
    torch.testing.assert_close(resumed.dense_head.box.weight, trained.dense_head.box.weight, rtol=0, atol=0)


@pytest.mark.parametrize('dense', [None, {}])
def test_a_training_step_has_its_losses_only_when_asked(dense: dict | None) -> None:
    torch.manual_seed(0)
    model = DETECTORS.build({**pint_bevformer_config(), 'dense_head': dense})
    model.init_weights()
    batch = frame_batch([0, 1])
    losses = model.train().forward_train(**batch)
    assert ('dense.loss_box' in losses) == (dense is not None)
    if dense is not None:
        (losses['dense.loss_box'] + losses['dense.loss_heatmap']).backward()
        assert model.img_backbone.conv1.weight.grad.abs().sum() > 0  # it teaches the images' features
        assert model.pts_bbox_head.query_embedding.weight.grad is None
