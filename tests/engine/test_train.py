"""Training runs from start to end: resuming, accumulation, precision, logs, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.common.config import config_text
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.runner import TrainRunner
from projects.mmdet3d_plugin.engine.train import TrainOptions, main, train
from projects.mmdet3d_plugin.ops import library
from tests.engine.toy import ONE_PROCESS, ToyDetector, toy_config
from tests.ops.test_pages import keeps


def run(folder: Path, epochs: int = 2, options: dict[str, Any] | None = None, **changes: Any) -> TrainRunner:
    """One training run of the toy detector."""
    return train(toy_config(folder, epochs, **changes), TrainOptions(**(options or {})), ONE_PROCESS)


def assert_same(left: Any, right: Any) -> None:
    """Equal to the bit, through dicts and lists."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


def assert_same_end(left: Path, right: Path) -> None:
    """Two final checkpoints are equal in weights, optimizer, scaler and random state."""
    one, other = read_checkpoint(left), read_checkpoint(right)
    for part in ('state_dict', 'optimizer', 'scaler', 'rng'):
        assert_same(one[part], other[part])
    assert (one['meta']['epoch'], one['meta']['iter']) == (other['meta']['epoch'], other['meta']['iter'])


@pytest.mark.parametrize('workers', [0, 2])
def test_resuming_equals_a_straight_run_to_the_bit(tmp_path: Path, workers: int) -> None:
    # starting workers is what takes time
    validation = {'evaluation': dict(interval=4 if workers else 1), 'data.workers_per_gpu': workers}
    # Worker processes draw their jitter from a state of their own, seeded by the sampler in the real dataset.
    jitter = {'data.train.jitter': 0.0} if workers else {}
    run(tmp_path / 'straight', 4, **validation, **jitter)
    run(tmp_path / 'parts', 4, **validation, **jitter)
    for late in (3, 4):
        (tmp_path / f'parts/epoch_{late}.pth').unlink()
    torch.manual_seed(99)
    np.random.seed(99)
    run(tmp_path / 'parts', 4, dict(resume='auto'), **validation, **jitter)
    assert_same_end(tmp_path / 'straight/epoch_4.pth', tmp_path / 'parts/epoch_4.pth')


def test_momentum_falls_while_the_rate_rises_and_resumes_to_the_bit(tmp_path: Path) -> None:
    """The one-cycle schedule of LiDAR detectors."""
    cycle = dict(cyclic_times=1, step_ratio_up=0.4, policy='cyclic')
    schedule = {
        'lr_config': dict(_delete_=True, target_ratio=(10, 1e-4), **cycle),
        'momentum_config': dict(target_ratio=(0.85 / 0.95, 1), **cycle),
        'optimizer': dict(_delete_=True, type='AdamW', lr=1e-3, betas=(0.95, 0.99)),
    }
    straight = run(tmp_path / 'straight', 4, **schedule)
    first = read_checkpoint(tmp_path / 'straight/epoch_2.pth')['optimizer']['param_groups'][0]
    assert 0.85 <= first['betas'][0] < 0.94
    assert straight.optimizer.param_groups[0]['betas'][0] > first['betas'][0]
    run(tmp_path / 'parts', 4, dict(resume=tmp_path / 'straight/epoch_2.pth'), **schedule)
    assert_same_end(tmp_path / 'straight/epoch_4.pth', tmp_path / 'parts/epoch_4.pth')


def test_resuming_inside_an_epoch_equals_a_straight_run(tmp_path: Path) -> None:
    steps = {'checkpoint_config': dict(interval=2, by_epoch=False)}
    run(tmp_path / 'straight', 2, **steps)
    run(tmp_path / 'parts', 2, dict(resume=tmp_path / 'straight/iter_4.pth'), **steps)
    assert_same_end(tmp_path / 'straight/epoch_2.pth', tmp_path / 'parts/epoch_2.pth')


