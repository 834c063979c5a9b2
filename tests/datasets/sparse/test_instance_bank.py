"""The bank's file: whole, readable without pickle, never changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from projects.mmdet3d_plugin.common import files
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.datasets.sparse.instance_bank import FATES, VERSION, InstanceBank


def make_bank(rows: int = 3, seed: int = 0, **header: Any) -> InstanceBank:
    """A bank of chance, one row per frame, its fates in turn."""
    rng = np.random.default_rng(seed)
    return InstanceBank(
        dict(version=VERSION, iteration=1, classes=['Car', 'Pedestrian'], detector='abc', **header),
        frame=np.array([f'{i:06d}' for i in range(rows)], dtype='U6'),
        box=rng.normal(size=(rows, 7)).astype(np.float32),
        label=np.arange(rows) % 2,
        score=rng.random(rows).astype(np.float32),
        consistency=rng.random(rows).astype(np.float32),
        row=np.arange(rows),
        partner=np.arange(rows),
        born=np.ones(rows, np.int64),
        points=np.arange(rows),
        fate=(np.arange(rows) % len(FATES)).astype(np.uint8),
        reason=np.zeros(rows, np.uint8),
    )


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    bank = make_bank()
    read = InstanceBank.load(bank.save(tmp_path / 'bank_01.npz'))
    assert read == bank
    assert read.header == bank.header
    assert read.names.tolist() == ['Car', 'Pedestrian', 'Car']
    assert read.accepted.tolist() == [True, False, False]
    assert read.unsure.tolist() == [False, True, False]
    assert read.in_frame('000001').tolist() == [1]
    assert read.in_frame('000009').tolist() == []
    assert InstanceBank.load(make_bank(0).save(tmp_path / 'empty.npz')) == make_bank(0)


def test_a_bank_cannot_be_written_to(tmp_path: Path) -> None:
    bank = make_bank()
    for one in (bank, InstanceBank.load(bank.save(tmp_path / 'bank.npz'))):
        with pytest.raises(ValueError, match='read-only'):
            one.box[0, :3] = 0
        with pytest.raises(AttributeError):
            one.box = np.zeros((3, 7))


def test_a_bank_is_not_replaced_by_another(tmp_path: Path) -> None:
    path = make_bank().save(tmp_path / 'bank.npz')
    before = path.read_bytes()
    make_bank().save(path)  # the same
    with pytest.raises(UserError, match='never changed'):
        make_bank(seed=1).save(path)
    assert path.read_bytes() == before


def test_a_crash_while_writing_leaves_nothing_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last moment before the file is whole, and a process that could not even clear away."""
    path = tmp_path / 'bank.npz'
    monkeypatch.setattr(files.os, 'replace', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_bank().save(path)
    monkeypatch.undo()
    (tmp_path / '.bank.npz.99999999.tmp').write_bytes(b'half')
    with pytest.raises(UserError, match='there is no file'):
        InstanceBank.load(path)
    assert make_bank().save(path).read_bytes() == make_bank().to_bytes()


def test_no_pickle_and_no_damage_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'bank.npz'
    columns = {name: value for name, value in vars(make_bank()).items() if name != 'header'}
    for change, said in (
        (dict(frame=np.array([dict(), 1, 2], dtype=object)), 'damaged'),
        (dict(header=np.frombuffer(b'{"version": 99}', np.uint8)), 'version 99'),
        (dict(header=np.frombuffer(b'[]', np.uint8)), 'header is a list'),
        (dict(header=np.frombuffer(b'{"version": 1}', np.uint8), box=np.zeros((2, 7))), 'box is'),
    ):
        np.savez(path, **{**columns, **change})
        with pytest.raises(UserError, match=said):
            InstanceBank.load(path)
    path.write_bytes(make_bank().to_bytes()[:-20])
    with pytest.raises(UserError, match='damaged'):
        InstanceBank.load(path)
