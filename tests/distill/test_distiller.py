"""The distiller on a toy host: one step, what is saved, and the guards."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from mmcv import Config
from mmcv.runner import build_optimizer, load_checkpoint, save_checkpoint
from mmcv.runner.checkpoint import get_state_dict
from torch import nn

from projects.mmdet3d_plugin.distill.bev_grid import BEVGrid
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from tests.distill.conftest import BEV_TERM, PV_TERM
from tests.distill.toy_host import ToyBEVHost, toy_batch

Recipe = Callable[..., Config]


def test_step_adds_one_loss_per_place_to_the_students(distiller: Distiller) -> None:
    out = distiller.train_step(toy_batch(), None)
    assert set(out['log_vars']) == {'loss_toy', 'loss_kd_pv_0', 'loss_kd_pv_1', 'loss_kd_bev', 'loss'}
    parts = sum(value for key, value in out['log_vars'].items() if key != 'loss')
    assert out['loss'].item() == pytest.approx(parts, rel=1e-6)
    assert out['num_samples'] == 2


def test_terms_teach_student_and_connectors_but_not_the_teacher(distiller: Distiller) -> None:
    losses = distiller(**toy_batch())
    sum(value for key, value in losses.items() if 'kd' in key).backward()
    taught = {name for name, p in distiller.named_parameters() if p.grad is not None and p.grad.any()}
    assert {'student.encoder.weight', 'student.backbone.0.weight'} <= taught
    assert any(name.startswith('distill.bev.connector') for name in taught)
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.model.parameters())


def test_training_lowers_every_distillation_loss(distiller: Distiller) -> None:
    optimizer = torch.optim.Adam(distiller.parameters(), lr=0.02)
    batch = toy_batch()
    distiller.train()
    distiller.student.dropout.p = 0.0
    distiller.student.mask = nn.Identity()
    history = []
    for _ in range(60):
        losses = distiller(**batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({key: value.item() for key, value in losses.items()})
    for key in ('loss_kd_pv_0', 'loss_kd_pv_1', 'loss_kd_bev'):
        assert history[-1][key] < 0.7 * history[0][key], key


def test_teacher_is_no_part_of_the_module(distiller: Distiller) -> None:
    teacher = {id(p) for p in distiller.teacher.model.parameters()}
    optimizer = build_optimizer(distiller, dict(type='AdamW', lr=1e-3))
    in_optimizer = {id(p) for group in optimizer.param_groups for p in group['params']}
    assert not teacher & {id(p) for p in distiller.parameters()}
    assert not teacher & in_optimizer
    assert not {id(m) for m in distiller.teacher.model.modules()} & {id(m) for m in distiller.modules()}
    assert not any('teacher' in name for name in distiller.state_dict())


def test_teacher_stays_in_eval_and_answers_alike(distiller: Distiller) -> None:
    batch, device = toy_batch(), torch.device('cpu')
    taps = distiller.taps('teacher')
    distiller.eval()
    first = distiller.teacher.observe(batch, taps, device).features
    distiller.train()
    for _ in range(3):
        distiller.train_step(batch, None)
    again = distiller.teacher.observe(batch, taps, device).features
    assert not any(module.training for module in distiller.teacher.model.modules())
    assert all(module.training for module in distiller.student.modules())
    assert all(torch.equal(first[path], again[path]) for path in first)


def test_teacher_that_leaves_itself_in_training_mode_is_caught(recipe: Recipe) -> None:
    teacher = dict(config=dict(model=dict(type='ToyBEVHost', channels=6, bev_size=16, sloppy=True)))
    distiller = build_distiller(recipe(teacher=teacher))
    with pytest.raises(DistillError, match='is in training mode: its host called train'):
        distiller(**toy_batch())


def test_changed_teacher_is_caught(distiller: Distiller) -> None:
    distiller.teacher.model.backbone[1].running_mean += 1
    with pytest.raises(DistillError, match=r'running_mean.*changed'):
        distiller(**toy_batch())


def test_changed_teacher_weight_is_caught(distiller: Distiller) -> None:
    with torch.no_grad():
        distiller.teacher.model.encoder.weight.mul_(1.5)
    with pytest.raises(DistillError, match=r'encoder\.weight.*changed'):
        distiller(**toy_batch())


def test_nothing_recorded_outlives_the_step(distiller: Distiller) -> None:
    seen: list[weakref.ref] = []
    distiller.student.encoder.register_forward_hook(lambda _, __, out: seen.append(weakref.ref(out)))
    distiller.teacher.model.encoder.register_forward_hook(lambda _, __, out: seen.append(weakref.ref(out)))
    hooks = sum(len(m._forward_hooks) for m in distiller.modules())
    losses = distiller(**toy_batch())
    sum(losses.values()).backward()
    del losses
    gc.collect()
    assert len(seen) == 4  # one earlier and one current frame each
    assert all(ref() is None for ref in seen)
    assert sum(len(m._forward_hooks) for m in distiller.modules()) == hooks
    assert not [
        name for name, _ in distiller.named_buffers() if 'running' not in name and 'tracked' not in name
    ]


def test_saved_names_are_the_students_and_distill(distiller: Distiller) -> None:
    plain = set(ToyBEVHost().state_dict())
    for state in (distiller.state_dict(), get_state_dict(distiller)):
        assert {name for name in state if not name.startswith('distill.')} == plain
        assert any(name.startswith('distill.bev.connector.') for name in state)
    ToyBEVHost().load_state_dict({k: v for k, v in distiller.state_dict().items() if k in plain}, strict=True)


def test_checkpoint_comes_back(distiller: Distiller, recipe: Recipe, tmp_path: object) -> None:
    path = f'{tmp_path}/epoch_1.pth'
    save_checkpoint(distiller, path)
    other = build_distiller(recipe())
    assert not _equal(other, distiller)
    other.load_state_dict(torch.load(path, weights_only=True)['state_dict'], strict=True)
    assert _equal(other, distiller)
    another = build_distiller(recipe())
    load_checkpoint(another, path, strict=True)
    assert _equal(another, distiller)


def test_state_dict_works_inside_a_wrapper(distiller: Distiller, recipe: Recipe) -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    state = Wrapper(distiller).state_dict()
    assert 'module.encoder.weight' in state
    other = Wrapper(build_distiller(recipe()))
    other.load_state_dict(state, strict=True)
    assert _equal(other.module, distiller)


def test_upstream_checkpoint_loads(distiller: Distiller, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(7)
    student = ToyBEVHost().state_dict()
    upstream = {f'student.{name}': value for name, value in student.items()}
    upstream |= {f'teacher.{name}': value for name, value in ToyBEVHost(6, 16).state_dict().items()}
    upstream |= {
        'bev_restore_layers.0.weight': torch.zeros(1),
        'student_img_neck_fpn_convs_0_conv': torch.zeros(1),
    }
    before = {name: value.clone() for name, value in distiller.distill.state_dict().items()}
    with caplog.at_level('INFO', logger='focaldistiller'):
        distiller.load_state_dict(upstream, strict=True)
    assert all(torch.equal(value, student[name]) for name, value in distiller.student.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in distiller.distill.state_dict().items())
    assert 'were dropped' in caplog.text


def test_incomplete_distiller_checkpoint_is_an_error(distiller: Distiller) -> None:
    state = distiller.state_dict()
    state.pop(next(name for name in state if name.startswith('distill.')))
    with pytest.raises(RuntimeError, match=r'Missing key.*distill\.'):
        distiller.load_state_dict(state, strict=True)


def test_student_answers_at_test_time(distiller: Distiller) -> None:
    distiller.eval()
    batch = toy_batch()
    assert distiller(return_loss=False, **batch) == distiller.student(return_loss=False, **batch)


def test_meta_names_the_teachers_file(distiller: Distiller) -> None:
    meta = distiller.meta()
    assert meta['teacher']['checkpoint'] == 'teacher.pth'
    assert len(meta['teacher']['sha256']) == 64
    assert meta['terms'] == ['pv_0', 'pv_1', 'bev']


def test_batch_without_boxes_gives_exact_zero_and_live_graph(distiller: Distiller) -> None:
    losses = distiller(**toy_batch(boxes=0))
    assert losses['loss_kd_bev'].item() == 0.0
    losses['loss_kd_bev'].backward()
    assert distiller.student.encoder.weight.grad.abs().sum() == 0


def test_recipe_without_terms_trains_the_student_alone(recipe: Recipe) -> None:
    """The row that says what head inheritance alone is worth: the teacher is not even asked."""
    distiller = build_distiller(recipe(terms=[], initialize=[dict(type='InheritHead')]))
    distiller.teacher.model.forward = None
    distiller.init_weights()
    assert list(distiller(**toy_batch())) == ['loss_toy']
    assert torch.equal(distiller.student.head.out.bias, distiller.teacher.model.head.out.bias)


def test_frozen_place_cannot_be_taught(recipe: Recipe) -> None:
    distiller = build_distiller(recipe())
    distiller.student.requires_grad_(False)
    with pytest.raises(DistillError, match="'pv_0' cannot teach"):
        distiller(**toy_batch())


def test_debug_finds_a_term_without_gradient(recipe: Recipe) -> None:
    distiller = build_distiller(recipe(debug=True))
    distiller(**toy_batch())
    distiller.distill['bev'].connector.register_forward_hook(lambda _, __, out: out.detach() + 0 * out)
    with pytest.raises(DistillError, match=r"'bev' has the value .* but no gradient"):
        distiller(**toy_batch())


def test_doubled_loss_name_is_an_error(distiller: Distiller, monkeypatch: pytest.MonkeyPatch) -> None:
    own = distiller.student.forward_train
    monkeypatch.setattr(
        distiller.student, 'forward_train', lambda **b: {**own(**b), 'loss_kd_bev': torch.zeros(())}
    )
    with pytest.raises(DistillError, match="'loss_kd_bev' exists in the student already"):
        distiller(**toy_batch())


def test_shape_mismatch_names_the_term_and_the_mend(recipe: Recipe) -> None:
    distiller = build_distiller(recipe(terms=[{**BEV_TERM, 'connector': None}]))
    with pytest.raises(DistillError, match=r"'bev'.*\(2, 4, 8, 8\).*\(2, 6, 16, 16\).*connector"):
        distiller(**toy_batch())


@pytest.mark.parametrize(
    ('names', 'message'),
    [(['car', 'bus'], "'bus', 'pedestrian'"), (['pedestrian', 'car'], 'the order differs')],
)
def test_different_classes_are_an_error(recipe: Recipe, names: list[str], message: str) -> None:
    cfg = recipe()
    cfg.distiller.teacher.config.class_names = names
    with pytest.raises(DistillError, match=message):
        build_distiller(cfg)


def test_different_box_conventions_are_an_error(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.distill.toy_host import ToyAdapter

    monkeypatch.setattr(
        ToyAdapter, 'box_convention', lambda _, model: 'legacy' if model.channels == 6 else 'v1.0'
    )
    with pytest.raises(DistillError, match=r"'v1.0'.*'legacy'"):
        build_distiller(recipe())

    class OtherFamily(ToyAdapter):
        """Compares maps with the teacher's, and no codes of boxes."""

    monkeypatch.setattr('projects.mmdet3d_plugin.distill.recipe.adapter_for', lambda _: OtherFamily())
    build_distiller(recipe())
    with pytest.raises(DistillError, match='belong to one convention'):
        build_distiller(recipe(initialize=[dict(type='InheritHead')]))


