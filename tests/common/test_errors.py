"""The one line that an error becomes."""

import errno
import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.utils import Registry
from mmdet.models.losses import CrossEntropyLoss
from torch import nn
from torch.utils.data import DataLoader, Dataset

from projects.mmdet3d_plugin.common.errors import UserError, explain
from projects.mmdet3d_plugin.engine.hooks import OptimizeHook


class Failing(Dataset):
    """Raises in whichever process loads."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error


def raised(call: object, *arguments: object) -> BaseException:
    """What a call raises."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        call(*arguments)
    return caught.value


def test_our_own_words_are_kept_and_bugs_are_not_explained() -> None:
    assert explain(UserError('mend it')) == 'mend it'
    assert explain(FloatingPointError('loss is not finite')) == 'loss is not finite'
    for bug in (
        KeyError('boxes'),
        TypeError('no'),
        AttributeError('no'),
        AssertionError(),
        RuntimeError('odd'),
    ):
        assert explain(bug) is None


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (UserError('image x.jpg is no picture:\n  copy it again'), 'image x.jpg is no picture:\n  copy it again'),
        (FileNotFoundError(errno.ENOENT, 'No such file', '/data/x.jpg'), '/data/x.jpg: there is no such file or folder'),
        (FileNotFoundError('there is no CAN bus'), 'there is no CAN bus'),
        (KeyError('boxes'), None),
    ],
)  # fmt: skip
def test_a_data_process_says_what_this_process_would(
    error: Exception, message: str | None, workers: int
) -> None:
    loader = DataLoader(Failing(error), num_workers=workers, collate_fn=list)
    assert explain(raised(list, loader)) == message


class Checked(Dataset):
    """Fails in a check of ours that raises a plain ValueError, or in a conversion."""

    def __init__(self, check: object) -> None:
        self.check = check

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> object:
        return self.check()


@pytest.mark.parametrize('workers', [0, 1])
def test_a_check_of_ours_speaks_to_people_and_a_failed_conversion_does_not(workers: int) -> None:
    loader = DataLoader(Checked(functools.partial(OptimizeHook, cumulative_iters=0)), num_workers=workers)
    assert explain(raised(list, loader)).startswith('optimizer_config.cumulative_iters must be at least 1')
    loader = DataLoader(Checked(functools.partial(int, 'three')), num_workers=workers, collate_fn=list)
    assert explain(raised(list, loader)) is None


@pytest.mark.parametrize(
    ('number', 'mend'),
    [
        (errno.ENOSPC, 'the disk is full'),
        (errno.EROFS, 'read-only'),
        (errno.EACCES, 'permission'),
        (errno.EISDIR, 'folder where a file'),
        (errno.ENOTDIR, 'file where a folder'),
        (errno.EMFILE, 'ulimit'),
    ],
)
def test_what_a_disk_refuses_names_the_file_and_the_mend(number: int, mend: str) -> None:
    text = explain(OSError(number, 'whatever', '/out/epoch_1.pth'))
    assert text.startswith('/out/epoch_1.pth: ')
    assert mend in text


def write_all(path: Path) -> None:
    """Fails as a full disk does, without naming the file."""
    raise OSError(errno.ENOSPC, f'No space left on device{path.name[:0]}')


def test_a_full_disk_is_said_with_the_file_in_hand() -> None:
    assert explain(raised(write_all, Path('/out/a.json'))).startswith('/out/a.json: the disk is full')


def read_json(path: Path) -> object:
    """As any reader does it."""
    return json.loads(path.read_text())


def read_pickle(path: Path) -> object:
    """As any reader does it."""
    with open(path, 'rb') as file:
        return pickle.load(file)


@pytest.mark.parametrize(
    ('read', 'content'),
    [(read_json, b'{'), (read_json, b'\xff'), (read_pickle, b''), (read_pickle, b'\x80\x04]')],
)
def test_a_damaged_file_is_named(tmp_path: Path, read: object, content: bytes) -> None:
    (tmp_path / 'cut').write_bytes(content)
    text = explain(raised(read, tmp_path / 'cut'))
    assert text.startswith(f'{tmp_path / "cut"} is damaged')
    assert len(text.splitlines()) == 1


def test_errors_that_a_registry_cannot_raise_again_are_read_as_they_were(tmp_path: Path) -> None:
    registry = Registry('reader')
    registry.register_module(name='Reader')(read_json)
    (tmp_path / 'cut').write_text('{')
    registry.register_module(name='Unpickler')(read_pickle)
    (tmp_path / 'empty').write_bytes(b'')
    error = raised(registry.build, dict(type='Unpickler', path=tmp_path / 'empty'))
    assert 'empty is damaged' in explain(error)
    error = raised(registry.build, dict(type='Reader', path=tmp_path / 'cut'))
    assert isinstance(error, TypeError)  # JSONDecodeError takes three arguments, mmcv gives one
    assert 'cut is damaged' in explain(error)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('[enforce fail at inline_container.cc:672] . unexpected pos 261760 vs 261656', 'disk full'),
        ('DataLoader worker (pid 77) is killed by signal: Killed. ', 'data-loading process was killed (Killed)'),
        ('DataLoader worker (pid(s) 77) exited unexpectedly', 'workers_per_gpu'),
        ('CUDA out of memory. Tried to allocate', 'samples_per_gpu'),
        ('[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can\'t allocate memory', 'memory is used up'),
        ('[../gloo/transport/tcp/pair.cc] Connection reset by peer', 'another process of this run'),
    ],
)  # fmt: skip
def test_torchs_own_words_are_translated(text: str, words: str) -> None:
    assert words in explain(RuntimeError(text))


def test_sizes_that_do_not_fit_name_the_module() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.Conv2d(4, 2, 1)))
    text = explain(raised(model, torch.zeros(1, 3, 2, 2)))
    assert text.startswith('sizes in the config do not fit each other: 1.0 (Conv2d) met ')
    assert explain(raised(torch.mm, torch.zeros(2, 3), torch.zeros(2, 3))) is None  # no model: a bug of ours
    assert explain(raised(np.zeros(2).reshape, 3)) is None


def test_a_loss_that_does_not_fit_its_head_is_named() -> None:
    """It fails deep in mmdet's code and in torch's words, which name nothing of the config."""
    loss = CrossEntropyLoss()
    text = explain(raised(lambda x: loss(x, torch.zeros(2)), torch.rand(2, 3)))
    assert text.startswith('CrossEntropyLoss does not fit what it is given (')
    assert text.endswith('): check its arguments in the config')
