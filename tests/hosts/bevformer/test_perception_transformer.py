"""The switches that reproduce what the published weights were trained with."""

import pytest
import torch
from mmdet.models import DETECTORS

from projects.mmdet3d_plugin.hosts.bevformer.bevformer_encoder import PreviousBEV
from tests.factories import frame_batch, pint_bevformer, pint_bevformer_config


def bev_with(legacy: list[str]) -> torch.Tensor:
    model = pint_bevformer()
    transformer = model.pts_bbox_head.transformer
    transformer.encoder.legacy_shift = 'shift' in legacy
    transformer.rotate_center = (100.0, 100.0) if 'rotate_center' in legacy else None
    batch = frame_batch([4], queue=2)
    with torch.no_grad():
        return model.predict_raw(batch['img'], batch['img_metas'])['bev_embed']


@pytest.mark.parametrize('quirk', ['shift', 'rotate_center'])
def test_each_quirk_changes_the_bev_feature(quirk: str) -> None:
    assert (bev_with([]) - bev_with([quirk])).abs().max() > 1e-4


def test_legacy_shift_moves_both_maps() -> None:
    encoder = pint_bevformer().pts_bbox_head.transformer.encoder
    shift = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    previous = PreviousBEV(torch.zeros(2, 4, 8), torch.tensor([True, False]), shift)
    query = torch.zeros(2, 4, 8)
    still = encoder._plane_points(query, (2, 2), None)
    right = encoder._plane_points(query, (2, 2), previous) - still
    encoder.legacy_shift = True
    legacy = encoder._plane_points(query, (2, 2), previous) - still
    torch.testing.assert_close(right[0, 0], shift[0].expand(4, 2))
    assert right[0, 1].abs().max() == 0
    torch.testing.assert_close(legacy[0, 1], shift[0].expand(4, 2))
    assert legacy[1].abs().max() == 0  # no previous frame, no shift


def test_unknown_quirk_is_named() -> None:
    config = pint_bevformer_config()
    config['pts_bbox_head']['transformer']['legacy'] = ['shfit']
    with pytest.raises(ValueError, match=r"legacy=\['shfit'\]"):
        DETECTORS.build(config)
