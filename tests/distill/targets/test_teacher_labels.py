"""Label distillation: what is added to the ground truth, in which order, and what is not."""

import math
from typing import Any

import pytest
import torch
from mmcv import Config
from mmcv.ops import box_iou_rotated
from mmdet.models import DETECTORS
from mmdet3d.core.bbox import LiDARInstance3DBoxes
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, Detections, HostAdapter
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import ADAPTERS, DistillError
from projects.mmdet3d_plugin.distill.targets.teacher_labels import TeacherLabels, overlaps
from tests.lidar_factories import centerpoint_config, lidar_batch


def boxes(*places: tuple[float, float], size: tuple[float, float] = (4.0, 2.0), dim: int = 7) -> Any:
    rows = [[x, y, -1.0, *size, 1.5, 0.3] + [0.5] * (dim - 7) for x, y in places]
    return LiDARInstance3DBoxes(torch.tensor(rows).view(-1, dim), box_dim=dim)


def found(places: Any, scores: list[float], labels: list[int]) -> Detections:
    return Detections(places, torch.tensor(scores), torch.tensor(labels, dtype=torch.long))


def join(labels: TeacherLabels, truth: Any, names: list[int], *detections: Any) -> tuple[Any, Tensor]:
    batch = {
        'gt_bboxes_3d': [truth],
        'gt_labels_3d': [torch.tensor(names, dtype=torch.long)],
        'points': 'kept',
    }
    changed = labels(batch, [found(*detections)])
    assert changed['points'] == 'kept'
    assert batch['gt_bboxes_3d'][0] is truth
    return changed['gt_bboxes_3d'][0], changed['gt_labels_3d'][0]


def test_sure_boxes_come_after_the_ground_truth() -> None:
    teacher = boxes((20.0, 0.0), (30.0, 0.0), (40.0, 0.0))
    joined, names = join(TeacherLabels(0.6), boxes((0.0, 0.0)), [2], teacher, [0.7, 0.5, 0.9], [0, 1, 1])
    assert joined.tensor[:, 0].tolist() == [0.0, 40.0, 20.0]
    assert names.tolist() == [2, 1, 0]
    assert isinstance(joined, LiDARInstance3DBoxes)


def test_duplicates_are_dropped_whatever_their_class() -> None:
    """One lies on the ground truth, one on a surer box of the teacher, one beside both."""
    teacher = boxes((0.5, 0.2), (20.0, 0.0), (20.3, 0.1), (20.0, 4.0))
    joined, names = join(TeacherLabels(), boxes((0.0, 0.0)), [2], teacher, [0.9, 0.8, 0.7, 0.7], [0, 1, 2, 1])
    assert joined.tensor[:, :2].tolist() == [[0.0, 0.0], [20.0, 0.0], [20.0, 4.0]]
    assert names.tolist() == [2, 1, 1]


