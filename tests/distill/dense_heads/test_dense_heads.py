"""Where logits and codes of dense heads lie, against mmdet3d's own decoding and targets."""

from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import Recorder, stop_gradient
from tests.lidar_factories import centerpoint_config, lidar_batch, mvx_config, pillar_config


def outputs_of(cfg: dict[str, Any], box_dim: int = 7) -> tuple[Any, Any, Any]:
    """A detector, its dense head, and what its head gives for two samples, as constants."""
    torch.manual_seed(0)
    model = build_model(Config(dict(model=cfg)).model)
    adapter = adapter_for(model)
    (tap,) = adapter.taps(model, 'heads')
    with Recorder(model, [tap]) as recorder:
        adapter.losses(model, adapter.prepare(model, lidar_batch([0, 1], box_dim)))
    return model, adapter.dense_head(model), stop_gradient(tap.convert(recorder.pop()[tap.path]))


def no_velocity() -> dict[str, Any]:
    """CenterPoint whose boxes have 7 numbers."""
    cfg = centerpoint_config()
    cfg['pts_bbox_head']['common_heads'].pop('vel')
    cfg['pts_bbox_head']['bbox_coder']['code_size'] = 7
    cfg['train_cfg']['pts']['code_weights'] = [1.0] * 7 + [0.5]
    return cfg


def test_anchors_decode_to_the_hosts_boxes_and_back() -> None:
    """Rows are those of mmdet3d's decoder; a decoded box encodes to the code that it came from."""
    model, dense, outputs = outputs_of(pillar_config())
    head = model.bbox_head
    logits = dense.logits(outputs)
    anchors = head.anchor_generator.grid_anchors([outputs[0][0].shape[-2:]], device='cpu')[0].view(-1, 7)
    assert logits.shape == (2, len(anchors), 3)
    assert dense.map_size(outputs) == outputs[0][0].shape[-2:]
    sample, rows = torch.tensor([0, 1, 1]), torch.tensor([5, 0, len(anchors) - 1])
    codes = dense.codes(outputs, sample, rows)
    boxes = head.bbox_coder.decode(anchors[rows], codes)
    assert torch.allclose(dense.encode(outputs, rows, boxes), codes, atol=1e-4)
    assert dense.distance(codes, codes).abs().max() == 0
    turned = codes + torch.tensor([0, 0, 0, 0, 0, 0, torch.pi])
    assert dense.distance(codes, turned).abs().max() < 1e-5  # a yaw and its opposite are one
    # mmdet3d's own first box of a sample, before suppression, is that of the surest anchor
    found = head.get_bboxes(*outputs, lidar_batch([0, 1])['img_metas'])[1]
    best = logits[1].sigmoid().amax(1).argmax()
    own = head.bbox_coder.decode(anchors[best][None], dense.codes(outputs, torch.tensor([1]), best[None]))
    assert (found[0].tensor[:, :6] - own[:, :6]).abs().sum(1).min() < 1e-4


def test_cells_decode_to_the_hosts_boxes_and_back() -> None:
    """The code of a true box in its own cell is the target that mmdet3d computes."""
    model, dense, outputs = outputs_of(no_velocity())
    head, batch = model.pts_bbox_head, lidar_batch([0, 1])
    height, width = dense.map_size(outputs)
    assert dense.logits(outputs).shape == (2, height * width, 3)
    _, wanted, places, masks = head.get_targets(batch['gt_bboxes_3d'], batch['gt_labels_3d'])
    for task in range(2):
        for sample in range(2):
            count = int(masks[task][sample].sum())
            mine = torch.tensor([0, 1] if task == 0 else [2])
            assert count == len(mine)
            rows = places[task][sample][:count] + task * height * width
            codes = dense.encode(outputs, rows, batch['gt_bboxes_3d'][sample].tensor[mine])
            assert torch.allclose(codes, wanted[task][sample][:count], atol=1e-4)
    rows = torch.tensor([3, height * width + 3])
    assert dense.place(outputs, rows).tolist() == [3, 3]
    code = dense.codes(outputs, torch.tensor([0, 0]), rows)
    assert torch.equal(code[1, 2], outputs[1]['height'][0, 0].flatten()[3])
    weighed = dense.distance(code[:1], code[:1] + torch.tensor([0, 0, 0, 0, 0, 0, 0, 1.0]))
    assert weighed.item() == pytest.approx(0.25 * 0.5)  # the host's weight of its box loss and of this number


@pytest.mark.parametrize('config', [pillar_config, no_velocity])
def test_fresh_heads_are_new_and_of_the_same_kind(config: Any) -> None:
    _, dense, outputs = outputs_of(config())
    head = dense.fresh()
    own, new = dense.head.state_dict(), head.state_dict()
    assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in new.items()}
    assert any(not torch.equal(own[key], new[key]) for key in own if key.endswith('weight'))
    found = dense.run(head, torch.randn(2, dense.in_channels, *dense.map_size(outputs)))
    assert dense.logits(found).shape == dense.logits(outputs).shape
    assert dense.logits(found).sigmoid().mean() < 0.3  # starts from the host's prior
    before = dense.logits(found).clone()
    loss = dense.detection_loss(head, found, lidar_batch([0, 1]))
    loss.backward()
    assert torch.equal(before, dense.logits(found))  # logits are still logits
    assert all(p.grad is not None for p in head.parameters())
    assert all(p.grad is None for p in dense.head.parameters())


def test_what_cannot_be_is_told() -> None:
    _, dense, _ = outputs_of(mvx_config())
    with pytest.raises(DistillError, match='several levels'):
        dense.fresh()
    _, dense, outputs = outputs_of(pillar_config())
    with pytest.raises(DistillError, match='box_weight=0'):
        dense.encode(outputs, torch.tensor([0]), torch.zeros(1, 9))