def test_a_checkpoint_never_cuts_an_accumulated_update(tmp_path: Path) -> None:
    steps = {'checkpoint_config': dict(interval=3, by_epoch=False), 'optimizer_config.cumulative_iters': 2}
    run(tmp_path / 'straight', 2, **steps)
    # Steps 3, 6 and 9 are due; groups end with steps 2, 4 and 5 of an epoch of 5.
    names = sorted(path.name for path in (tmp_path / 'straight').glob('*_*.pth'))
    assert names == ['epoch_2.pth', 'iter_4.pth', 'iter_7.pth', 'iter_9.pth']
    run(tmp_path / 'parts', 2, dict(resume=tmp_path / 'straight/iter_7.pth'), **steps)
    assert_same_end(tmp_path / 'straight/epoch_2.pth', tmp_path / 'parts/epoch_2.pth')


def test_validation_leaves_no_trace_in_training(tmp_path: Path) -> None:
    run(tmp_path / 'with', evaluation=dict(interval=1))
    run(tmp_path / 'without')
    assert_same_end(tmp_path / 'with/epoch_2.pth', tmp_path / 'without/epoch_2.pth')


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    one = run(tmp_path / 'a', 1, dict(seed=1)).model.module.state_dict()
    other = run(tmp_path / 'b', 1, dict(seed=2)).model.module.state_dict()
    assert not torch.equal(one['pts_bbox_head.weight'], other['pts_bbox_head.weight'])


def test_a_wrong_resume_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'epoch_7\.pth: there is no such checkpoint; nothing was started'):
        run(tmp_path, 2, dict(resume='epoch_7.pth'))
    with pytest.raises(UserError, match=rf'--resume {tmp_path}: this is a folder: name a checkpoint in it'):
        run(tmp_path, 2, dict(resume=str(tmp_path)))


def test_auto_without_a_checkpoint_says_so_and_starts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run(tmp_path, 1, dict(resume='auto'))
    assert 'no checkpoint in' in capsys.readouterr().err
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.parametrize('several', [False, True])
def test_another_teacher_than_before_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, several: bool
) -> None:
    def taught_by(digest: str) -> None:
        own = dict(checkpoint=None, sha256=None)
        teacher = dict(checkpoint='teacher.pth', sha256=digest)
        meta = dict(teacher=dict(big=teacher, own=own) if several else teacher)
        monkeypatch.setattr(ToyDetector, 'meta', lambda _: meta, raising=False)

    taught_by('aa')
    run(tmp_path, 1)
    run(tmp_path, 2, dict(resume='auto'))
    assert 'another teacher' not in capsys.readouterr().err
    taught_by('bb')
    run(tmp_path, 3, dict(resume='auto'))
    assert 'taught by another teacher (teacher.pth)' in capsys.readouterr().err


def test_distilling_does_not_go_on_from_training_alone_nor_the_other_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / 'alone', 1)
    with monkeypatch.context() as patched:
        patched.setattr(ToyDetector, 'meta', lambda _: dict(teacher=dict(sha256='a')), raising=False)
        with pytest.raises(UserError, match=r'epoch_1\.pth was trained alone: go on with tools/train\.py'):
            run(tmp_path / 'alone', 2, dict(resume='auto'))
        run(tmp_path / 'taught', 1)
    with pytest.raises(
        UserError, match=r'was distilled: go on with tools/distillation\.py, or begin anew from'
    ):
        run(tmp_path / 'taught', 2, dict(resume='auto'))


def test_a_student_file_cannot_be_resumed(tmp_path: Path) -> None:
    path = tmp_path / 'student.pth'
    torch.save(dict(state_dict=ToyDetector().state_dict(), meta={}), path)
    with pytest.raises(UserError, match='cannot be resumed: it has no optimizer and no rng'):
        run(tmp_path, 2, dict(resume=path))


