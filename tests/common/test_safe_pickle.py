import io
import os
import pickle
import resource
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
from mmdet3d.datasets.pipelines.dbsampler import DataBaseSampler

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.safe_pickle import guard_mmcv, read_pickle
from projects.mmdet3d_plugin.datasets.info_files import load_infos


class Evil:
    """Runs a function when it is unpickled by the standard library."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.function, self.arguments


def evil_contents(mark: Path) -> dict[str, Any]:
    """Objects whose unpickling would make the file ``mark``."""
    code = f'open({str(mark)!r}, "w").close()'
    return {
        'system': Evil(os.system, f'touch {mark}'),
        'exec': Evil(exec, code),
        'eval': Evil(eval, code.replace('.close()', '')),
        'open': Evil(open, str(mark), 'w'),
        'getattr': Evil(getattr, 'text', 'upper'),
        'map': Evil(map, os.mkdir, [str(mark)]),
        'numpy': Evil(np.save, str(mark), 0),
        'object array': np.array([Evil(os.system, f'touch {mark}')], dtype=object),
    }


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('kind', evil_contents(Path('x')))
def test_nothing_is_executed(tmp_path: Path, kind: str, protocol: int) -> None:
    mark = tmp_path / 'mark'
    path = tmp_path / 'nuscenes_infos_temporal_train.pkl'
    content = dict(infos=[dict(x=evil_contents(mark)[kind])], metadata={})
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    guard_mmcv()
    for read in (read_pickle, load_open, lambda p: load_infos(p, 'v1.0')):
        with pytest.raises(UserError, match=r'train.pkl is refused: it holds .*; get the file again'):
            read(path)
        assert not mark.exists()


def load_open(path: Path) -> Any:
    """As mmdet3d reads info files."""
    with open(path, 'rb') as file:
        return mmcv.load(file, file_format='pkl')


def test_a_database_of_objects_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / 'kitti_dbinfos_train.pkl'
    path.write_bytes(pickle.dumps(dict(Car=[Evil(os.system, f'touch {tmp_path}/mark')])))
    guard_mmcv()
    with pytest.raises(UserError, match=r'kitti_dbinfos_train.pkl is refused: it holds \w+.system'):
        DataBaseSampler(str(path), str(tmp_path), 1.0, dict(), {}, ['Car'])
    assert not (tmp_path / 'mark').exists()


def test_attributes_of_what_is_allowed_are_not(tmp_path: Path) -> None:
    path = tmp_path / 'a.pkl'
    for module, name in (('builtins', 'set.__class__'), ('numpy', 'ndarray.tofile'), ('builtins', 'getattr')):
        path.write_bytes(
            b'\x80\x04\x8c'
            + bytes([len(module)])
            + module.encode()
            + b'\x8c'
            + bytes([len(name)])
            + name.encode()
            + b'\x93.'
        )
        with pytest.raises(UserError, match='is refused'):
            read_pickle(path)


def greedy_contents() -> dict[str, bytes]:
    """Small pickles that build more than any machine has."""
    dumped = {
        'list of a range': pickle.dumps(Evil(list, range(10**11))),
        'range': pickle.dumps(dict(infos=range(10**11))),
        'bytearray': pickle.dumps(Evil(bytearray, 10**11)),
        'array': pickle.dumps(Evil(np.ndarray, (10**11,))),
        'copies of copies': copies_of_copies(),
        'number in the memory of the reader': b'\x80\x04Nr\xff\xff\xff\x7f.',
    }
    whole = pickle.dumps(np.array([None, 'x'], dtype=object), protocol=2)
    return {**dumped, 'array of objects': whole.replace(b'K\x02\x85', b'J\xff\xff\xff\x7f\x85')}


def copies_of_copies() -> bytes:
    """A list of 60,000 places, copied 2,000 times."""
    first = pickle.dumps([None] * 60_000, protocol=2)[:-1]
    copy = b'cbuiltins\nlist\nh\x00\x85R'
    return first + b'(' + copy * 2_000 + b'l.'


@pytest.mark.parametrize('kind', greedy_contents())
def test_a_small_file_cannot_ask_for_all_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / 'kitti_dbinfos_train.pkl'
    path.write_bytes(greedy_contents()[kind])
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(UserError, match=r'train\.pkl is refused: .*; get the file again'):
        read_pickle(path)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_large_file_may_ask_for_as_much_as_it_needs(tmp_path: Path) -> None:
    """Empty dicts grow most: two bytes of a file."""
    path = tmp_path / 'a.pkl'
    path.write_bytes(b'\x80\x04]\x94(' + b'}\x94' * 10**5 + b'e.')
    assert len(read_pickle(path)) == 10**5


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_come_back(tmp_path: Path, protocol: int) -> None:
    content = dict(
        a=np.arange(6.0).reshape(2, 3).T, b=np.array(['car', 'bus']), c=np.float32(1.5), d=np.array([None, 'x']), e={1, 2},
        f=(True, None, 1j, b'\xff\x00', 2**70), g=frozenset([3]), h=OrderedDict(x=1), i=np.array([], np.int64), j=bytearray(b'1'),
        k=np.array([(1, 2.0)], dtype=[('x', 'i4'), ('y', 'f8')]), l=np.bool_(True), m=range(3), n=np.zeros((2, 0)),
    )  # fmt: skip
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(path)
    assert list(read) == list(content)
    for key, value in content.items():
        assert type(read[key]) is type(value)
        assert np.array_equal(read[key], value) if isinstance(value, np.ndarray) else read[key] == value


@pytest.mark.parametrize('core', ['core', '_core'])
def test_files_of_either_numpy_are_read(tmp_path: Path, core: str) -> None:
    written = pickle.dumps(np.arange(3), protocol=2)
    other = written.replace(b'cnumpy.core.', b'cnumpy._core.').replace(
        b'cnumpy._core.', f'cnumpy.{core}.'.encode()
    )
    (tmp_path / 'a.pkl').write_bytes(other)
    assert read_pickle(tmp_path / 'a.pkl').tolist() == [0, 1, 2]


def test_damage_is_one_line_with_the_name(tmp_path: Path) -> None:
    path = tmp_path / 'a.pkl'
    whole = pickle.dumps(dict(infos=[dict(x=np.arange(9), y='text' * 9)] * 3), protocol=4)
    rng = np.random.default_rng(0)
    broken = [whole[:n] for n in range(1, len(whole) - 1, 7)] + [rng.bytes(64) for _ in range(60)]
    said = []
    for content in (*broken, b'<html>not found</html>', b'{"infos": []}'):
        path.write_bytes(content)
        try:
            read_pickle(path)
        except UserError as error:
            said.append(str(error))
    assert len(said) > len(broken) / 2  # some bytes are pickles of nothing
    assert all(line.startswith(str(path)) and '\n' not in line and 'create_data.py' in line for line in said)
    path.write_bytes(b'')
    with pytest.raises(UserError, match=r'a\.pkl is empty: ask Ann'):
        read_pickle(path, mend='ask Ann')
    with pytest.raises(UserError, match=r'there is no file .*b\.pkl'):
        read_pickle(tmp_path / 'b.pkl')
    with pytest.raises(UserError, match='cannot be read'):
        read_pickle(tmp_path)


def test_mmcv_still_writes_and_reads_what_it_wrote() -> None:
    guard_mmcv()
    text = mmcv.dump(dict(x=np.arange(3)), file_format='pkl')
    assert mmcv.load(io.BytesIO(text), file_format='pkl')['x'].tolist() == [0, 1, 2]
