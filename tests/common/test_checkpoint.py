"""Reading, writing and fitting checkpoints."""

import errno
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from projects.mmdet3d_plugin.common import checkpoint
from projects.mmdet3d_plugin.common.checkpoint import (
    find_latest,
    initialize_weights,
    load_weights,
    normalise_keys,
    plain_state,
    read_checkpoint,
    write_checkpoint,
)
from projects.mmdet3d_plugin.common.errors import UserError
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
    write_checkpoint(path, dict(state_dict={}, meta=dict(epoch=1)))

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
    with pytest.raises(UserError, match=r'evil\.pth holds more than weights'):
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
    assert '1 missing: pts_bbox_head.bias 1' in message
    assert '1 unexpected: img_neck.extra 1' in message
    assert 'mismatched: img_backbone.weight is (5, 3, 3, 3) in the file, (4, 3, 3, 3) in the model' in message


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


class Geometry(nn.Module):
    """Only the parts of BEVFormer that tell its geometry."""

    def __init__(self, rows: int, laterals: int) -> None:
        super().__init__()
        self.pts_bbox_head = nn.ModuleDict(dict(bev_embedding=nn.Embedding(rows, 2)))
        convs = [nn.ModuleDict(dict(conv=nn.Conv2d(2, 2, 1))) for _ in range(laterals)]
        self.img_neck = nn.ModuleDict(dict(lateral_convs=nn.ModuleList(convs)))


@pytest.mark.parametrize(('rows', 'laterals'), list(checkpoint.KNOWN_GEOMETRIES))
def test_a_misfit_names_the_config_that_fits(rows: int, laterals: int) -> None:
    state = Geometry(rows, laterals).state_dict()
    expected = checkpoint.KNOWN_GEOMETRIES[rows, laterals]
    with pytest.raises(UserError, match=f'{laterals} image levels: it fits {expected}'):
        load_weights(Geometry(rows + 1, laterals), dict(state_dict=state))


def test_every_hinted_config_exists() -> None:
    for config in checkpoint.KNOWN_GEOMETRIES.values():
        if not Path(config).parent.is_dir():
            pytest.skip('the configs are not there yet')
        assert Path(config).is_file()


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


def test_the_latest_checkpoint_is_the_one_that_got_furthest(tmp_path: Path) -> None:
    assert find_latest(tmp_path) is None
    for name, steps in (
        ('epoch_2.pth', 20),
        ('epoch_10.pth', 100),
        ('iter_105.pth', 105),
        ('iter_90.pth', 90),
    ):
        write_checkpoint(tmp_path / name, dict(state_dict={}, meta=dict(iter=steps)))
    assert find_latest(tmp_path).name == 'iter_105.pth'
    (tmp_path / 'epoch_11.pth').write_bytes(b'half')
    with pytest.raises(UserError, match=r'epoch_11\.pth is not a checkpoint to resume from'):
        find_latest(tmp_path)