def test_gradients_are_accumulated_exactly_with_a_short_last_group(tmp_path: Path) -> None:
    common = {
        'model.dropout': 0.0,
        'data.train': dict(type='ToyDataset', size=10, jitter=0.0),
        'optimizer': dict(type='SGD', lr=0.5, _delete_=True),
        'lr_config': None,
    }
    # Five steps of two samples in groups of two, two and one; against steps of four, four and two samples.
    small = {'data.samples_per_gpu': 2, 'optimizer_config.cumulative_iters': 2}
    grouped = run(tmp_path / 'a', 2, **common, **small).model.module.state_dict()
    joined = run(tmp_path / 'b', 2, **common, **{'data.samples_per_gpu': 4}).model.module.state_dict()
    for name, value in joined.items():
        torch.testing.assert_close(grouped[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_mixed_precision_trains_and_resumes(tmp_path: Path, precision: str) -> None:
    straight = run(tmp_path / 'straight', 3, dict(amp=precision))
    assert straight.precision.name == precision
    run(tmp_path / 'parts', 3, dict(amp=precision, resume=tmp_path / 'straight/epoch_1.pth'))
    assert_same_end(tmp_path / 'straight/epoch_3.pth', tmp_path / 'parts/epoch_3.pth')
    content = read_checkpoint(tmp_path / 'straight/epoch_3.pth')
    assert content['state_dict']['pts_bbox_head.weight'].dtype == torch.float32
    assert (content['scaler'] is not None) == (precision == 'fp16')


def test_every_loss_is_logged_in_text_and_tensorboard(tmp_path: Path) -> None:
    hooks = [
        dict(type='TextLoggerHook', ignore_last=False),
        dict(type='TensorboardLoggerHook', ignore_last=False),
    ]
    run(tmp_path, 1, evaluation=dict(interval=1), log_config=dict(interval=2, hooks=hooks))
    lines = [json.loads(line) for line in next(tmp_path.glob('*.log.json')).read_text().splitlines()]
    assert {'loss_square', 'loss_absolute', 'loss', 'grad_norm', 'lr'} <= lines[1].keys()
    assert lines[-1]['mode'] == 'val'
    assert lines[-1]['mAP'] == 0.5
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / 'tf_logs')).Reload()
    assert {'train/loss_square', 'train/loss_absolute', 'val/mAP'} <= set(events.Tags()['scalars'])


def test_evaluation_comes_every_few_epochs_and_after_the_last(tmp_path: Path) -> None:
    run(tmp_path, 5, evaluation=dict(interval=2, start=1))
    lines = [json.loads(line) for line in next(tmp_path.glob('*.log.json')).read_text().splitlines()]
    assert [line['epoch'] for line in lines if line.get('mode') == 'val'] == [2, 4, 5]


def test_meta_says_where_a_checkpoint_comes_from(tmp_path: Path) -> None:
    run(tmp_path, 1)
    meta = read_checkpoint(tmp_path / 'epoch_1.pth')['meta']
    assert meta['CLASSES'] == ['car', 'truck']
    assert meta['versions']['torch'] == torch.__version__.split('+')[0]
    assert 'ToyDetector' in meta['config']
    assert (meta['epoch'], meta['iter'], meta['seed']) == (1, 5, 0)


@pytest.mark.parametrize('name', ['epoch_1.pth', 'latest.pth', 'best_NDS.pth'])
def test_a_folder_in_the_place_of_a_checkpoint_is_named_before_training(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf'{name} is a folder, where a run keeps a checkpoint: move it away'):
        run(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith('.')] == [name]


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run(tmp_path, 3, checkpoint_config=dict(interval=1, max_keep_ckpts=2))
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'epoch_2.pth',
        'epoch_3.pth',
        'latest.pth',
    ]
    assert (tmp_path / 'latest.pth').resolve().name == 'epoch_3.pth'


