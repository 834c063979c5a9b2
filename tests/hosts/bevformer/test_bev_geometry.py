"""What makes headings and velocities learn in short schedules: places of cells, units, and balanced losses."""

import math

import torch

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.hosts.bevformer.bev_geometry import cell_facts
from projects.mmdet3d_plugin.hosts.bevformer.bevformer_head import CODE_WEIGHTS
from tests.factories import frame_batch, pint_bevformer


def test_facts_by_hand() -> None:
    facts = cell_facts((2, 4), [-8.0, -4.0, -5.0, 8.0, 4.0, 3.0])
    x, y = 6.0, -2.0  # first row, last column: cells of 4 m
    reach, angle = math.hypot(8, 4), math.atan2(y, x)
    expected = [x / reach, y / reach, math.hypot(x, y) / reach]
    expected += [math.cos(angle), math.sin(angle), math.cos(2 * angle), math.sin(2 * angle)]
    torch.testing.assert_close(facts[3], torch.tensor(expected))
    assert facts.abs().max() <= 1


def test_it_is_off_by_default_and_learns_when_on() -> None:
    plain, told = pint_bevformer(), pint_bevformer(bev_geometry=True)
    added = set(told.state_dict()) - set(plain.state_dict())
    assert added == {
        f'pts_bbox_head.bev_geometry.embed.{i}.{kind}' for i in (0, 2) for kind in ('weight', 'bias')
    }
    sum(told.train().forward_train(**frame_batch([0, 1])).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in told.pts_bbox_head.bev_geometry.parameters())


def test_velocity_scale_is_a_unit_of_the_branch_alone() -> None:
    batch = frame_batch([0])
    with torch.no_grad():
        one, five = (
            pint_bevformer(velocity_scale=scale).predict_raw(batch['img'], batch['img_metas'])[
                'all_bbox_preds'
            ]
            for scale in (1.0, 5.0)
        )
    torch.testing.assert_close(five[..., 8:], one[..., 8:] * 5)
    torch.testing.assert_close(five[..., :8], one[..., :8], rtol=0, atol=0)


def _share(weights: list[float], **head: object) -> float:
    """Gradient at the BEV feature that headings cause, relative to the one that places cause."""
    torch.manual_seed(0)
    batch = frame_batch([0, 1, 2])
    model = pint_bevformer(**head).pts_bbox_head
    norms = []
    for codes in ([6, 7], [0, 1]):
        model.code_weights.data = torch.zeros(10).index_copy(
            0, torch.tensor(codes), torch.tensor([weights[i] for i in codes])
        )
        bev = torch.randn(3, 120, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        losses = model.loss(batch['gt_bboxes_3d'], batch['gt_labels_3d'], model.decode(bev))
        boxes = sum(value for name, value in losses.items() if 'bbox' in name)
        norms.append(torch.autograd.grad(boxes, bev)[0].norm())
    return float(norms[0] / norms[1])


def test_place_drowns_headings_in_the_published_loss_and_not_in_the_pair_that_learns_them() -> None:
    pair = load_config('projects/configs/synthetic/bevformer_near_teacher.py').model.pts_bbox_head
    assert _share(list(CODE_WEIGHTS)) < 0.1
    assert _share(pair.code_weights, loss_bbox=dict(pair.loss_bbox)) > 0.15