def test_different_cameras_and_ranges_are_an_error(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.distill.toy_host import ToyAdapter

    with monkeypatch.context() as patch:
        patch.setattr(ToyAdapter, 'num_cameras', lambda _, model: model.channels)
        with pytest.raises(DistillError, match='made for 4 cameras, the teacher for 6'):
            build_distiller(recipe())
    monkeypatch.setattr(ToyAdapter, 'bev_grid', lambda _, model: BEVGrid([-8, -8, -5, 8, model.bev_size, 3]))
    build_distiller(recipe())  # maps of two ranges are resampled
    build_distiller(recipe(initialize=[dict(type='InheritHead')]))  # a head of convolutions knows no range
    monkeypatch.setattr(ToyAdapter, 'head_range', lambda _, model: [-8, -8, -5, 8, model.bev_size, 3])
    with pytest.raises(DistillError, match='inherited'):
        build_distiller(recipe(initialize=[dict(type='InheritHead')]))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'targets': [dict(type='TeacherLabels')]}, r"'distiller.targets' needs detect\(\) of ToyAdapter"),
        ({'head': dict(init='teacher')}, r"'distiller.head' needs query_head\(\) of ToyAdapter"),
    ],
)
def test_what_a_host_lacks_is_said_when_the_recipe_is_built(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, change: dict, message: str
) -> None:
    from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter
    from tests.distill.toy_host import ToyAdapter

    for method in ('detect', 'query_head'):
        monkeypatch.setattr(ToyAdapter, method, getattr(HostAdapter, method))
    with pytest.raises(DistillError, match=message):
        build_distiller(recipe(**change))


