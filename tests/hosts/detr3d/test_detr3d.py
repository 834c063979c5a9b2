"""DETR3D on made-up frames: batches, numbers of cameras, empty ground truth, and what its errors say."""

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.hosts.detr3d.camera_cross_attention import CameraViews
from projects.mmdet3d_plugin.hosts.detr3d.detr3d import DETR3D
from tests.factories import NUM_CAMS, frame_batch, pint_detr3d


@pytest.fixture(scope='module')
def model() -> DETR3D:
    return pint_detr3d()


def test_batch_of_two_equals_two_of_one(model: DETR3D) -> None:
    """Also where the images of the second sample are said to be larger, which the original took from the first."""
    batch = frame_batch([0, 1])
    batch['img_metas'][1][0]['img_shape'] = [(70, 120, 3)] * NUM_CAMS
    with torch.no_grad():
        both = model.predict_raw(batch['img'], batch['img_metas'])
        for i in range(2):
            one = model.predict_raw(batch['img'][i : i + 1], batch['img_metas'][i : i + 1])
            for key, value in one.items():
                torch.testing.assert_close(both[key][:, i : i + 1], value, rtol=1e-4, atol=1e-4)


def test_losses_reach_everything_that_learns(model: DETR3D) -> None:
    losses = model.forward_train(**frame_batch([0, 1]))
    assert set(losses) == {'loss_cls', 'loss_bbox', 'd0.loss_cls', 'd0.loss_bbox'}
    model.zero_grad()
    sum(losses.values()).backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent


def test_a_frame_without_objects_teaches_background(model: DETR3D) -> None:
    batch = frame_batch([0])
    batch['gt_bboxes_3d'][0], batch['gt_labels_3d'][0] = (
        batch['gt_bboxes_3d'][0][:0],
        batch['gt_labels_3d'][0][:0],
    )
    losses = model.forward_train(**batch)
    assert losses['loss_bbox'].item() == 0.0
    assert losses['loss_cls'].item() > 0.0


def test_results_are_boxes_of_the_last_frame(model: DETR3D) -> None:
    batch = frame_batch([0], queue=2)
    with torch.no_grad():
        found = model.forward_test(batch['img'], batch['img_metas'])
        last = model.forward_test(batch['img'][:, 1:], [queue[1:] for queue in batch['img_metas']])
    assert len(found[0]['boxes_3d']) == len(found[0]['scores_3d']) <= 15
    torch.testing.assert_close(found[0]['scores_3d'], last[0]['scores_3d'])


@pytest.mark.parametrize('cameras', [1, 5])
def test_any_number_of_cameras(cameras: int) -> None:
    model, batch = pint_detr3d(num_cams=cameras), frame_batch([0])
    meta = batch['img_metas'][0][0]
    meta |= dict(lidar2img=meta['lidar2img'][:cameras], img_shape=meta['img_shape'][:cameras])
    with torch.no_grad():
        outs = model.predict_raw(batch['img'][:, :, :cameras], batch['img_metas'])
    assert outs['all_bbox_preds'].isfinite().all()


def test_a_camera_that_shows_no_query_does_not_matter(model: DETR3D) -> None:
    batch = frame_batch([0])
    lidar2img = batch['img_metas'][0][0]['lidar2img'] = batch['img_metas'][0][0]['lidar2img'].copy()
    lidar2img[2] = np.diag([1.0, 1.0, -1.0, 1.0])  # everything lies behind it or beside it
    lidar2img[2, 2, 3] = -100.0
    noise = batch['img'].clone()
    noise[:, :, 2] = 7.0
    with torch.no_grad():
        one, two = (model.predict_raw(img, batch['img_metas']) for img in (batch['img'], noise))
    torch.testing.assert_close(one['all_bbox_preds'], two['all_bbox_preds'])


def test_padding_is_seen_only_as_published(model: DETR3D, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``valid_shape`` a point that falls below the image is not seen; without, padding is image."""
    transformer, batch = model.pts_bbox_head.transformer, frame_batch([0])
    meta = batch['img_metas'][0][0]
    meta['valid_shape'], places = [(20, 96, 3)] * NUM_CAMS, []
    project = CameraViews.project

    def spy(views: CameraViews, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places.append(project(views, reference))
        return places[-1]

    monkeypatch.setattr(CameraViews, 'project', spy)
    for valid_shape in (False, True):
        monkeypatch.setattr(transformer, 'valid_shape', valid_shape)
        with torch.no_grad():
            model.predict_raw(batch['img'], batch['img_metas'])
    (where, everywhere), (_, seen) = places[0], places[len(places) // 2]
    assert torch.equal(seen, everywhere & (where[..., 1] * meta['img_shape'][0][0] < 20))
    assert seen.sum() < everywhere.sum()


def test_mistakes_are_clear(model: DETR3D) -> None:
    batch = frame_batch([0])
    with pytest.raises(ValueError, match='come from 5 cameras, but num_cams=6'):
        model.predict_raw(batch['img'][:, :, :5], batch['img_metas'])
    batch['img_metas'][0][0]['lidar2img'] = np.full((6, 4, 4), np.nan)
    with pytest.raises(UserError, match="lidar2img of the frame 'b' holds a number that is not finite"):
        model.predict_raw(batch['img'], [[{**batch['img_metas'][0][0], 'sample_token': 'b'}]])
