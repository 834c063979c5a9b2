"""Reading, writing and fitting checkpoints."""

import errno
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.common.checkpoint import (
    RUN_RECORD,
    find_latest,
    initialize_weights,
    load_weights,
    normalise_keys,
    plain_state,
    read_checkpoint,
    resumable_files,
    write_checkpoint,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_json, write_link
from tests.engine.toy import ToyDetector


def state_of(**settings: Any) -> 'OrderedDict[str, torch.Tensor]':
    """Random weights of a toy detector."""
    return plain_state(ToyDetector(**settings))


def test_a_checkpoint_survives_the_round_trip(tmp_path: Path) -> None:
    state = state_of()
    write_checkpoint(tmp_path / 'a/b.pth', dict(state_dict=state, meta=dict(score=np.float64(0.5))))
    content = read_checkpoint(tmp_path / 'a/b.pth')
    assert content['meta']['score'] == 0.5
    assert all(torch.equal(content['state_dict'][key], state[key]) for key in state)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'epoch_1.pth'
    write_checkpoint(path, dict(state_dict=state_of(), meta=dict(epoch=1)))

    def half(content: Any, file: Any) -> None:
        file.write(b'half')
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, 'save', half)
    with pytest.raises(
        UserError, match=r'epoch_1\.pth cannot be written \(No space left on device\): make room'
    ):
        write_checkpoint(path, dict(state_dict={}, meta=dict(epoch=2)))
    assert read_checkpoint(path)['meta']['epoch'] == 1
    assert [file.name for file in tmp_path.iterdir()] == ['epoch_1.pth']


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ('gotcha',)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=Evil()), path)
    with pytest.raises(UserError, match=r'evil\.pth holds more than weights and plain values \(print\)'):
        read_checkpoint(path)
    assert 'gotcha' not in capsys.readouterr().out


@pytest.mark.parametrize('content', [b'', b'<html>not found</html>', pickle.dumps([1])])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'broken.pth').write_bytes(content)
    with pytest.raises(UserError, match=r'broken\.pth'):
        read_checkpoint(tmp_path / 'broken.pth')
    with pytest.raises(UserError, match=r'there is no checkpoint .*absent\.pth'):
        read_checkpoint(tmp_path / 'absent.pth')


def test_strict_loading_reports_every_kind_of_misfit() -> None:
    state = state_of(width=5)
    state['img_neck.extra'] = torch.zeros(1)
    del state['pts_bbox_head.bias']
    with pytest.raises(UserError) as caught:
        load_weights(ToyDetector(), dict(state_dict=state))
    message = str(caught.value)
    assert '1 missing (pts_bbox_head.bias 1), 1 unexpected (img_neck.extra 1), ' in message
    assert (
        'mismatched (first img_backbone.weight is (5, 3, 3, 3) in the file, (4, 3, 3, 3) in the model'
        in message
    )
    assert message.endswith('; take the checkpoint of this config, or the config of this checkpoint')
    assert '\n' not in message


def test_misfits_can_be_allowed_by_name() -> None:
    state = state_of()
    del state['pts_bbox_head.bias']
    with pytest.raises(UserError, match='1 missing'):
        load_weights(ToyDetector(), dict(state_dict=state), allow=('img_neck.',))
    report = load_weights(ToyDetector(), dict(state_dict=state), allow=('pts_bbox_head.',))
    assert report.fits
    assert report.allowed == ['pts_bbox_head.bias']


def test_upstream_distiller_checkpoints_load_into_a_student() -> None:
    plain = state_of()
    state = OrderedDict((f'student.{key}', value) for key, value in plain.items())
    for key in ('teacher.img_backbone.weight', 'distill_losses.loss_cwd.w', 'bev_restore_layers.0.0.weight'):
        state[key] = torch.zeros(2)
    for key in ('student_img_neck_fpn_convs_0_conv', 'teacher_img_neck_fpn_convs_0_conv'):
        state[key] = torch.zeros(6, 256, 2, 2)
    model = ToyDetector()
    report = load_weights(model, dict(state_dict=state))
    assert len(report.matched) == len(plain)
    assert 'student_img_neck_fpn_convs_0_conv 1' in report.notices[0]
    assert 'teacher.img_backbone 1' in report.notices[0]
    assert all(torch.equal(value, plain[key]) for key, value in model.state_dict().items())


def test_the_name_that_lightning_gives_a_detector_goes_and_no_other_model_does() -> None:
    plain = state_of()
    lightnings = OrderedDict((f'model.{key}', value) for key, value in plain.items())
    lightnings._metadata = OrderedDict({'': {}, 'model': {'version': 3}, 'model.img_neck': {'version': 2}})
    state, notices = normalise_keys(lightnings, own=plain)
    assert list(state) == list(plain)
    assert state._metadata == {'': {'version': 3}, 'img_neck': {'version': 2}}
    assert "'model.' that PyTorch Lightning" in notices[0]
    for own in (lightnings, ()):  # a module of that name, and an export, which knows no model
        assert list(normalise_keys(lightnings, own)[0]) == list(lightnings)
    with pytest.raises(UserError, match='does not fit'):
        load_weights(ToyDetector(), dict(state_dict={**lightnings, 'other.weight': torch.zeros(1)}))


