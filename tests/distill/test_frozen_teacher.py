"""The frozen teacher: what it loads, what it refuses, how it stays as it is."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher
from tests.distill.toy_host import CLASSES, ToyBEVHost, toy_batch

CONFIG = dict(model=dict(type='ToyBEVHost', channels=6, bev_size=16), class_names=CLASSES)


def test_weights_are_the_files_and_its_hash_is_kept(teacher_file: str) -> None:
    teacher = FrozenTeacher(CONFIG, teacher_file, view='same')
    saved = torch.load(teacher_file, weights_only=True)['state_dict']
    assert all(torch.equal(value, saved[name]) for name, value in teacher.model.state_dict().items())
    assert teacher.sha256 == hashlib.sha256(Path(teacher_file).read_bytes()).hexdigest()
    assert teacher.classes == CLASSES


def test_config_may_be_a_file(teacher_file: str, tmp_path: Path) -> None:
    file = tmp_path / 'config.py'
    file.write_text("model = dict(type='ToyBEVHost', channels=6, bev_size=16)\n")
    assert FrozenTeacher(str(file), teacher_file).classes is None


def test_what_the_file_says_of_its_classes_counts(teacher_file: str, recipe: Callable[..., Config]) -> None:
    content = torch.load(teacher_file, weights_only=True)
    torch.save({**content, 'meta': dict(CLASSES=CLASSES[::-1])}, teacher_file)
    with pytest.raises(
        DistillError, match=rf'checkpoint {teacher_file} was trained for classes .* its config'
    ):
        build_distiller(recipe())
    silent = dict(model=CONFIG['model'])
    assert FrozenTeacher(silent, teacher_file).classes == CLASSES[::-1]
    with pytest.raises(DistillError, match='the same class names in the same order'):
        build_distiller(recipe(teacher=dict(config=silent)))


def test_a_distilled_student_can_teach(tmp_path: Path, recipe: Callable[..., Config]) -> None:
    distiller = build_distiller(recipe())
    path = tmp_path / 'distilled.pth'
    torch.save({'state_dict': distiller.state_dict()}, path)
    teacher = FrozenTeacher(dict(model=dict(type='ToyBEVHost')), str(path))
    assert torch.equal(teacher.model.encoder.weight, distiller.student.encoder.weight)


def test_a_checkpoint_with_averages_can_teach(teacher_file: str) -> None:
    """mmcv's EMAHook keeps the averages under the plain names when it saves, and what was trained beside them."""
    content = torch.load(teacher_file, weights_only=True)
    averages = dict(content['state_dict'])
    trained = {f'ema_{name.replace(".", "_")}': value + 1 for name, value in averages.items()}
    torch.save(dict(state_dict={**averages, **trained}, meta={}), teacher_file)
    teacher = FrozenTeacher(CONFIG, teacher_file)
    assert all(torch.equal(value, averages[name]) for name, value in teacher.model.state_dict().items())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('encoder.weight'), 'does not fit the ToyBEVHost.*1 missing \(encoder'),
        (lambda state: state.update(extra=torch.zeros(1)), 'does not fit.*1 unexpected \(extra'),
        (
            lambda state: state.update({'encoder.bias': torch.zeros(9)}),
            r'mismatched \(first encoder\.bias is \(9,\)',
        ),
    ],
)
def test_checkpoint_that_does_not_fit_is_an_error(teacher_file: str, change: Callable, message: str) -> None:
    state = torch.load(teacher_file, weights_only=True)['state_dict']
    change(state)
    torch.save(state, teacher_file)
    with pytest.raises(UserError, match=f'(?s){message}'):
        FrozenTeacher(CONFIG, teacher_file)
    FrozenTeacher(CONFIG, teacher_file, allow=['encoder.', 'extra'])
    with pytest.raises(DistillError, match="'allow' must be a list of prefixes, got 'extra'"):
        FrozenTeacher(CONFIG, teacher_file, allow='extra')
    with pytest.raises(DistillError, match="the teacher's config is None: name a file"):
        FrozenTeacher(None, teacher_file)


def test_missing_files_are_clear(teacher_file: str) -> None:
    with pytest.raises(DistillError, match=r"checkpoint 'no\.pth' does not exist"):
        FrozenTeacher(CONFIG, 'no.pth')
    with pytest.raises(UserError, match=r'there is no config no\.py'):
        FrozenTeacher('no.py', teacher_file)


def test_random_weights_must_be_meant(teacher_file: str) -> None:
    with pytest.raises(DistillError, match="either a 'checkpoint' or random_weights=True"):
        FrozenTeacher(CONFIG)
    with pytest.raises(DistillError, match='either'):
        FrozenTeacher(CONFIG, teacher_file, random_weights=True)
    assert FrozenTeacher(CONFIG, random_weights=True).meta()['sha256'] is None


def test_unknown_view_is_clear(teacher_file: str) -> None:
    with pytest.raises(DistillError, match=r"must be one of .* got 'large'"):
        FrozenTeacher(CONFIG, teacher_file, view='large')


def test_always_frozen(teacher_file: str) -> None:
    teacher = FrozenTeacher(CONFIG, teacher_file, view='same')
    assert not any(p.requires_grad for p in teacher.model.parameters())
    record, out, _ = teacher.observe(toy_batch(), teacher.taps('bev'), torch.device('cpu'))
    assert not out.requires_grad
    assert not any(value.requires_grad for value in record.values())
    assert not hasattr(teacher, 'parameters')
    assert not hasattr(teacher, 'train')


