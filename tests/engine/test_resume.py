"""What a run goes on from, and what it says of what changed since."""

import json
import os
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from projects.mmdet3d_plugin.common.checkpoint import find_latest, read_checkpoint, write_checkpoint
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import locked_folder, read_json
from projects.mmdet3d_plugin.engine.export import export_student
from projects.mmdet3d_plugin.engine.runner import TrainRunner
from tests.engine.test_train import assert_same, assert_same_end, run
from tests.engine.toy import ToyDataset, ToyDetector

STEPS = {'checkpoint_config': dict(interval=2, by_epoch=False)}


def entries(folder: Path, mode: str) -> list[dict[str, Any]]:
    """Lines of all logs of a folder, in order."""
    lines = [json.loads(line) for log in sorted(folder.glob('*.log.json')) for line in log.open()]
    return [line for line in lines if line.get('mode') == mode]


def spoil(path: Path) -> None:
    """Damage a checkpoint within its tensors."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(bytes(content))


def change(path: Path, **meta: Any) -> Path:
    """Write other notes into a checkpoint."""
    content = read_checkpoint(path)
    write_checkpoint(path, {**content, 'meta': {**content['meta'], **meta}})
    return path


def test_auto_falls_back_to_the_last_good_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path / 'straight', 4)
    run(tmp_path / 'parts', 4)
    (tmp_path / 'parts/epoch_4.pth').unlink()
    spoil(tmp_path / 'parts/epoch_3.pth')
    (tmp_path / 'parts/epoch_9.pth').write_bytes(b'not ours')
    run(tmp_path / 'parts', 4, dict(resume='auto'))
    said = capsys.readouterr().err
    assert 'epoch_3.pth is damaged' in said
    assert 'epoch_2.pth after epoch 2' in said
    assert_same_end(tmp_path / 'straight/epoch_4.pth', tmp_path / 'parts/epoch_4.pth')


def test_auto_does_not_begin_anew_over_damaged_checkpoints(tmp_path: Path) -> None:
    run(tmp_path, 1)
    spoil(tmp_path / 'epoch_1.pth')
    with pytest.raises(UserError, match='none of the 1 checkpoints of this run'):
        run(tmp_path, 2, dict(resume='auto'))


def test_auto_goes_on_with_the_last_run_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path, 4)
    run(tmp_path, 1, dict(seed=3))
    assert (
        'holds checkpoints of an earlier run (up to epoch_4.pth): this run begins anew'
        in capsys.readouterr().err
    )
    assert find_latest(tmp_path).name == 'epoch_1.pth'
    assert run(tmp_path, 2, dict(seed=3, resume='auto')).record.saved == ['epoch_1.pth', 'epoch_2.pth']


@pytest.mark.parametrize(
    ('options', 'changes', 'words'),
    [
        (dict(seed=5), {}, r'epoch_1\.pth was trained with seed 0, this run has 5: say --seed 0'),
        (
            {},
            {'optimizer': dict(_delete_=True, type='SGD', lr=0.1)},
            r"optimizer\.type 'AdamW', this run has 'SGD'",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    tmp_path: Path, options: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    run(tmp_path, 1)
    with pytest.raises(UserError, match=words):
        run(tmp_path, 2, dict(resume='auto', **options), **changes)


def test_other_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, 1)
    monkeypatch.setattr(ToyDataset, 'CLASSES', ('truck', 'car'))
    with pytest.raises(UserError, match=r"classes \['car', 'truck'\], this run has \['truck', 'car'\]"):
        run(tmp_path, 2, dict(resume='auto'))


def test_a_changed_learning_rate_is_used_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    constant = {'lr_config': None}
    run(tmp_path, 1, **constant)
    changes = {'optimizer.lr': 3e-4, 'optimizer.weight_decay': 0.5}
    runner = run(tmp_path, 2, dict(resume='auto'), **constant, **changes)
    assert 'optimizer.lr 0.01 -> 0.0003, optimizer.weight_decay 0.01 -> 0.5, ' in capsys.readouterr().err
    assert {(group['lr'], group['weight_decay']) for group in runner.optimizer.param_groups} == {(3e-4, 0.5)}
    assert entries(tmp_path, 'train')[-1]['lr'] == 3e-4


def test_a_schedule_starts_from_the_changed_rate(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    straight = run(tmp_path / 'straight', 4, **{'optimizer.lr': 5e-3})
    run(tmp_path / 'parts', 2)
    runner = run(tmp_path / 'parts', 4, dict(resume='auto'), **{'optimizer.lr': 5e-3})
    assert runner.optimizer.param_groups[0]['lr'] == straight.optimizer.param_groups[0]['lr']
    assert 'goes on as if runner.max_epochs had been 4 from the start' in capsys.readouterr().err


def test_an_epoch_that_was_begun_is_ended_with_batches_of_the_same_size(tmp_path: Path) -> None:
    run(tmp_path, 2, **STEPS)
    for other in (
        {'data.samples_per_gpu': 1},
        {'data.train.size': 8},
        {'optimizer_config.cumulative_iters': 2},
    ):
        with pytest.raises(UserError, match='it stopped within an epoch; set it back'):
            run(
                tmp_path / 'b',
                2,
                dict(resume=tmp_path / 'iter_4.pth'),
                **{'optimizer_config.cumulative_iters': 1, **other},
            )


def test_between_epochs_another_batch_size_counts_anew(tmp_path: Path) -> None:
    run(tmp_path, 1)
    runner = run(tmp_path, 2, dict(resume='auto'), **{'data.samples_per_gpu': 1})
    assert (runner.epoch, runner.iter) == (2, 20)


@pytest.mark.parametrize(
    ('part', 'value', 'words'),
    [
        (
            'optimizer',
            dict(state={}, param_groups=[dict(params=[0, 1, 2, 3], betas=(0.9, 0.99))]),
            'optimizer is empty',
        ),
        ('optimizer', dict(state={}), 'or its state is damaged'),
        ('optimizer', 7, 'or its state is damaged'),
        ('optimizer', {}, 'it has no optimizer'),
        ('rng', [{}], 'its random state is damaged'),
        ('rng', 3, 'its random state is damaged'),
    ],
)
def test_a_damaged_part_is_named(tmp_path: Path, part: str, value: Any, words: str) -> None:
    run(tmp_path, 1)
    path = tmp_path / 'epoch_1.pth'
    write_checkpoint(path, {**read_checkpoint(path), part: value})
    with pytest.raises(UserError, match=rf'epoch_1\.pth.*{words}'):
        run(tmp_path / 'b', 2, dict(resume=path))


@pytest.mark.parametrize('meta', [dict(epoch='one'), dict(world_size=None), dict(iter=-1)])
def test_damaged_counts_are_named(tmp_path: Path, meta: dict[str, Any]) -> None:
    run(tmp_path, 1)
    with pytest.raises(UserError, match='its epoch, iter or world_size is damaged'):
        run(tmp_path / 'b', 2, dict(resume=change(tmp_path / 'epoch_1.pth', **meta)))


class Killed(BaseException):
    """As if the process had ended."""


@pytest.mark.parametrize('epochs', [2, 3])
def test_an_evaluation_that_was_cut_off_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    scores = dict(evaluation=dict(interval=1, save_best='NDS'))
    run(tmp_path / 'straight', epochs, **scores)
    original, seen = ToyDataset.evaluate, []

    def dying(*args: Any, **kwargs: Any) -> dict[str, float]:
        seen.append(1)
        if len(seen) == 2:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(ToyDataset, 'evaluate', dying)
    with pytest.raises(Killed):
        run(tmp_path / 'parts', epochs, **scores)
    time.sleep(1)  # logs are named by the second
    run(tmp_path / 'parts', epochs, dict(resume='auto'), **scores)
    assert entries(tmp_path / 'parts', 'val') == entries(tmp_path / 'straight', 'val')
    one, other = (read_checkpoint(tmp_path / name / 'best_NDS.pth') for name in ('straight', 'parts'))
    for key in ('state_dict', 'optimizer', 'rng'):
        assert_same(one[key], other[key])
    assert one['meta']['hook_msgs'] == other['meta']['hook_msgs']
    assert len(seen) == epochs + 1
    run(tmp_path / 'parts', epochs, dict(resume='auto'), **scores)
    assert len(seen) == epochs + 1


def test_the_log_goes_on_within_an_epoch(tmp_path: Path) -> None:
    changes = {**STEPS, 'optimizer_config.cumulative_iters': 2, 'log_config.interval': 3}
    run(tmp_path / 'straight', 1, **changes)
    run(tmp_path / 'parts', 1, dict(resume=tmp_path / 'straight/iter_4.pth'), **changes)
    straight, parts = (entries(tmp_path / name, 'train')[-1] for name in ('straight', 'parts'))
    for line in (straight, parts):
        del line['time'], line['data_time']
    assert 'grad_norm' in parts
    assert straight == parts


def test_a_checkpoint_of_a_step_comes_after_its_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr('projects.mmdet3d_plugin.engine.runner.write_checkpoint', dying)
    with pytest.raises(Killed):
        run(tmp_path, 1, **STEPS, **{'log_config.interval': 2})
    assert [line['iter'] for line in entries(tmp_path, 'train')] == [2]


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    with locked_folder(tmp_path), pytest.raises(UserError, match='is at work in'):
        run(tmp_path, 1)


def die_while_saving(folder: Path) -> None:
    """Run in a process of its own, and kill it while it writes the second checkpoint."""
    original = torch.save

    def dying(content: dict[str, Any], file: Any) -> None:
        original(content, file)
        if content['meta']['epoch'] == 2:
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = dying
    run(folder, 3)


def test_a_run_killed_while_saving_goes_on_and_clears_up(tmp_path: Path) -> None:
    run(tmp_path / 'straight', 3)
    process = get_context('fork').Process(target=die_while_saving, args=(tmp_path / 'parts',))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / 'parts').glob('.epoch_2.pth.*.tmp'))) == 1
    run(tmp_path / 'parts', 3, dict(resume='auto'))
    assert not list((tmp_path / 'parts').glob('.*.tmp'))
    assert_same_end(tmp_path / 'straight/epoch_3.pth', tmp_path / 'parts/epoch_3.pth')


AVERAGES = [
    dict(type='EMAHook', momentum=0.1, priority='NORMAL'),
    dict(type='EMAHook', momentum=0.1, interval=2, priority='VERY_HIGH'),
    dict(type='ExpMomentumEMAHook', momentum=0.1, total_iter=5, priority=49),
]


@pytest.mark.parametrize('hook', AVERAGES, ids=lambda hook: f'{hook["type"]}-{hook["priority"]}')
def test_averages_are_resumed_tested_and_exported(
    tmp_path: Path, hook: dict[str, Any], capsys: pytest.CaptureFixture
) -> None:
    changes = dict(custom_hooks=[hook], evaluation=dict(interval=1, save_best='NDS'), **STEPS)
    straight = run(tmp_path / 'a', 3, **changes)
    for name in ('iter_4', 'iter_8'):
        run(tmp_path / name, 3, dict(resume=tmp_path / f'a/{name}.pth'), **changes)
        assert_same_end(tmp_path / 'a/epoch_3.pth', tmp_path / name / 'epoch_3.pth')
    path = tmp_path / 'a/epoch_3.pth'
    content = read_checkpoint(path)['state_dict']
    raw = run(tmp_path / 'raw', 3).model.module.state_dict()
    assert torch.equal(content['ema_pts_bbox_head_weight'], raw['pts_bbox_head.weight'])
    assert not torch.equal(content['pts_bbox_head.weight'], raw['pts_bbox_head.weight'])
    from projects.mmdet3d_plugin.engine.test import evaluate_checkpoint
    from tests.engine.toy import ONE_PROCESS, toy_config

    capsys.readouterr()
    cfg = toy_config(tmp_path / 'a', data=dict(test=dict(type='ToyDataset', size=7)))
    logged = {line['epoch']: line['NDS'] for line in entries(tmp_path / 'a', 'val')}
    best = read_checkpoint(tmp_path / 'a/best_NDS.pth')['meta']['hook_msgs']
    export_student(path, tmp_path / 'student.pth')
    for file, epoch in (
        (path, 3),
        (tmp_path / 'student.pth', 3),
        (tmp_path / 'a/best_NDS.pth', best['best_epoch']),
    ):
        metrics = evaluate_checkpoint(cfg, file, tmp_path / 'eval', launch=ONE_PROCESS)
        assert metrics['NDS'] == pytest.approx(logged[epoch], abs=1e-5)
    assert read_checkpoint(tmp_path / 'student.pth')['state_dict'].keys() == ToyDetector().state_dict().keys()
    assert straight.epoch == 3


def test_a_run_without_the_hook_does_not_go_on_from_averages(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run(tmp_path / 'a', 1, custom_hooks=AVERAGES[:1])
    with pytest.raises(UserError, match=r'epoch_1\.pth was trained with a hook that added 4 tensors'):
        run(tmp_path / 'b', 2, dict(resume=tmp_path / 'a/epoch_1.pth'))
    run(tmp_path / 'c', 1)
    run(tmp_path / 'c', 2, dict(resume='auto'), custom_hooks=AVERAGES[:1])
    assert 'hooks that average weights begin anew' in capsys.readouterr().err


def test_only_checkpoints_of_this_run_are_removed(tmp_path: Path) -> None:
    for name in ('epoch_10.pth', 'epoch_best.pth', 'epoch_1_of_last_week.pth', 'iter_3.pth'):
        (tmp_path / name).write_bytes(b'mine')
    run(tmp_path, 3, checkpoint_config=dict(interval=1, max_keep_ckpts=1))
    run(tmp_path, 5, dict(resume='auto'), checkpoint_config=dict(interval=1, max_keep_ckpts=1))
    kept = {path.name for path in tmp_path.glob('*.pth')}
    assert kept == {
        'epoch_10.pth',
        'epoch_best.pth',
        'epoch_1_of_last_week.pth',
        'iter_3.pth',
        'epoch_5.pth',
        'latest.pth',
    }
    assert os.readlink(tmp_path / 'latest.pth') == 'epoch_5.pth'
    assert read_json(tmp_path / 'checkpoints.json')['saved'] == ['epoch_5.pth']


@pytest.mark.parametrize(
    ('settings', 'best'),
    [
        (dict(save_best='mATE'), 2),
        (dict(save_best='mAP'), 3),
        (dict(save_best='AP/car'), 1),
        (dict(save_best='strange', rule='less'), 2),
        (dict(save_best='mATE', rule='greater'), 1),
    ],
)
def test_the_best_is_the_one_that_the_metric_calls_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], best: int
) -> None:
    scores = iter(
        [
            {'mATE': 1.07, 'mAP': float('nan'), 'AP/car': 0.5, 'strange': 3.0},
            {'mATE': 0.95, 'mAP': 0.1, 'AP/car': 0.4, 'strange': 1.0},
            {'mATE': 0.99, 'mAP': 0.2, 'AP/car': 0.4, 'strange': 2.0},
        ]
    )
    monkeypatch.setattr(ToyDataset, 'evaluate', lambda *_, **__: next(scores))
    run(tmp_path, 3, evaluation=dict(interval=1, **settings))
    name = settings['save_best'].replace('/', '_')
    assert read_checkpoint(tmp_path / f'best_{name}.pth')['meta']['epoch'] == best


def test_a_score_that_is_no_number_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(ToyDataset, 'evaluate', lambda *_, **__: {'mAP': float('nan')})
    run(tmp_path, 1, evaluation=dict(interval=1, save_best='mAP'))
    assert 'mAP is not a number after epoch 1' in capsys.readouterr().err
    assert not (tmp_path / 'best_mAP.pth').exists()
    assert entries(tmp_path, 'val')[0]['mAP'] is None


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'evaluation': dict(interval=0)},
            r'evaluation\.interval is 0: it must be a whole number of at least 1',
        ),
        ({'evaluation': dict(interval=1.5)}, r'evaluation\.interval is 1\.5: it must be a whole'),
        ({'evaluation': dict(save_best='ND')}, r"save_best=ND is not a metric; did you mean 'NDS'\?"),
        (
            {'evaluation': dict(save_best='frames')},
            r"say which values are better, evaluation\.rule='greater' or 'less'",
        ),
        ({'evaluation': dict(save_best='NDS', rule='more')}, "rule must be 'greater' or 'less', not 'more'"),
        (
            {'checkpoint_config': dict(interval=0)},
            r'checkpoint_config\.interval is 0: it must be',
        ),
        ({'checkpoint_config': dict(max_keep_ckpts=0)}, 'max_keep_ckpts is 0: it must be a whole number'),
        ({'optimizer_config.cumulative_iters': 0}, 'cumulative_iters is 0: it must be'),
    ],
)
def test_settings_are_checked_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(ToyDataset, 'metric_names', lambda _: ['NDS', 'mAP', 'frames'], raising=False)
    monkeypatch.setattr(TrainRunner, 'run', lambda *_: pytest.fail('it began'))
    with pytest.raises(UserError, match=words):
        run(tmp_path, 1, **changes)


@pytest.mark.parametrize('trained', [False, True])
def test_a_loss_that_is_not_finite_names_the_last_good_checkpoint_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    if trained:
        run(tmp_path, 1)
    monkeypatch.setattr(
        ToyDetector, 'forward_train', lambda self, **_: dict(loss_a=self.pts_bbox_head.bias.sum() / 0)
    )
    words = (
        r'the weights in .*epoch_1\.pth are still good'
        if trained
        else 'there is no checkpoint of this run yet'
    )
    with pytest.raises(FloatingPointError, match=words):
        run(tmp_path, 2, dict(resume='auto'))


def test_a_gradient_that_overflows_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steep(self: ToyDetector, **_: Any) -> dict[str, torch.Tensor]:
        return dict(loss_a=(self.pts_bbox_head.weight * 1e25).sum())  # its square overflows, it does not

    monkeypatch.setattr(ToyDetector, 'forward_train', steep)
    with pytest.raises(FloatingPointError, match='the norm of the gradient is not finite at epoch 1, step 1'):
        run(tmp_path, 1)
