"""Mutants of checkpoints, through tools/test.py, tools/export_student.py and --resume."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.models import build_model, init_model
from projects.mmdet3d_plugin.engine import export, test, train
from tests.robustness.conftest import changed, save
from tests.robustness.forked import assert_one_line, run

FIRST = 'img_backbone.conv1.weight'
Edit = Callable[[dict[str, Any]], Any]


def state(edit: Edit) -> Edit:
    """A change of the state dict."""

    def change(content: dict[str, Any]) -> dict[str, Any]:
        weights = dict(content['state_dict'])
        edit(weights)
        return {**content, 'state_dict': weights}

    return change


class Runs:
    """Leaves a mark when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path('executed'),)


BYTES: dict[str, Callable[[bytes], bytes | None]] = {
    'missing': lambda _: None,
    'empty': lambda _: b'',
    'text': lambda _: b'weights\n',
    'one byte': lambda _: b'\x80',
    'random': lambda _: bytes(range(256)) * 16,
    'cut in half': lambda content: content[: len(content) // 2],
    'without its end': lambda content: content[:-100],
    'pickle of a list': lambda _: pickle.dumps([1, 2]),
    'pickle that runs code': lambda _: pickle.dumps(Runs()),
    'old pickle that runs code': lambda _: pickle.dumps(dict(state_dict=Runs()), protocol=0),
}
CONTENT: dict[str, Edit] = {
    'empty dict': lambda _: {},
    'list': lambda _: [torch.zeros(2)],
    'state dict is a list': lambda content: {**content, 'state_dict': [1]},
    'state dict is None': lambda content: {**content, 'state_dict': None},
    'meta is a list': lambda content: {**content, 'meta': [3]},
    'a weight is a number': state(lambda s: s.update({FIRST: 3.0})),
    'a weight is gone': state(lambda s: s.pop(FIRST)),
    'a weight too many': state(lambda s: s.update({'head.weight': torch.zeros(2)})),
    'another shape': state(lambda s: s.update({FIRST: torch.zeros(4, 3, 7, 7)})),
    'not a number': state(lambda s: s.update({FIRST: torch.full_like(s[FIRST], float('nan'))})),
    'infinite': state(lambda s: s.update({FIRST: torch.full_like(s[FIRST], float('inf'))})),
    'complex': state(lambda s: s.update({FIRST: s[FIRST].to(torch.complex64)})),
    'other classes': lambda content: {**content, 'meta': {**content['meta'], 'CLASSES': ['truck', 'car']}},
    'object of numpy that runs code': lambda content: {**content, 'x': Runs()},
}
RESUME: dict[str, Edit] = {
    'for testing only': lambda content: content,
    'optimizer is empty': lambda content: {**content, 'optimizer': {}, 'rng': [{}]},
    'optimizer is a list': lambda content: {**content, 'optimizer': [1], 'rng': [{}]},
    'random state is a number': lambda content: {**content, 'optimizer': {'state': {}, 'param_groups': []}, 'rng': 3},
    'no epoch': lambda content: {**content, 'meta': {}, 'optimizer': {}, 'rng': [{}]},
    'epoch is text': lambda content: {**content, 'meta': dict(content['meta'], epoch='one'), 'optimizer': {}, 'rng': [{}]},
}  # fmt: skip


@pytest.fixture
def config(camera: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The camera config as a file; what is run finds itself in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return save(camera, tmp_path / 'config.py')


def evaluate(config: Path, checkpoint: Path, named: str) -> None:
    """tools/test.py and tools/export_student.py refuse the file by its name, and run nothing from it."""
    assert_one_line(
        run(test.main, config, checkpoint, '--eval', 'bbox', '--device', 'cpu', '--out-dir', 'out'), named
    )
    assert not Path('executed').exists()


@pytest.mark.parametrize('kind', BYTES)
def test_damaged_file(config: Path, camera_checkpoint: Path, tmp_path: Path, kind: str) -> None:
    content = BYTES[kind](camera_checkpoint.read_bytes())
    if content is not None:
        (tmp_path / 'bad.pth').write_bytes(content)
    evaluate(config, tmp_path / 'bad.pth', r'bad\.pth')
    assert_one_line(run(export.main, tmp_path / 'bad.pth', tmp_path / 'out.pth'), r'bad\.pth')
    assert not (tmp_path / 'executed').exists()
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize('kind', CONTENT)
def test_foreign_content(config: Path, camera_checkpoint: Path, tmp_path: Path, kind: str) -> None:
    torch.save(CONTENT[kind](torch.load(camera_checkpoint, weights_only=True)), tmp_path / 'bad.pth')
    evaluate(config, tmp_path / 'bad.pth', r'bad\.pth')


@pytest.mark.parametrize('kind', RESUME)
def test_what_cannot_be_resumed(config: Path, camera_checkpoint: Path, tmp_path: Path, kind: str) -> None:
    torch.save(RESUME[kind](torch.load(camera_checkpoint, weights_only=True)), tmp_path / 'bad.pth')
    resume = ('--resume', tmp_path / 'bad.pth', '--work-dir', tmp_path / 'run')
    assert_one_line(run(train.main, config, '--device', 'cpu', *resume), r'bad\.pth')


@pytest.mark.parametrize('kind', ['empty', 'text', 'cut in half', 'pickle that runs code'])
@pytest.mark.parametrize('way', ['load_from', 'init_cfg'])
def test_initial_weights(
    camera: Config,
    camera_checkpoint: Path,
    tmp_path: Path,
    kind: str,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = tmp_path / 'bad.pth'
    bad.write_bytes(BYTES[kind](camera_checkpoint.read_bytes()))
    changes = {'load_from': str(bad)}
    if way == 'init_cfg':
        changes = {'model.img_backbone.init_cfg': dict(type='Pretrained', checkpoint=str(bad))}
    config = save(changed(camera, changes), tmp_path / 'config.py')
    work = ('--work-dir', tmp_path / 'run')
    assert_one_line(run(train.main, config, '--device', 'cpu', *work), r'bad\.pth')
    assert not (tmp_path / 'executed').exists()


def test_initial_weights_are_loaded(camera: Config, camera_checkpoint: Path) -> None:
    """What the refusals above do not refuse."""
    state = torch.load(camera_checkpoint, weights_only=True)['state_dict']
    pretrained = dict(type='Pretrained', checkpoint=str(camera_checkpoint), prefix='img_backbone.')
    model = build_model(changed(camera, {'model.img_backbone.init_cfg': pretrained}).model)
    assert not torch.equal(model.state_dict()[FIRST], state[FIRST])
    init_model(model, {})
    assert torch.equal(model.state_dict()[FIRST], state[FIRST])
