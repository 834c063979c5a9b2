"""Mining within the step: labels, points and the strong view."""

from typing import Any

import numpy as np
import pytest
import torch
from mmdet3d.core.bbox import LiDARInstance3DBoxes

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.hosts.voxel_host import VOXELS
from projects.mmdet3d_plugin.distill.targets.online_mining import OnlineMining


def boxes(*xs: float) -> LiDARInstance3DBoxes:
    return LiDARInstance3DBoxes(torch.tensor([(x, 1.0, -1.0, 4.0, 1.6, 1.5, 0.3) for x in xs]).reshape(-1, 7))


def sample() -> tuple[dict[str, Any], list[Detections]]:
    """A label at 10; the teacher sees it, a sure object at 20, an unsure one at 30, and noise at 40."""
    found = Detections(
        boxes(10.5, 20, 30, 40), torch.tensor([0.9, 0.8, 0.3, 0.05]), torch.tensor([0, 1, 0, 0])
    )
    points = torch.tensor([(x, 1.0, z, 0.5) for x in (10, 20, 30, 40) for z in (-0.5, -0.95)])
    batch = dict(
        points=[points],
        gt_bboxes_3d=[boxes(10)],
        gt_labels_3d=[torch.tensor([2])],
        **{VOXELS: 'of the weak view'},
    )
    return batch, [found]


def test_sure_boxes_become_labels_and_unsure_points_go() -> None:
    batch, found = sample()
    before = batch['points'][0].clone()
    mined = OnlineMining(score_thr=0.6, rotate=0.0, scale=(1.0, 1.0), flip=0.0)(batch, found)
    assert mined['gt_labels_3d'][0].tolist() == [2, 1]
    torch.testing.assert_close(mined['gt_bboxes_3d'][0].tensor, boxes(10, 20).tensor)
    kept = mined['points'][0]
    torch.testing.assert_close(kept, before[[0, 1, 2, 3, 5, 6, 7]])  # the ground of the unsure one stays
    assert VOXELS not in mined
    assert torch.equal(batch['points'][0], before)
    assert len(batch['gt_bboxes_3d'][0]) == 1


@pytest.mark.parametrize('flip', [0.0, 1.0])
def test_the_strong_view_moves_points_and_boxes_together(flip: float) -> None:
    """A point in the middle of every box stays there; the student's world is another than the teacher's."""
    torch.manual_seed(0)
    mining = OnlineMining(rotate=0.7, scale=(0.9, 1.1), flip=flip)
    weak = boxes(10, 20, 30)
    points, strong = mining.strengthen(torch.cat([weak.gravity_center, torch.ones(3, 1)], 1), weak)
    torch.testing.assert_close(points[:, :3], strong.gravity_center, rtol=0, atol=1e-5)
    assert (points[:, 3] == 1).all()
    assert not torch.allclose(strong.tensor, weak.tensor, atol=0.1)
    ratio = (strong.tensor[:, 3:6] / weak.tensor[:, 3:6]).numpy()
    assert np.ptp(ratio) < 1e-5
    assert 0.9 <= ratio[0, 0] <= 1.1


def test_ignored_boxes_move_with_the_world_of_their_sample() -> None:
    """Two samples, each turned in its own way; in the first an ignored box lies where the label does, with its size."""
    torch.manual_seed(0)
    (first, found), (second, _) = sample(), sample()
    ignored = [boxes(10, 30).tensor, boxes().tensor]
    batch = {key: first[key] + second[key] for key in ('points', 'gt_bboxes_3d', 'gt_labels_3d')}
    strong = OnlineMining(rotate=0.7, scale=(0.9, 1.1), flip=1.0)(
        batch | dict(gt_bboxes_ignore=ignored), found * 2
    )
    moved = strong['gt_bboxes_ignore']
    torch.testing.assert_close(moved[0][:1], strong['gt_bboxes_3d'][0].tensor[:1])
    assert not torch.allclose(moved[0], ignored[0], atol=0.1)
    apart = strong['gt_bboxes_3d'][0].tensor.diff(dim=0)  # from 10 to 20, so that 30 is as far again
    torch.testing.assert_close(moved[0].diff(dim=0), 2 * apart)
    assert moved[1].shape == (0, 7)
    assert torch.equal(ignored[0], boxes(10, 30).tensor)  # those of the weak view are as they were


def test_nothing_is_mined_from_nothing() -> None:
    batch, _ = sample()
    none = Detections(boxes(), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    mined = OnlineMining(rotate=0.0, scale=(1.0, 1.0), flip=0.0)(batch, [none])
    assert torch.equal(mined['points'][0], batch['points'][0])
    assert mined['gt_labels_3d'][0].tolist() == [2]
    unlabelled = {**batch, 'gt_bboxes_3d': [boxes()], 'gt_labels_3d': [torch.zeros(0, dtype=torch.long)]}
    found = Detections(boxes(30), torch.tensor([0.3]), torch.tensor([0]))
    assert len(OnlineMining()(unlabelled, [found])['points'][0]) == 7
    with pytest.raises(UserError, match='two ascending factors'):
        OnlineMining(scale=(1.1, 0.9))
    for wrong in (dict(flip=2.0), dict(least_score=-0.1), dict(rotate=45.0)):
        with pytest.raises(UserError, match=f'{next(iter(wrong))} is .* must lie between 0 and'):
            OnlineMining(**wrong)
