"""Sub-heads on earlier maps of a detector that teaches itself."""

from typing import Any

import pytest
import torch
from mmcv import Config
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.losses.sub_head import to_size
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.hosts.lidar.anchor3d_head import Anchor3DHead
from tests.lidar_factories import lidar_batch, pillar_config

LOGITS = dict(weight=2.0, temperature=2.0, score_thr=0.0)


def sub_heads(*names: str, **changes: Any) -> Distiller:
    """Pint PointPillars with sub-heads, one by default, on the map that its backbone reads."""
    on = dict(student='scatter', teacher='heads')
    term = dict(type='SubHead', on=on, truth=1.0, logits=LOGITS) | changes
    terms = [dict(term, name=name) for name in names or ['sub']]
    distiller = dict(teacher=dict(type='SelfTeacher'), terms=terms, debug=True)
    torch.manual_seed(0)
    cfg = dict(model=pillar_config(), class_names=['Pedestrian', 'Cyclist', 'Car'], distiller=distiller)
    model = build_distiller(Config(cfg))
    model.init_weights()
    return model.train()


def grads(loss: Tensor, module: nn.Module) -> float:
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True, allow_unused=True)
    return sum(float(grad.abs().sum()) for grad in found if grad is not None)


@pytest.mark.parametrize('changes', [{}, dict(truth=0.0), dict(logits=None)])
def test_a_sub_head_learns_and_teaches_what_lies_before_it(changes: dict[str, Any]) -> None:
    """Gradient reaches the sub-head and the pillars, and neither the backbone nor the dense head, whose word it takes."""
    model = sub_heads(**changes)
    loss = model(**lidar_batch([0, 1]))['loss_kd_sub']
    sub, student = model.distill['sub'].loss, model.student
    assert loss > 0
    assert grads(loss, sub.head.conv_cls) > 0
    assert grads(loss, sub.stem) > 0
    assert grads(loss, student.voxel_encoder) > 0
    assert grads(loss, student.backbone) == 0
    assert grads(loss, student.neck) == 0
    assert grads(loss, student.bbox_head) == 0
    # the ground truth alone teaches boxes
    assert (grads(loss, sub.head.conv_reg) > 0) == (changes != dict(truth=0.0))


def test_parts_add_up() -> None:
    """truth * detection + weight * logits, each of them alone as often as it counts."""
    values = [
        sub_heads(**changes)(**lidar_batch([0]))['loss_kd_sub'].item()
        for changes in (dict(truth=0.5), dict(logits=None), dict(truth=0.0))
    ]
    assert values[0] == pytest.approx(0.5 * values[1] + values[2], rel=1e-5)


def _total(loss: Tensor | list[Tensor]) -> Tensor:
    return torch.stack([level.detach() for level in loss]) if isinstance(loss, list) else loss.detach()


@pytest.mark.parametrize('names', [['one'], ['one', 'two']])
def test_anchors_are_assigned_once_for_all_heads(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses are those of heads that assign for themselves, bit by bit, and nothing of a batch is kept."""
    model = sub_heads(*names)
    heads = [module for module in model.modules() if isinstance(module, Anchor3DHead)]
    assigned, assign = [], Anchor3DHead.anchor_target_single_assigner
    monkeypatch.setattr(
        Anchor3DHead,
        'anchor_target_single_assigner',
        lambda *args, **kwargs: assigned.append(1) or assign(*args, **kwargs),
    )
    batches = [lidar_batch([0, 1]), lidar_batch([2, 3])]
    together, once = [model(**batch) for batch in batches], len(assigned)
    assert heads[0].shared.found is None
    for head in heads:
        head.shared = None
    apart = [model(**batch) for batch in batches]
    assert len(assigned) - once == (1 + len(names)) * once > 0
    for one, other in zip(together, apart, strict=True):
        assert one.keys() == other.keys() >= {f'loss_kd_{name}' for name in names}
        assert all(_total(one[key]).equal(_total(other[key])) for key in one)


def test_it_is_saved_as_a_part_of_its_term_only() -> None:
    model = sub_heads()
    plain = set(model.student.state_dict())
    assert {name for name in model.state_dict() if not name.startswith('distill.sub.loss.')} == plain
    assert any(name.startswith('distill.sub.loss.head.conv_cls') for name in model.state_dict())


def test_weight_0_builds_no_sub_head() -> None:
    assert not list(sub_heads(weight=0).distill.parameters())


def test_maps_meet_in_size() -> None:
    feature = torch.arange(16.0).view(1, 1, 4, 4)
    assert to_size(feature, (4, 4)) is feature
    assert torch.equal(to_size(feature, (2, 2)), nn.functional.avg_pool2d(feature, 2))
    assert to_size(feature, (8, 8)).shape == (1, 1, 8, 8)


def test_a_sub_head_needs_someone_to_learn_from() -> None:
    with pytest.raises(DistillError, match="needs 'truth' or a weight of 'logits'"):
        sub_heads(truth=0.0, logits=None)
    with pytest.raises(DistillError, match='form must be one of'):
        sub_heads(logits=dict(form='linear'))
