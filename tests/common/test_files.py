"""Files are whole or not there."""

import errno
import io
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import (
    hash_file,
    is_alive,
    locked_folder,
    read_arrays,
    read_json,
    read_metrics,
    remove_temporaries,
    require_writable,
    require_writable_file,
    to_json,
    write_bytes,
    write_file,
    write_json,
    write_link,
    write_pickle,
    write_text,
)


def dead_process() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    return process.pid


def test_every_writer_writes_what_it_was_given(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / 'a/b.bin', b'x').read_bytes() == b'x'
    assert write_text(tmp_path / 'a.txt', 'Zürich').read_text(encoding='utf-8') == 'Zürich'
    assert np.load(write_pickle(tmp_path / 'a.pkl', [1, 2]), allow_pickle=True) == [1, 2]
    assert write_json(tmp_path / 'a.json', {'a': 1}).read_text() == '{"a":1}\n'
    assert sorted(path.name for path in tmp_path.rglob('*')) == ['a', 'a.json', 'a.pkl', 'a.txt', 'b.bin']


@pytest.mark.parametrize('error', [ValueError('half'), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = write_text(tmp_path / 'a', 'old')

    def half(file: IO[bytes]) -> None:
        file.write(b'new')
        raise error

    with pytest.raises(type(error)):
        write_file(path, half)
    assert [p.name for p in tmp_path.iterdir()] == ['a']
    assert path.read_text() == 'old'


def test_a_full_disk_is_said_also_where_torch_hides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = open

    class Full:
        """A file on a full disk."""

        def __init__(self, *arguments: str) -> None:
            self.file = original(*arguments)

        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __enter__(self) -> 'Full':
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

    monkeypatch.setattr('builtins.open', Full)
    with pytest.raises(UserError, match=r'a\.pth cannot be written \(No space left on device\): make room'):
        write_file(tmp_path / 'a.pth', lambda file: torch.save({'a': torch.zeros(3)}, file))
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_a_device_written_to(tmp_path: Path) -> None:
    real = write_text(tmp_path / 'real', 'old')
    (tmp_path / 'link').symlink_to('real')
    write_text(tmp_path / 'link', 'new')
    assert (tmp_path / 'link').is_symlink()
    assert real.read_text() == 'new'
    write_text('/dev/null', 'gone')
    assert not Path('/dev/null').is_file()


def test_a_link_is_replaced_at_once(tmp_path: Path) -> None:
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        write_text(tmp_path / name, name)
        write_link(tmp_path / 'latest.pth', name)
        assert os.readlink(tmp_path / 'latest.pth') == name
    assert len(list(tmp_path.iterdir())) == 3


def test_json_is_what_every_reader_understands(tmp_path: Path) -> None:
    content = {
        'a': math.nan,
        'b': [math.inf, 1.5],
        'c': np.float32('nan'),
        'd': np.arange(2),
        'e': (None, True),
    }
    path = write_json(tmp_path / 'a.json', content)
    strict = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert strict == {'a': None, 'b': [None, 1.5], 'c': None, 'd': [0, 1], 'e': [None, True]}
    assert to_json({'x': -math.inf}) == '{"x": null}'
    metrics = read_metrics(write_json(tmp_path / 'metrics.json', {'mAP': math.nan, 'NDS': 0.5}))
    assert math.isnan(metrics['mAP'])
    assert metrics['NDS'] == 0.5


@pytest.mark.parametrize('text', ['', '{"a": 1', '\x00\x00'])
def test_damaged_json_is_named(tmp_path: Path, text: str) -> None:
    path = write_text(tmp_path / 'a.json', text)
    with pytest.raises(UserError, match=r'a\.json is damaged \(.*\): make it again'):
        read_json(path, 'make it again')
    with pytest.raises(UserError, match=r'there is no file .*b\.json'):
        read_json(tmp_path / 'b.json')
    with pytest.raises(UserError, match='holds no metrics'):
        read_metrics(write_text(path, '[]'))


def test_hash_is_the_one_of_sha256sum(tmp_path: Path) -> None:
    path = write_text(tmp_path / 'a', 'abc')
    assert hash_file(path) == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    with pytest.raises(UserError, match='there is no file'):
        hash_file(tmp_path / 'b')


def test_only_temporaries_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead = dead_process()
    assert not is_alive(dead)
    keep = [f'.epoch_2.pth.{os.getpid()}.tmp', '.epoch_3.pth.x.tmp', '.mine.tmp', f'epoch_4.{dead}.tmp']
    for name in (*keep, f'.epoch_1.pth.{dead}.tmp', f'.latest.{dead}.tmp'):
        (tmp_path / name).write_text('')
    assert len(remove_temporaries(tmp_path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(keep)


def test_a_folder_is_tried_before_long_work(tmp_path: Path) -> None:
    assert require_writable(tmp_path / 'a/b').is_dir()
    assert list((tmp_path / 'a/b').iterdir()) == []
    file = write_text(tmp_path / 'file', '')
    for wrong in (file, file / 'below'):
        with pytest.raises(UserError, match=r'cannot be written \(.*\): choose another place'):
            require_writable(wrong)
    with pytest.raises(UserError, match='is a folder: name a file in it'):
        require_writable_file(tmp_path)
    require_writable_file(tmp_path / 'new/results.pkl')
    require_writable_file('/dev/null')


def test_a_folder_has_one_user(tmp_path: Path) -> None:
    taking = (
        'import sys; from projects.mmdet3d_plugin.common.files import locked_folder\n'
        'with locked_folder(sys.argv[1]): print("in", flush=True); sys.stdin.read()'
    )
    command = [sys.executable, '-c', taking, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b'in\n'
        with (
            pytest.raises(UserError, match=rf'another process \(process {other.pid}\) is at work in'),
            locked_folder(tmp_path),
        ):
            pass
        other.kill()
    with (
        locked_folder(tmp_path),
        pytest.raises(UserError, match='this process itself is at work'),
        locked_folder(tmp_path / '.'),
    ):
        pass
    with locked_folder(tmp_path):
        pass


def _archive(write: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


@pytest.mark.parametrize(
    ('kind', 'content'),
    {
        'one array': _archive(np.save, np.zeros(3)),
        'array of objects': _archive(np.save, np.array([{}])),
        'archive of objects': _archive(np.savez, x=np.array([{}])),
        'empty': b'',
        'text': b'zeros\n',
        'pickle': pickle.dumps([1]),
        'cut': _archive(np.savez, x=np.zeros(3))[:-30],
    }.items(),
)
def test_arrays_that_cannot_be_read_are_one_line(tmp_path: Path, kind: str, content: bytes) -> None:
    path = write_bytes(tmp_path / 'a.npz', content)
    with pytest.raises(
        UserError, match=r'a\.npz cannot be read: it is no archive of plain arrays.*; ask Ann$'
    ):
        read_arrays(path, mend='ask Ann')


def test_an_unknown_compression_is_one_line_too(tmp_path: Path) -> None:
    whole = bytearray(_archive(np.savez, x=np.zeros(3)))
    for mark, place in ((b'PK\x03\x04', 8), (b'PK\x01\x02', 10)):
        whole[whole.index(mark) + place] = 99
    with pytest.raises(UserError, match='no archive of plain arrays'):
        read_arrays(write_bytes(tmp_path / 'a.npz', bytes(whole)))