def test_boxes_in_single_images() -> None:
    """One of the teacher's lies on the ground truth, one is unsure, one is new; an image without objects gets boxes too."""
    truth = [torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(0, 4)]
    batch = dict(gt_bboxes=truth, gt_labels=[torch.tensor([3]), torch.zeros(0, dtype=torch.long)])
    teacher = found(
        torch.tensor([[1.0, 1, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]), [0.9, 0.7, 0.5], [0, 1, 1]
    )
    changed = TeacherLabels()(batch, [teacher, teacher])
    assert changed['gt_bboxes'][0].tolist() == [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert [labels.tolist() for labels in changed['gt_labels']] == [[3, 1], [0, 1]]
    assert batch['gt_bboxes'] is truth


def test_a_dropped_box_drops_no_other() -> None:
    """The second overlaps the first and goes; the third overlaps only the second and stays."""
    teacher = boxes((0.0, 0.0), (0.0, 1.2), (0.0, 2.4))
    joined, _ = join(TeacherLabels(0.1), boxes(), [], teacher, [0.9, 0.8, 0.7], [0, 0, 0])
    assert torch.allclose(joined.tensor[:, 1], torch.tensor([0.0, 2.4]))


def test_overlap_is_intersection_over_union_of_rotated_boxes() -> None:
    """Two 4 m x 2 m boxes at a right angle share 4 of 12 square metres."""
    teacher = boxes((0.0, 0.0))
    teacher.tensor[:, 6] += math.pi / 2
    for overlap, count in ((0.32, 1), (0.34, 2)):
        joined, _ = join(TeacherLabels(overlap=overlap), boxes((0.0, 0.0)), [0], teacher, [0.9], [0])
        assert len(joined) == count


def test_boxes_that_are_far_apart_are_not_compared_and_nothing_changes() -> None:
    """To the bit the operator's own answer, near and far, and of none."""
    torch.manual_seed(0)
    many = torch.rand(60, 7) * torch.tensor([40.0, 40, 2, 5, 2, 2, 6]) + torch.tensor(
        [0, 0, 0, 0.5, 0.5, 1, 0]
    )
    ours, theirs = LiDARInstance3DBoxes(many[:40]), LiDARInstance3DBoxes(many[20:])
    compared = overlaps(ours, theirs)
    assert torch.equal(compared, box_iou_rotated(ours.bev, theirs.bev))
    assert 20 < (compared > 0).sum() < compared.numel() / 4
    assert overlaps(ours[:0], theirs).shape == (0, 40)
    assert overlaps(ours, theirs[:0]).shape == (40, 0)


def test_published_order_and_duplicates() -> None:
    teacher = boxes((0.1, 0.0), (20.0, 0.0))
    joined, names = join(TeacherLabels(compat=True), boxes((0.0, 0.0)), [2], teacher, [0.7, 0.8], [0, 1])
    assert torch.allclose(joined.tensor[:, 0], torch.tensor([20.0, 0.1, 0.0]))
    assert names.tolist() == [1, 0, 2]


def test_limits_of_classes() -> None:
    teacher, scores = boxes((0.0, 0.0), (20.0, 0.0)), [0.55, 0.55]
    _, names = join(TeacherLabels([0.6, 0.5, 0.5]), boxes(), [], teacher, scores, [0, 1])
    assert names.tolist() == [1]
    with pytest.raises(DistillError, match='score_thr for 1 classes, but the teacher found label 1'):
        join(TeacherLabels([0.6]), boxes(), [], teacher, scores, [0, 1])


@pytest.mark.parametrize(('truth', 'teacher'), [(2, 0), (0, 2), (0, 0)])
@pytest.mark.parametrize('compat', [False, True])
def test_nothing_to_add_or_to_add_to(truth: int, teacher: int, compat: bool) -> None:
    ours, theirs = (
        boxes(*[(9.0 * i, 0.0) for i in range(truth)]),
        boxes(*[(9.0 * i, 9.0) for i in range(teacher)]),
    )
    joined, names = join(
        TeacherLabels(compat=compat), ours, [0] * truth, theirs, [0.9] * teacher, [1] * teacher
    )
    assert joined.tensor.shape == (truth + teacher, 7)
    assert sorted(names.tolist()) == [0] * truth + [1] * teacher


def test_numbers_per_box_follow_the_ground_truth() -> None:
    joined, _ = join(TeacherLabels(), boxes((0.0, 0.0)), [0], boxes((20.0, 0.0), dim=9), [0.9], [0])
    assert joined.tensor.shape == (2, 7)
    with pytest.raises(DistillError, match=r'9 numbers per box \(velocity\), the boxes of the teacher 7'):
        join(TeacherLabels(), boxes((0.0, 0.0), dim=9), [0], boxes((20.0, 0.0)), [0.9], [0])


def test_samples_stay_apart() -> None:
    batch = {
        'gt_bboxes_3d': [boxes((0.0, 0.0)), boxes()],
        'gt_labels_3d': [torch.tensor([2]), torch.zeros(0).long()],
    }
    detections = [found(boxes((0.0, 0.0)), [0.9], [2])] * 2
    changed = TeacherLabels()(batch, detections)
    assert [len(item) for item in changed['gt_bboxes_3d']] == [1, 1]
    assert [item.tolist() for item in changed['gt_labels_3d']] == [[2], [2]]


def test_heatmap_targets_of_a_centerpoint_only_grow() -> None:
    """And the ground truth's own boxes stay targets."""
    head = build_model(Config(dict(model=centerpoint_config())).model).pts_bbox_head
    batch = lidar_batch([0, 1], box_dim=9)
    more = boxes((1.0, 2.0), (5.0, -2.0), size=(0.8, 0.6), dim=9)
    taught = TeacherLabels(overlap=1.0)(batch, [found(more, [0.9, 0.8], [0, 2])] * 2)
    before, after = (head.get_targets(b['gt_bboxes_3d'], b['gt_labels_3d']) for b in (batch, taught))
    assert all((new >= old).all() for old, new in zip(before[0], after[0], strict=True))
    for old, new, mask, more_mask in zip(before[1], after[1], before[3], after[3], strict=True):
        kept = (old[mask.bool()][:, None] == new[more_mask.bool()]).all(-1).any(1)
        assert kept.all()
    assert sum(mask.sum() for mask in after[3]) == sum(mask.sum() for mask in before[3]) + 4


def test_a_limit_on_objects_cuts_the_teachers_boxes_first() -> None:
    head = build_model(Config(dict(model=centerpoint_config())).model).pts_bbox_head
    head.train_cfg['max_objs'] = 1
    batch, more = lidar_batch([0], box_dim=9), boxes((5.0, -2.0), dim=9)
    for compat in (False, True):
        taught = TeacherLabels(compat=compat)(batch, [found(more, [0.9], [2])])
        targets = [head.get_targets(b['gt_bboxes_3d'], b['gt_labels_3d'])[1][1] for b in (batch, taught)]
        assert torch.equal(*targets) is not compat


@DETECTORS.register_module()
class StubTwoStage(nn.Module):
    """A teacher of another kind: proposals, then boxes. It always sees one thing, at (3, 1)."""

    def __init__(self, train_cfg: Any = None, test_cfg: Any = None) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.tensor(0.9))

    def init_weights(self) -> None:
        """It has its score."""


@ADAPTERS.register_module(name='StubTwoStage')
class StubTwoStageAdapter(HostAdapter):
    """All that label distillation asks of a teacher: boxes."""

    def infer(self, model: StubTwoStage, batch: Batch) -> Tensor:
        """Proposals (B, 1, 9)."""
        return torch.tensor([[3.0, 1.0, -1.0, 0.8, 0.6, 1.7, 0.0, 0.5, 0.1]]).repeat(
            len(batch['points']), 1, 1
        )

    def detect(self, model: StubTwoStage, batch: Batch, predictions: Any = None) -> list[Detections]:
        """Boxes of the second stage."""
        return [
            found(LiDARInstance3DBoxes(rows, box_dim=9), [float(model.score)], [0]) for rows in predictions
        ]


def test_a_two_stage_teacher_teaches_a_one_stage_student_by_its_boxes() -> None:
    recipe = dict(
        type='Distiller',
        teacher=dict(config=dict(model=dict(type='StubTwoStage')), random_weights=True, view='same'),
        terms=[],
        targets=[dict(type='TeacherLabels', score_thr=[0.6, 0.6, 0.6])],
    )
    torch.manual_seed(0)
    distiller = build_distiller(Config(dict(model=centerpoint_config(), distiller=recipe)))
    batch = lidar_batch([0], box_dim=9)
    batch['gt_bboxes_3d'] = [LiDARInstance3DBoxes(torch.zeros(0, 9), box_dim=9)]
    batch['gt_labels_3d'] = [torch.zeros(0, dtype=torch.long)]
    losses, seen = distiller.run_models(batch)
    assert len(seen.batch['gt_labels_3d'][0]) == 0  # terms go by the ground truth
    distiller.targets[0][1].score_thr = 0.95
    alone = distiller(**batch)
    # Without the teacher's box there is nothing to regress; with it there is, and only in its class's task.
    assert alone['task0.loss_bbox'] == 0
    assert losses['task0.loss_bbox'] > 0
    assert losses['task1.loss_bbox'] == 0
    assert all(value.isfinite() for value in losses.values())


def test_unknown_target_is_clear() -> None:
    recipe = dict(
        teacher=dict(config=dict(model=dict(type='StubTwoStage')), random_weights=True),
        terms=[],
        targets=['TeacherLabel'],
    )
    with pytest.raises(
        DistillError, match="unknown target transform 'TeacherLabel'; did you mean 'TeacherLabels'"
    ):
        build_distiller(Config(dict(model=centerpoint_config(), distiller=recipe)))


@pytest.mark.parametrize('overlap', [-0.1, 1.1])
def test_overlap_is_a_share(overlap: float) -> None:
    with pytest.raises(ValueError, match='overlap must lie between 0 and 1'):
        TeacherLabels(overlap=overlap)
