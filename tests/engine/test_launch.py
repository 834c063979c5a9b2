"""Starting as one process, by torchrun, and by the shell scripts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from projects.mmdet3d_plugin.command_line.parsers import parse_train
from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import launch
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
from tests.engine.processes import ROOT
from tests.engine.toy import toy_config


def shell(*command: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a command from the project's root, as a person would."""
    clean = {
        key: value for key, value in os.environ.items() if key not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    }
    ours = dict(PYTHON=sys.executable, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**clean, **ours, **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_scripts_train_and_test_with_two_processes(tmp_path: Path) -> None:
    config = tmp_path / 'toy.py'
    cfg = toy_config(tmp_path / 'run', 2, **{'data.samples_per_gpu': 1, 'evaluation': dict(interval=2)})
    config.write_text(cfg.pretty_text)
    trained = shell('tools/dist_train.sh', str(config), '2', '--seed', '3')
    assert trained.returncode == 0, trained.stderr[-4000:]
    meta = read_checkpoint(tmp_path / 'run/epoch_2.pth')['meta']
    assert (meta['world_size'], meta['seed'], meta['iter']) == (2, 3, 10)
    tested = shell(
        'tools/dist_test.sh',
        str(config),
        str(tmp_path / 'run/epoch_2.pth'),
        '2',
        '--out-dir',
        str(tmp_path / 'out'),
    )
    assert tested.returncode == 0, tested.stderr[-4000:]
    alone = evaluate_checkpoint(cfg, tmp_path / 'run/epoch_2.pth', out_dir=tmp_path, quiet=True)
    assert (tmp_path / 'out/metrics.json').read_text() == (tmp_path / 'metrics.json').read_text()
    assert alone['frames'] == 53


@pytest.mark.parametrize(
    ('ranks', 'how', 'status', 'said'),
    [
        ('1', 'word', 2, 'error: the image a.jpg is gone: copy it again'),
        ('0,1', 'word', 2, 'error: the image a.jpg is gone: copy it again'),
        ('1', 'kill', 137, 'error: process 1 was killed (SIGKILL)'),
    ],
)
def test_a_run_of_two_processes_ends_in_words(
    tmp_path: Path, ranks: str, how: str, status: int, said: str
) -> None:
    config = tmp_path / 'toy.py'
    changes = {
        'model.type': 'StoppingDetector',
        'custom_imports.imports': ['tests.engine.stopping'],
        'data.samples_per_gpu': 1,
    }
    config.write_text(
        toy_config(
            tmp_path / 'run', 2, **changes, checkpoint_config=dict(interval=1, by_epoch=False)
        ).pretty_text
    )
    done = shell('tools/dist_train.sh', str(config), '2', STOP_RANK=ranks, STOP_HOW=how)
    assert done.returncode == status, done.stderr[-3000:]
    assert done.stderr.count(said) == 1
    assert 'Traceback' not in done.stderr
    assert 'Root Cause' not in done.stderr
    words = [
        line for line in done.stderr.splitlines() if line and not line[0].isdigit() and 'training' not in line
    ]
    assert len(words) <= 2, words
    if len(words) == 2:  # rank 0 says where the run goes on
        assert any('--resume auto goes on from' in line and 'iter_2.pth' in line for line in words)


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_distill.sh', 'dist_test.sh'])
def test_scripts_say_how_they_are_called(script: str) -> None:
    done = shell(f'tools/{script}', 'config.py')
    assert done.returncode == 2
    assert f'usage: tools/{script}' in done.stderr


def test_several_nodes_need_an_address() -> None:
    done = shell('tools/dist_train.sh', 'config.py', '2', NNODES='2')
    assert done.returncode == 2
    assert 'NNODES=2 needs MASTER_ADDR' in done.stderr


@pytest.mark.parametrize('spelling', ['--local-rank=1', '--local_rank=1'])
def test_both_spellings_of_local_rank(spelling: str) -> None:
    assert parse_train(['config.py', spelling]).local_rank == 1


def test_one_plain_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    place = launch.start('auto', 'cpu')
    assert place == launch.Launch(0, 1, torch.device('cpu'), False)
    assert place.is_main
    assert launch.gather_objects('x') == ['x']
    assert launch.broadcast_object('x') == 'x'


def test_a_launcher_without_its_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        UserError, match='needs RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in the environment'
    ):
        launch.start('pytorch', 'cpu')


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match='torch sees no GPU'):
        launch.start('none', 'cuda')