def test_the_best_checkpoint_is_kept_also_over_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.3, 0.9, 0.5])
    monkeypatch.setattr('tests.engine.toy.ToyDataset.evaluate', lambda *_, **__: {'NDS': next(scores)})
    best = dict(evaluation=dict(interval=1, save_best='NDS'))
    run(tmp_path, 2, **best)
    assert read_checkpoint(tmp_path / 'best_NDS.pth')['meta']['hook_msgs'] == dict(
        best_metric='NDS', best_score=0.9, best_epoch=2
    )
    run(tmp_path, 3, dict(resume='auto'), **best)
    assert read_checkpoint(tmp_path / 'best_NDS.pth')['meta']['epoch'] == 2


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = ToyDetector.forward_train

    def poisoned(self: ToyDetector, **batch: Any) -> dict[str, torch.Tensor]:
        return {**original(self, **batch), 'loss_sick': torch.tensor(math.nan)}

    monkeypatch.setattr(ToyDetector, 'forward_train', poisoned)
    with pytest.raises(FloatingPointError, match='loss_sick, loss is not finite at epoch 1, step 1'):
        run(tmp_path, 1)


def test_frozen_parts_stay_frozen_through_evaluation(tmp_path: Path) -> None:
    from projects.mmdet3d_plugin.common.models import evaluating

    model = ToyDetector().train()
    model.drop.eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert model.img_backbone.training
    assert not model.drop.training


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(runner=dict(max_iters=5, _delete_=True)), 'runner.max_iters is not supported'),
        (dict(runner=dict(_delete_=True)), 'does not say how long to train'),
        (dict(fp16=dict(loss_scale=512.0)), '--amp fp16'),
        (
            {'optimizer_config.type': 'Fp16OptimizerHook'},
            'optimizer_config.type=Fp16OptimizerHook: leave it out',
        ),
        ({'model.type': 'NoSuchDetector'}, "there is no model 'NoSuchDetector'"),
        ({'data.train': None}, 'the config has no data.train'),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, 1, **changes)


def test_command_line(tmp_path: Path) -> None:
    config = tmp_path / 'toy.py'
    config.write_text(config_text(toy_config(tmp_path / 'run')))
    main(
        [
            str(config),
            '--work-dir',
            str(tmp_path / 'there'),
            '--cfg-options',
            'runner.max_epochs=1',
            '--device',
            'cpu',
        ]
    )
    assert (tmp_path / 'there/epoch_1.pth').is_file()
    assert (tmp_path / 'there/config.py').is_file()
    with pytest.raises(SystemExit, match=r'error: --resume nowhere\.pth'):
        main([str(config), '--resume', 'nowhere.pth'])


@pytest.mark.skipif(not library.serves(torch.empty(0), 'keep_pages'), reason='the operators are not built')
def test_training_and_evaluation_keep_their_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for name in ('forward_train', 'forward_test'):
        whole = getattr(ToyDetector, name)

        def noting(*args: Any, whole: Any = whole, name: str = name, **kwargs: Any) -> Any:
            seen[name] = keeps()
            return whole(*args, **kwargs)

        monkeypatch.setattr(ToyDetector, name, noting)
    run(tmp_path, 1, evaluation=dict(interval=1))
    assert seen == {'forward_train': True, 'forward_test': True}
    assert not keeps()


def test_a_model_with_schedules_hears_fractions_of_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm-up over the first epoch rises step by step, and goes on at the right place after a resume within one."""
    heard: list[float] = []
    monkeypatch.setattr(ToyDetector, 'set_epoch', lambda self, epoch: heard.append(epoch), raising=False)
    steps = len(run(tmp_path, 2, checkpoint_config=dict(interval=3, by_epoch=False)).data_loader)
    whole = list(heard)
    assert whole == pytest.approx([i / steps for i in range(2 * steps)])
    heard.clear()
    run(
        tmp_path / 'on',
        2,
        dict(resume=tmp_path / 'iter_3.pth'),
        checkpoint_config=dict(interval=3, by_epoch=False),
    )
    assert heard == pytest.approx(whole[3:])
