"""Starting as one process, by torchrun, and by the shell scripts."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import Config
from torch.distributed.launcher.api import LaunchConfig
from torch.distributed.run import config_from_args

from projects.mmdet3d_plugin.command_line.parsers import parse_train
from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.common.config import config_text
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import launch, train
from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
from tests.engine.processes import ROOT, in_processes, run_in_processes
from tests.engine.test_train import assert_same_end
from tests.engine.toy import toy_config
from tests.robustness import forked
from tools import torchrun


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


@pytest.mark.parametrize(
    ('script', 'arguments', 'tool'),
    [
        ('dist_train.sh', 'c.py 2 --seed 3', 'train.py c.py --seed 3'),
        ('dist_distill.sh', 'c.py 2 --resume auto', 'distillation.py c.py --resume auto'),
        ('dist_test.sh', 'c.py a.pth 2', 'test.py c.py a.pth --eval bbox'),
        ('dist_test.sh', 'c.py a.pth 2 --out x.pkl', 'test.py c.py a.pth --out x.pkl'),
        ('dist_test.sh', 'c.py a.pth 2 --out=x.pkl', 'test.py c.py a.pth --out=x.pkl'),
        ('dist_test.sh', 'c.py a.pth 2 --out-dir x', 'test.py c.py a.pth --out-dir x --eval bbox'),
        ('dist_test.sh', 'c.py a.pth 2 --format-only', 'test.py c.py a.pth --format-only'),
    ],
)
def test_scripts_start_their_tools(tmp_path: Path, script: str, arguments: str, tool: str) -> None:
    """Seen by an interpreter that prints what it is given, in a copy of the scripts without a ``.venv``."""
    (tmp_path / 'tools').mkdir()
    for name in ('launch.sh', script):
        shutil.copy(ROOT / 'tools' / name, tmp_path / 'tools' / name)
    done = shell(str(tmp_path / 'tools' / script), *arguments.split(), PYTHON='echo')
    tools = f'{tmp_path}/tools'
    how = '--nnodes 1 --nproc-per-node 2 --standalone'
    assert done.stdout.strip() == f'{tools}/torchrun.py {how} {tools}/{tool} --launcher pytorch'


SAID = 'error: the image a.jpg is gone: copy it again'


def stopping_config(tmp_path: Path) -> str:
    """A config whose run stops in its third step, as the environment says."""
    changes = {
        'model.type': 'StoppingDetector',
        'custom_imports.imports': ['tests.engine.stopping'],
        'data.samples_per_gpu': 1,
        'checkpoint_config': dict(interval=1, by_epoch=False),
    }
    (tmp_path / 'toy.py').write_text(config_text(toy_config(tmp_path / 'run', 2, **changes)))
    return str(tmp_path / 'toy.py')


def evaluate_as_one_of_several(place: launch.Launch, config: str, checkpoint: str, out_dir: str) -> None:
    evaluate_checkpoint(Config.fromfile(config), checkpoint, out_dir=out_dir, launch=place, quiet=True)


def train_in_a_fork(_unbuffered: str, _script: str, *arguments: str) -> None:
    """What a process of torchrun runs in place of ``python -u tools/train.py ...``, without seconds of imports."""
    sys.exit(train.main(arguments))


def forking(args: argparse.Namespace) -> tuple[LaunchConfig, Any, list[str]]:
    """What torchrun makes of its arguments, but its processes are forks."""
    config, _, arguments = config_from_args(args)
    config.start_method = 'fork'
    return config, train_in_a_fork, arguments


def test_two_processes_stop_go_on_and_are_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun, as the scripts start it, until one stops; what follows without it."""
    config = stopping_config(tmp_path)
    monkeypatch.setattr('torch.distributed.run.config_from_args', forking)
    monkeypatch.setenv('STOP_RANK', '1')
    monkeypatch.setenv('STOP_HOW', 'word')
    torchrun_two = '--standalone', '--nproc-per-node', 2
    done = forked.run(
        torchrun.run, *torchrun_two, 'tools/train.py', config, '--launcher', 'pytorch', '--seed', 3, '--device', 'cpu'
    )  # fmt: skip
    assert done.status == 2, done.text[-3000:]
    assert done.text.count(SAID) == 1
    assert 'Traceback' not in done.text
    assert 'Root Cause' not in done.text
    words = [
        line for line in done.text.splitlines() if line and not line[0].isdigit() and 'training' not in line
    ]
    assert len(words) <= 2, words
    if len(words) == 2:  # rank 0 says where the run goes on
        assert any('--resume auto goes on from' in line and 'iter_2.pth' in line for line in words)

    monkeypatch.setenv('STOP_RANK', 'none')
    for folder, how in (('run', ('--resume', 'auto')), ('straight', ())):
        arguments = [config, '--device', 'cpu', '--seed', '3', '--work-dir', str(tmp_path / folder), *how]
        ended = in_processes(train.main, 2, tmp_path, arguments)
        assert [one.status for one in ended] == [0, 0], ended
    checkpoint = tmp_path / 'run/epoch_2.pth'
    assert_same_end(tmp_path / 'straight/epoch_2.pth', checkpoint)
    meta = read_checkpoint(checkpoint)['meta']
    assert (meta['world_size'], meta['seed'], meta['iter']) == (2, 3, 10)

    places = dict(config=config, checkpoint=str(checkpoint), out_dir=str(tmp_path / 'out'))
    run_in_processes(evaluate_as_one_of_several, 2, tmp_path, **places)
    alone = evaluate_checkpoint(Config.fromfile(config), checkpoint, out_dir=tmp_path, quiet=True)
    assert (tmp_path / 'out/metrics.json').read_text() == (tmp_path / 'metrics.json').read_text()
    assert alone['frames'] == 53


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--resume', 'auto', '--seed', '4'], 'was trained with seed 3, this run has 4'),
        (['--resume', 'nowhere.pth'], 'there is no such checkpoint'),
        (
            ['--resume', 'auto', '--seed', '3', '--cfg-options', 'optimizer.type=SGD'],
            "optimizer.type 'AdamW'",
        ),
    ],
)
def test_what_cannot_be_resumed_is_said_once_by_two_processes(
    tmp_path: Path, options: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('STOP_RANK', 'none')
    config = stopping_config(tmp_path)
    train.main([config, '--device', 'cpu', '--seed', '3', '--cfg-options', 'runner.max_epochs=1'])
    ended = in_processes(train.main, 2, tmp_path, [config, '--device', 'cpu', *options])
    assert [one.status for one in ended] == [2, 2], ended
    assert [one.text.count(words) for one in ended] == [1, 0], ended


def test_what_stops_all_processes_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('STOP_RANK', '0,1')
    monkeypatch.setenv('STOP_HOW', 'word')
    ended = in_processes(train.main, 2, tmp_path, [stopping_config(tmp_path), '--device', 'cpu'])
    assert [one.status for one in ended] == [2, 2]
    assert [one.text.count(SAID) for one in ended] == [1, 0]
    assert not any('Traceback' in one.text for one in ended)


def test_a_killed_process_is_named(tmp_path: Path) -> None:
    script = tmp_path / 'tool.py'
    script.write_text(
        "import os, time\nos.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(60)\n"
    )
    torchrun_two = '--standalone', '--nproc-per-node', 2
    ended = forked.run(torchrun.run, *torchrun_two, script)
    assert ended.status == 137, ended.text
    assert ended.text.count('error: process 1 was killed (SIGKILL)') == 1
    assert 'Traceback' not in ended.text
    assert 'Root Cause' not in ended.text
    script.write_text("import os; print('process', os.environ['RANK'])")
    ended = forked.run(torchrun.run, *torchrun_two, script)
    assert ended.status == 0
    assert sorted(ended.text.splitlines()) == ['process 0', 'process 1']


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_distill.sh', 'dist_test.sh'])
def test_scripts_say_how_they_are_called(script: str) -> None:
    done = shell(f'tools/{script}', 'config.py')
    assert done.returncode == 2
    assert f'usage: tools/{script}' in done.stderr
    asked = shell(f'tools/{script}', '--help')
    assert (asked.returncode, asked.stderr) == (0, '')
    assert asked.stdout.startswith(f'usage: tools/{script}')


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
