"""BEVFormer as a whole: batches, history, memory, modes, losses."""

import copy

import numpy as np
import pytest
import torch
from mmcv import ConfigDict
from torch import nn

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.bevformer.config_check import check_bevformer
from tests.factories import NUM_CAMS, frame_batch, frame_meta, pint_bevformer, pint_bevformer_config

OUTPUTS = {'bev_embed': 0, 'all_cls_scores': 1, 'all_bbox_preds': 1}


@pytest.fixture(scope='module')
def model() -> nn.Module:
    return pint_bevformer()


def sample_of(batch: dict, i: int) -> dict:
    return {key: value[i : i + 1] for key, value in batch.items()}


@pytest.mark.parametrize('queue', [1, 3])
def test_batch_equals_samples_one_by_one(model: nn.Module, queue: int) -> None:
    batch = frame_batch([0, 1, 2], queue)
    if queue > 1:  # a batch in which one sample's scene starts in the middle of the queue
        batch['img_metas'][1][1] = frame_meta(77, exists=False)
    with torch.no_grad():
        joint = model.predict_raw(batch['img'], batch['img_metas'])
        for i in range(3):
            one = sample_of(batch, i)
            alone = model.predict_raw(one['img'], one['img_metas'])
            for key, dim in OUTPUTS.items():
                torch.testing.assert_close(joint[key].narrow(dim, i, 1), alone[key], rtol=1e-4, atol=1e-4)


def test_history_matters_only_where_it_exists(model: nn.Module) -> None:
    batch = frame_batch([0], queue=2)
    other = copy.deepcopy(batch)
    other['img'][:, 0] = 0
    with torch.no_grad():
        a, b = (model.predict_raw(x['img'], x['img_metas'])['bev_embed'] for x in (batch, other))
        assert (a - b).abs().max() > 1e-3
        for x in (batch, other):
            x['img_metas'][0][1] = frame_meta(5, exists=False)
        a, b = (model.predict_raw(x['img'], x['img_metas'])['bev_embed'] for x in (batch, other))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_history_in_an_augmented_world_is_refused(model: nn.Module) -> None:
    batch = frame_batch([0], queue=2)
    batch['img_metas'] = [[{**meta, 'bda': np.eye(4)} for meta in batch['img_metas'][0]]]
    with pytest.raises(UserError, match='queue_length=1'):
        model.forward_train(**batch)
    with torch.no_grad():  # one frame has no motion
        model.predict_raw(batch['img'][:, 1:], [batch['img_metas'][0][1:]])


def test_history_leaves_every_mode_as_it_was(model: nn.Module) -> None:
    model = copy.deepcopy(model).train()
    model.img_backbone.layer1.eval()
    before = [m.training for m in model.modules()]
    batch = frame_batch([0], queue=3)
    first = model.history_bev(batch['img'], batch['img_metas'])
    assert [m.training for m in model.modules()] == before
    again = model.history_bev(batch['img'], batch['img_metas'])
    torch.testing.assert_close(first, again, rtol=0, atol=0)  # no dropout, no GridMask
    assert not first.requires_grad


def test_memory_equals_queue_and_forgets_at_scene_ends(model: nn.Module) -> None:
    batch = frame_batch([3], queue=3)
    memory = model.new_memory()
    for t in range(3):
        streamed = model.forward_test(batch['img'][:, t : t + 1], [[batch['img_metas'][0][t]]], memory=memory)
    queued = model.forward_test(batch['img'], batch['img_metas'])
    torch.testing.assert_close(streamed[0]['scores_3d'], queued[0]['scores_3d'])

    stranger = frame_meta(9, token='z', prev_token='y')
    img = batch['img'][:, :1]
    alone = model.forward_test(img, [[stranger]], memory=model.new_memory())
    after_gap = model.forward_test(img, [[stranger]], memory=memory)
    torch.testing.assert_close(alone[0]['scores_3d'], after_gap[0]['scores_3d'], rtol=0, atol=0)


def test_previous_bev_is_never_written_to(model: nn.Module) -> None:
    batch = frame_batch([0])
    prev = torch.randn(1, 120, 32)
    kept = prev.clone()
    with torch.no_grad():
        model.predict_raw(batch['img'], batch['img_metas'], prev)
    assert torch.equal(prev, kept)


def test_every_parameter_learns_and_tf32_flags_stay() -> None:
    model = pint_bevformer().train()
    flags = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    losses = model.forward_train(**frame_batch([0, 1], queue=2))
    sum(losses.values()).backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert flags == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)


def test_a_scene_without_objects_gives_finite_losses() -> None:
    model = pint_bevformer().train()
    batch = frame_batch([0])
    batch['gt_bboxes_3d'] = [batch['gt_bboxes_3d'][0][:0]]
    batch['gt_labels_3d'] = [batch['gt_labels_3d'][0][:0]]
    losses = model.forward_train(**batch)
    assert all(loss.isfinite() for loss in losses.values())
    assert losses['loss_bbox'] == 0
    sum(losses.values()).backward()


def test_gradient_checkpointing_changes_nothing() -> None:
    batch, grads = frame_batch([0], queue=2), []
    for with_cp in (False, True):
        model = pint_bevformer()
        model.pts_bbox_head.transformer.encoder.with_cp = with_cp
        sum(model.forward_train(**batch).values()).backward()
        grads.append(model.img_neck.lateral_convs[0].conv.weight.grad)
    torch.testing.assert_close(*grads)


def test_wrong_number_of_cameras_is_named(model: nn.Module) -> None:
    batch = frame_batch([0])
    with pytest.raises(ValueError, match=f'5 cameras, but num_cams={NUM_CAMS}'):
        model.predict_raw(batch['img'][:, :, :5], batch['img_metas'])


def test_train_step_sums_the_losses() -> None:
    model = pint_bevformer().train()
    out = model.train_step(frame_batch([0, 1]), None)
    assert out['num_samples'] == 2
    assert out['loss'].item() == pytest.approx(
        sum(v for k, v in out['log_vars'].items() if k != 'loss'), rel=1e-5
    )


def test_a_bevformer_without_an_encoder_is_refused() -> None:
    cfg = pint_bevformer_config()
    del cfg['pts_bbox_head']['transformer']['encoder']
    with pytest.raises(UserError, match='needs a transformer with an encoder'):
        build_model(ConfigDict(cfg))
    cfg = load_config('bevformer_near_student.py')
    cfg.model.pts_bbox_head.transformer.encoder = None
    with pytest.raises(UserError, match=r'transformer\.encoder is missing'):
        check_bevformer(cfg)
