"""Boxes of dense heads that remember their row."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from mmcv import ConfigDict
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.hosts.two_stage.dense_candidates import candidates_of
from tests.lidar_factories import centerpoint_config, lidar_batch, mvx_config, pillar_config

HOSTS = {'anchors': pillar_config, 'levels': mvx_config, 'cells': centerpoint_config}


def outputs_of(kind: str) -> tuple[nn.Module, Any, list[dict]]:
    """A dense head with lively weights, its outputs of two clouds, and their metas."""
    torch.manual_seed(0)
    model = build_model(ConfigDict(HOSTS[kind]())).eval()
    for name, weight in model.named_parameters():
        if 'bbox_head' in name and weight.dim() > 1:
            weight.data.mul_(8)
    head = getattr(model, 'bbox_head', None) or model.pts_bbox_head
    batch = lidar_batch([0, 1])
    with torch.no_grad():
        return (
            head,
            head(model.bev_features(batch['points'], *([None, None] * (kind == 'levels')))),
            batch['img_metas'],
        )


def cell_rows(head: nn.Module, outputs: Any, sample: int) -> Iterator[tuple[Tensor, Callable[[], Tensor]]]:
    """By the definition of a row: the logits of all classes (3,), and what makes the box (9,), one by one."""
    first = 0
    for (task,) in outputs:
        maps = {key: value[sample] for key, value in task.items()}
        classes, height, width = maps['heatmap'].shape
        for y, x in np.ndindex(height, width):
            logits = torch.full((3,), -torch.inf)
            logits[first : first + classes] = maps['heatmap'][:, y, x]
            code = {key: value[:, y, x] for key, value in maps.items()}

            def box(code: dict[str, Tensor] = code, x: int = x, y: int = y) -> Tensor:
                place = (torch.tensor([x, y]) + code['reg']) * 0.4 + torch.tensor([0.0, -3.2])
                size = code['dim'].exp()
                bottom = code['height'] - size[2] / 2
                return torch.cat([place, bottom, size, torch.atan2(*code['rot'])[None], code['vel']])

            yield logits, box
        first += classes


def anchor_rows(head: nn.Module, outputs: Any, sample: int) -> Iterator[tuple[Tensor, Callable[[], Tensor]]]:
    """The same of an anchor head."""
    anchors = head.anchor_generator.grid_anchors([level.shape[-2:] for level in outputs[0]], device='cpu')
    for flat, *maps in zip(anchors, *outputs, strict=True):
        scores, codes, turns = (level[sample] for level in maps)
        _, height, width = scores.shape
        row = iter(flat.reshape(-1, 7))
        for y, x, a in np.ndindex(height, width, len(scores) // 3):
            anchor, code, turn = next(row), codes[a * 7 : a * 7 + 7, y, x], turns[a * 2 : a * 2 + 2, y, x]

            def box(anchor: Tensor = anchor, code: Tensor = code, turn: Tensor = turn) -> Tensor:
                found = head.bbox_coder.decode(anchor[None], code[None])[0]
                found[6] = (
                    (found[6] - head.dir_offset) % torch.pi + head.dir_offset + torch.pi * turn.argmax()
                )
                return found

            yield scores[a * 3 : a * 3 + 3, y, x], box


@pytest.mark.parametrize('kind', HOSTS)
def test_a_row_is_where_the_box_came_from(kind: str) -> None:
    head, outputs, _ = outputs_of(kind)
    if kind != 'cells':
        assert head.dir_limit_offset == 0
    for sample, found in enumerate(candidates_of(head, outputs, 30)):
        rows = (cell_rows if kind == 'cells' else anchor_rows)(head, outputs, sample)
        logits, makers = zip(*rows, strict=True)
        logits, boxes = torch.stack(logits), torch.stack([makers[i]() for i in found.indices])
        assert len(found.boxes) == 30
        torch.testing.assert_close(found.boxes, boxes, atol=1e-5, rtol=1e-5)
        best, labels = logits[found.indices].max(1)
        torch.testing.assert_close(found.scores, best.sigmoid())
        assert found.labels.tolist() == labels.tolist()
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        assert found.scores[-1] >= logits.sigmoid().amax(1).topk(30).values[-1] - 1e-6
        assert len(set(found.indices.tolist())) == 30


@pytest.mark.parametrize('kind', ['anchors', 'cells'])
def test_mmdet3d_finds_the_same_boxes(kind: str) -> None:
    head, outputs, metas = outputs_of(kind)
    found = candidates_of(head, outputs, 10**6)
    theirs = head.get_bboxes(outputs, metas) if kind == 'cells' else head.get_bboxes(*outputs, metas)
    for ours, (boxes, _, _) in zip(found, theirs, strict=True):
        assert len(boxes)
        gap = (boxes.tensor[:, None, :6] - ours.boxes[:, :6]).abs().amax(2)
        nearest = gap.min(1)
        assert nearest.values.max() < 1e-4
        turn = ours.boxes[nearest.indices, 6] - boxes.tensor[:, 6]
        torch.testing.assert_close(turn.cos(), torch.ones_like(turn))


def test_boxes_that_are_none_are_left_out() -> None:
    head, outputs, _ = outputs_of('anchors')
    outputs[1][0].fill_(torch.inf)
    assert [len(one.boxes) for one in candidates_of(head, outputs, 30)] == [0, 0]
    with pytest.raises(
        UserError, match=r'boxes of a Linear; heads whose boxes it takes: Anchor3DHead, CenterHead'
    ):
        candidates_of(nn.Linear(1, 1), outputs, 30)
