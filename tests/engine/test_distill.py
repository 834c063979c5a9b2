"""The entry point of distillation; the distiller itself is tested in tests/distill."""

import hashlib
from pathlib import Path

import pytest
from mmcv import Config

from projects.mmdet3d_plugin.engine.distill import distill, teacher_notes
from projects.mmdet3d_plugin.engine.errors import UserError
from tests.engine.toy import ONE_PROCESS, toy_config


def test_a_config_without_distiller_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='has no distiller: recipes are in projects/configs/distiller'):
        distill(toy_config(tmp_path), None, ONE_PROCESS)


def test_the_meta_names_the_teacher_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / 'teacher.pth'
    path.write_bytes(b'weights')
    cfg = Config(dict(distiller=dict(teacher=dict(checkpoint=str(path)))))
    assert teacher_notes(cfg) == dict(
        teacher='teacher.pth', teacher_sha256=hashlib.sha256(b'weights').hexdigest()
    )
    path.unlink()
    with pytest.raises(UserError, match='there is no teacher checkpoint'):
        teacher_notes(cfg)


def test_a_teacher_without_checkpoint_leaves_no_note() -> None:
    assert teacher_notes(Config(dict(distiller=dict(teacher=dict(type='SelfTeacher'))))) == {}