@pytest.mark.parametrize('name', ['encoder.weight', 'backbone.1.running_var'])
def test_any_change_is_seen(teacher_file: str, name: str) -> None:
    teacher = FrozenTeacher(CONFIG, teacher_file)
    teacher.require_unchanged()
    with torch.no_grad():
        teacher.model.state_dict()[name].add_(1e-3)
    with pytest.raises(DistillError, match='changed; a frozen teacher never does'):
        teacher.require_unchanged()


def test_new_buffer_is_seen(teacher_file: str) -> None:
    teacher = FrozenTeacher(CONFIG, teacher_file)
    teacher.model.register_buffer('prev_bev', torch.zeros(1))
    with pytest.raises(DistillError, match="'prev_bev'"):
        teacher.require_unchanged()


def test_guard_runs_every_so_many_steps(teacher_file: str) -> None:
    teacher = FrozenTeacher(CONFIG, teacher_file, view='same', guard_every=3)
    look = lambda: teacher.observe(toy_batch(), teacher.taps('bev'), torch.device('cpu'))  # noqa: E731
    look()
    teacher.model.backbone[1].running_mean.add_(1)
    look()
    look()
    with pytest.raises(DistillError, match='running_mean'):
        look()


def test_plain_state_dict_file_and_wrapper_prefix(tmp_path: Path) -> None:
    model = ToyBEVHost(6, 16)
    path = tmp_path / 'wrapped.pth'
    torch.save({f'module.{name}': value for name, value in model.state_dict().items()}, path)
    assert torch.equal(FrozenTeacher(CONFIG, str(path)).model.encoder.bias, model.encoder.bias)


def test_guard_every_zero_means_never(teacher_file: str) -> None:
    teacher = FrozenTeacher(CONFIG, teacher_file, view='same', guard_every=0)
    teacher.model.backbone[1].running_mean.add_(1)
    teacher.observe(toy_batch(), teacher.taps('bev'), torch.device('cpu'))
    with pytest.raises(DistillError, match='guard_every must be 0 or more, got -1'):
        FrozenTeacher(CONFIG, teacher_file, guard_every=-1)


def test_a_teacher_of_nan_is_named_when_it_is_loaded(tmp_path: Path) -> None:
    state = ToyBEVHost(channels=6, bev_size=16).state_dict()
    state['encoder.weight'][0] = float('nan')
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'sick.pth')
    with pytest.raises(UserError, match=r'sick\.pth.*encoder\.weight'):
        FrozenTeacher(CONFIG, str(tmp_path / 'sick.pth'))


def test_a_module_can_teach_without_config_or_file() -> None:
    model = ToyBEVHost(channels=6, bev_size=16).train()
    teacher = FrozenTeacher.from_model(model, classes=['car', 'pedestrian'])
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    seen = teacher.observe(toy_batch(), teacher.taps('bev'), torch.device('cpu'))
    assert seen.features['encoder'].shape == (2, 6, 16, 16)
    assert teacher.meta() == dict(type='FrozenTeacher', checkpoint=None, sha256=None, view='same')


def test_what_was_seen_of_a_batch_is_kept_and_found_again(
    teacher_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, batch = torch.device('cpu'), toy_batch()
    teacher = FrozenTeacher(CONFIG, teacher_file, view='same', cache_dir=str(tmp_path / 'seen'))
    first = teacher.observe(batch, teacher.taps('bev'), device)
    again = FrozenTeacher(CONFIG, teacher_file, view='same', cache_dir=str(tmp_path / 'seen'))
    monkeypatch.setattr(again.adapter, 'infer', None)  # it need not run
    second = again.observe(batch, again.taps('bev'), device)
    assert torch.equal(first.predictions, second.predictions)
    assert first.features.keys() == second.features.keys()
    assert all(torch.equal(first.features[path], second.features[path]) for path in first.features)
    # A file that a crash cut off is written again.
    (file,) = (tmp_path / 'seen').iterdir()
    whole = file.read_bytes()
    for left in (b'', whole[: len(whole) // 2], b'not a file of torch', b'\x80'):
        file.write_bytes(left)
        assert torch.equal(teacher.observe(batch, teacher.taps('bev'), device).predictions, first.predictions)
        assert len(file.read_bytes()) == len(whole)
    # Another image, other taps and other weights are no such batch.
    with pytest.raises(TypeError):
        again.observe({**batch, 'img': batch['img'] + 1}, again.taps('bev'), device)
    with pytest.raises(TypeError):
        again.observe(batch, again.taps('stages'), device)
    other = ToyBEVHost(channels=6, bev_size=16)
    torch.save({'state_dict': other.state_dict(), 'meta': {}}, tmp_path / 'other.pth')
    changed = FrozenTeacher(
        CONFIG, str(tmp_path / 'other.pth'), view='same', cache_dir=str(tmp_path / 'seen')
    )
    third = changed.observe(batch, changed.taps('bev'), device)
    assert not torch.equal(third.predictions, first.predictions)
    assert len(list((tmp_path / 'seen').iterdir())) == 2
