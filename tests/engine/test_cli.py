"""How commands end."""

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from projects.mmdet3d_plugin.common.checkpoint import write_checkpoint
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine import cli, interrupts, launch
from projects.mmdet3d_plugin.engine import train as train_module
from projects.mmdet3d_plugin.engine.train import TrainOptions, train
from tests.engine.toy import ONE_PROCESS, ToyDetector, toy_config


def end_of(main: Any, capsys: pytest.CaptureFixture) -> tuple[int | str | None, str]:
    """(exit status, stderr) of a command."""
    with pytest.raises(SystemExit) as caught:
        cli.run(main, argparse.Namespace())
    return caught.value.code, capsys.readouterr().err


def raising(error: BaseException) -> Any:
    """A command that fails."""

    def main(_: argparse.Namespace) -> None:
        raise error

    return main


def test_what_a_person_can_mend_is_one_line_and_status_2(capsys: pytest.CaptureFixture) -> None:
    assert end_of(raising(UserError('say --force')), capsys) == (2, 'error: say --force\n')
    code, text = end_of(raising(PermissionError(13, 'Permission denied', '/out')), capsys)
    assert (code, text.count('\n')) == (2, 1)
    assert text.startswith('error: /out: permission denied')


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError, match='boxes'):
        cli.run(raising(KeyError('boxes')), argparse.Namespace())
    monkeypatch.setenv(cli.TRACEBACK, '1')
    with pytest.raises(UserError):
        cli.run(raising(UserError('mend it')), argparse.Namespace())


def test_a_result_is_passed_on() -> None:
    assert cli.run(lambda arguments: arguments.x, argparse.Namespace(x=3)) == 3


@pytest.mark.parametrize(
    ('number', 'status', 'word'), [(signal.SIGINT, 130, 'interrupted'), (signal.SIGTERM, 143, 'terminated')]
)
def test_a_signal_says_which_checkpoint_a_resumed_run_goes_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: int, status: int, word: str
) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def main(_: argparse.Namespace) -> None:
        interrupts.remember(tmp_path)
        os.kill(os.getpid(), number)
        os.stat(tmp_path)  # Python answers a signal between two steps

    assert end_of(main, capsys) == (
        status,
        f'{word}: there is no checkpoint in {tmp_path} yet, so it would begin anew\n',
    )
    write_checkpoint(tmp_path / 'epoch_3.pth', dict(state_dict={}, optimizer={}, meta=dict(iter=7, epoch=3)))
    code, text = end_of(main, capsys)
    assert (code, text) == (status, f'{word}: --resume auto goes on from {tmp_path / "epoch_3.pth"}\n')
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_test_has_no_checkpoint_to_speak_of(capsys: pytest.CaptureFixture) -> None:
    assert end_of(raising(KeyboardInterrupt()), capsys) == (130, 'interrupted: run the same command again\n')


class Swallowing(ToyDetector):
    """Gets its Ctrl-C where Python drops exceptions, as in a fork: in a destructor."""

    steps = 0

    def train_step(self, data: dict[str, Any], optimizer: Any = None) -> dict[str, Any]:
        """One step, with a signal in the second."""
        type(self).steps += 1
        if self.steps == 2:

            class Ends:
                def __del__(self) -> None:
                    os.kill(os.getpid(), signal.SIGINT)
                    os.getpid()

            Ends()
        return super().train_step(data, optimizer)


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_signal_that_python_drops_stops_the_training_at_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, 'make_detector', lambda cfg: Swallowing())

    def main(_: argparse.Namespace) -> None:
        train(toy_config(tmp_path, 3), TrainOptions(), ONE_PROCESS)

    code, text = end_of(main, capsys)
    assert code == 130
    assert (
        text.splitlines()[-1]
        == f'interrupted: there is no checkpoint in {tmp_path} yet, so it would begin anew'
    )
    assert Swallowing.steps == 2


def test_of_several_processes_the_survivors_say_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('RANK', '0')
    lost = RuntimeError('[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1')

    def main(_: argparse.Namespace) -> None:
        interrupts.remember(tmp_path)
        raise lost

    code, text = end_of(main, capsys)
    assert code == 2
    assert text.startswith('the connection to another process of this run was lost')
    assert 'begin anew' in text
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setattr(launch, 'SECONDS_BEFORE_SPEAKING', 5.0)
    monkeypatch.setattr(launch.time, 'sleep', lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert end_of(raising(UserError('the same as rank 0 says')), capsys) == (2, '')


def test_gradients_that_overflow_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exploding(ToyDetector):
        """Finite losses whose gradient is not."""

        def forward_train(self, **batch: Any) -> dict[str, torch.Tensor]:
            """A square root at zero."""
            losses = super().forward_train(**batch)
            return dict(losses, loss_root=(0 * losses['loss_square']).sqrt())

    monkeypatch.setattr(train_module, 'make_detector', lambda cfg: Exploding())
    for clip in (dict(max_norm=1.0), None):
        cfg = toy_config(tmp_path, 1, **{'optimizer_config.grad_clip': clip})
        with pytest.raises(
            FloatingPointError,
            match=r'^the norm of the gradient is not finite at epoch 1, step 1: there is no checkpoint',
        ):
            train(cfg, TrainOptions(), ONE_PROCESS)