def test_schedule_follows_the_epoch(recipe: Recipe) -> None:
    torch.manual_seed(0)
    distiller = build_distiller(recipe(terms=[{**PV_TERM, 'schedule': [(0, 0.0), (2, 1.0)]}])).eval()
    values = []
    for epoch in (0, 1, 2, 5):
        distiller.set_epoch(epoch)
        values.append(distiller(**toy_batch())['loss_kd_pv_0'].item())
    assert values == pytest.approx([0.0, values[2] / 2, values[2], values[2]], rel=1e-5)


def test_batch_of_two_equals_two_singles(distiller: Distiller) -> None:
    distiller.eval()
    batch = toy_batch(2)
    both = distiller(**batch)
    singles = [distiller(**{key: value[i : i + 1] for key, value in batch.items()}) for i in range(2)]
    for key in both:
        assert both[key].item() == pytest.approx(sum(s[key].item() for s in singles) / 2, rel=1e-4), key


def test_half_precision_host_is_taught_in_fp32(distiller: Distiller) -> None:
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = distiller(**toy_batch())
    assert losses['loss_kd_bev'].dtype == torch.float32
    sum(losses.values()).backward()
    assert distiller.student.encoder.weight.grad.isfinite().all()


def test_inherited_head_survives_init_weights(recipe: Recipe) -> None:
    distiller = build_distiller(recipe(initialize=[dict(type='InheritHead')]))
    distiller.init_weights()
    assert torch.equal(distiller.student.head.out.bias, distiller.teacher.model.head.out.bias)
    assert (distiller.student.encoder.weight == 0.01).all()


def test_config_without_distiller_is_an_error() -> None:
    with pytest.raises(DistillError, match="no 'distiller'"):
        build_distiller(Config(dict(model=dict(type='ToyBEVHost'))))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'inititalize': []}, "'distiller' takes no 'inititalize'; did you mean 'initialize'"),
        ({'student': {}}, "'distiller' takes no 'student'"),
        ({'type': 'Teacher'}, "must be of type 'Distiller', got 'Teacher'"),
        ({'terms': None}, "'distiller' needs 'terms'"),
        (
            {'initialize': [dict(type='InheritHed')]},
            "unknown initializer 'InheritHed'; did you mean 'InheritHead'",
        ),
    ],
)
def test_mistakes_in_the_recipe_are_clear(recipe: Recipe, change: dict, message: str) -> None:
    cfg = recipe(**change)
    if change.get('terms', ()) is None:
        cfg.distiller.pop('terms')
    with pytest.raises(DistillError, match=message):
        build_distiller(cfg)


def _equal(one: nn.Module, two: nn.Module) -> bool:
    left, right = one.state_dict(), two.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