def test_training_only_parts_are_left_out_for_a_student_but_kept_for_a_distiller() -> None:
    state = {**state_of(), 'distill.connector.weight': torch.zeros(1)}
    report = load_weights(ToyDetector(), dict(state_dict=state))
    assert report.notices == ['left out what only training needs: distill.connector 1']
    kept, notices = normalise_keys(state, own=['distill.connector.weight'])
    assert 'distill.connector.weight' in kept
    assert not notices


class Versioned(nn.Module):
    """Renames an old key, as mmcv's deformable convolution does, when the stored version is old."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.new = nn.Parameter(torch.zeros(1))

    def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict, *rest: Any) -> None:
        if metadata.get('version', 1) < 2:
            state[f'{prefix}new'] = state.pop(f'{prefix}old')
        super()._load_from_state_dict(state, prefix, metadata, *rest)


@pytest.mark.parametrize('prefix', ['', 'module.', 'student.'])
def test_layers_see_the_version_they_were_saved_with(tmp_path: Path, prefix: str) -> None:
    model = nn.ModuleDict(dict(layer=Versioned()))
    state = plain_state(model)
    stored = OrderedDict((prefix + key, value) for key, value in state.items())
    stored._metadata = OrderedDict((prefix + key, value) for key, value in state._metadata.items())
    write_checkpoint(tmp_path / 'new.pth', dict(state_dict=stored))
    assert load_weights(model, tmp_path / 'new.pth').matched == ['layer.new']
    report = load_weights(model, dict(state_dict={'layer.old': torch.ones(1)}))
    assert report.fits
    assert model['layer'].new.item() == 1


def test_initialisation_accepts_a_backbone_alone_but_not_a_stranger(tmp_path: Path) -> None:
    backbone = {key: value for key, value in state_of().items() if key.startswith('img_backbone.')}
    write_checkpoint(tmp_path / 'backbone.pth', dict(state_dict={**backbone, 'bbox_head.x': torch.zeros(1)}))
    model = ToyDetector()
    report = initialize_weights(model, tmp_path / 'backbone.pth')
    assert sorted(report.matched) == ['img_backbone.bias', 'img_backbone.weight']
    assert torch.equal(model.img_backbone.weight, backbone['img_backbone.weight'])
    write_checkpoint(tmp_path / 'stranger.pth', dict(state_dict={'layer1.weight': torch.zeros(1)}))
    with pytest.raises(UserError, match='only 0 of the 2 tensors of the backbone are in the file'):
        initialize_weights(model, tmp_path / 'stranger.pth')


def flip(path: Path, start: float, count: int) -> None:
    """Flip bytes of a file from a share of its length on."""
    content = bytearray(path.read_bytes())
    for place in range(int(start * len(content)), int(start * len(content)) + count):
        content[place] ^= 0xFF
    path.write_bytes(bytes(content))


def damaged(path: Path, how: str) -> None:
    """A checkpoint of 40 kB that something happened to."""
    state = {'weight': torch.randn(10000)}
    torch.save(dict(state_dict=state, meta={}), path, _use_new_zipfile_serialization=how != 'old format')
    if how == 'cut':
        path.write_bytes(path.read_bytes()[:20000])
    elif how == 'flipped':
        flip(path, 0.5, 64)
    elif how in ('flipped early', 'old format'):
        flip(path, 0.0, 1)
    elif how == 'flipped late':
        flip(path, 0.99, 8)
    elif how == 'text':
        path.write_text('epoch 3 of the run')
    elif how == 'noise':
        path.write_bytes(np.random.default_rng(0).bytes(4096))
    elif how == 'empty':
        path.write_bytes(b'')
    elif how == 'bomb':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('archive/data/0', bytes(2**26))


HOW = ('cut', 'flipped', 'flipped early', 'flipped late', 'old format', 'text', 'noise', 'empty', 'bomb')


@pytest.mark.parametrize('how', HOW)
def test_every_damage_is_one_sentence_with_the_name_of_the_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / 'a.pth'
    damaged(path, how)
    with pytest.raises(UserError, match=r'a\.pth (is|would) ') as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert 'weights_only' not in message
    assert '\n' not in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ([1], 'holds a list where a checkpoint has a dict'),
        (dict(state_dict={}), 'holds no weights'),
        ({}, 'holds no weights'),
        (dict(state_dict=[1], meta={}), 'its "state_dict" is a list'),
        (dict(state_dict={'a': torch.ones(1)}, meta=3), 'its "meta" is a int'),
        (dict(state_dict={'a': 1.0}), 'a is not a tensor'),
        (dict(state_dict={1: torch.ones(1)}), '1 is not a tensor'),
        (
            dict(state_dict={'a': torch.ones(1, dtype=torch.complex64)}),
            'a is no plain tensor of real numbers',
        ),
        (dict(state_dict={'a': torch.eye(2).to_sparse()}), 'a is no plain tensor of real numbers'),
    ],
)
def test_what_is_no_checkpoint_says_what_it_is(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=rf'a\.pth.*{words}'):
        read_checkpoint(tmp_path / 'a.pth')


def test_the_format_of_old_torch_is_read(tmp_path: Path) -> None:
    torch.save(dict(state_dict=state_of()), tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / 'a.pth')['state_dict'].keys() == state_of().keys()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    state = state_of()
    state['img_backbone.bias'][0] = value
    write_checkpoint(tmp_path / 'a.pth', dict(state_dict=state))
    for load in (load_weights, initialize_weights):
        with pytest.raises(
            UserError, match=r'a\.pth holds NaN or infinity in 1 of its 4 tensors \(first img_backb'
        ):
            load(ToyDetector(), tmp_path / 'a.pth')


def test_a_mask_may_be_infinite_where_the_model_has_it_so() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer('mask', torch.tensor([0.0, -math.inf]))
    assert load_weights(model, dict(state_dict=plain_state(model))).fits
    with pytest.raises(UserError, match='NaN or infinity'):
        load_weights(nn.Linear(2, 2), dict(state_dict={'weight': torch.full((2, 2), math.inf)}))


def test_whole_numbers_are_not_taken_for_weights() -> None:
    state = state_of()
    state['img_backbone.weight'] = state['img_backbone.weight'].long()
    with pytest.raises(
        UserError, match=r'img_backbone.weight is torch.int64 in the file, torch.float32 in the model'
    ):
        load_weights(ToyDetector(), dict(state_dict=state))


def test_two_weights_of_one_name_are_an_error() -> None:
    state = state_of()
    state['student.img_backbone.bias'] = torch.zeros(4)
    with pytest.raises(
        UserError, match=r'a file: both img_backbone.bias and student.img_backbone.bias are in it'
    ):
        load_weights(ToyDetector(), dict(state_dict=state), source='a file')


@pytest.mark.parametrize('meta', [{}, dict(hook_state=['swa_sum'])])
def test_what_a_hook_added_is_left_out_with_a_notice(meta: dict[str, Any]) -> None:
    plain = state_of()
    state = OrderedDict(plain, ema_img_backbone_weight=torch.zeros(4, 3, 3, 3), swa_sum=torch.zeros(1))
    if not meta:
        del state['swa_sum']
    report = load_weights(ToyDetector(), dict(state_dict=state, meta=meta))
    assert report.matched == list(plain)
    assert (
        f'left out {len(state) - len(plain)} tensors that a hook of the training had added'
        in report.notices[0]
    )
    assert ('they are the average' in report.notices[0]) == bool(meta)
    with pytest.raises(UserError, match=r'1 unexpected \(ema_nothing 1\)'):
        load_weights(ToyDetector(), dict(state_dict=OrderedDict(plain, ema_nothing=torch.zeros(1))))


def training_checkpoint(path: Path, steps: int) -> None:
    """The least that counts as a checkpoint of training."""
    write_checkpoint(path, dict(state_dict=state_of(), optimizer={}, meta=dict(iter=steps)))


def test_without_a_record_the_latest_checkpoint_is_the_one_that_got_furthest(tmp_path: Path) -> None:
    assert find_latest(tmp_path) is None
    for name, steps in dict(epoch_2=20, epoch_10=100, iter_105=105, iter_90=90).items():
        training_checkpoint(tmp_path / f'{name}.pth', steps)
    (tmp_path / 'epoch_11.pth').write_bytes(b'half')
    write_checkpoint(tmp_path / 'epoch_12.pth', dict(state_dict=state_of(), meta=dict(iter=120)))  # exported
    training_checkpoint(tmp_path / 'epoch_13_mine.pth', 130)
    assert find_latest(tmp_path).name == 'iter_105.pth'


def test_the_link_comes_first_and_nothing_beyond_it_counts(tmp_path: Path) -> None:
    for number in (1, 2, 8):
        training_checkpoint(tmp_path / f'epoch_{number}.pth', 10 * number)
    write_link(tmp_path / 'latest.pth', 'epoch_2.pth')
    assert [path.name for path in resumable_files(tmp_path)] == ['epoch_2.pth', 'epoch_1.pth']


def test_a_record_tells_the_run_from_others(tmp_path: Path) -> None:
    for number in (1, 2, 8):
        training_checkpoint(tmp_path / f'epoch_{number}.pth', 10 * number)
    write_json(tmp_path / RUN_RECORD, dict(saved=['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth']))
    assert [path.name for path in resumable_files(tmp_path)] == ['epoch_2.pth', 'epoch_1.pth']
    write_link(tmp_path / 'latest.pth', 'epoch_1.pth')
    assert find_latest(tmp_path).name == 'epoch_1.pth'
    write_link(tmp_path / 'latest.pth', 'epoch_8.pth')  # of an earlier run
    assert find_latest(tmp_path).name == 'epoch_2.pth'
