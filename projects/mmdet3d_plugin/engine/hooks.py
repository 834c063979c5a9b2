"""What happens around the steps of training: update weights, save, evaluate, show progress."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import HOOKS, Hook
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.utils.data import DataLoader

from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_link
from projects.mmdet3d_plugin.common.progress import Progress
from projects.mmdet3d_plugin.common.rng import untouched_rng
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import broadcast_object
from projects.mmdet3d_plugin.engine.runner import TrainRunner

SMALLEST_SCALE = 1e-3


@HOOKS.register_module()
class OptimizeHook(Hook):
    """Backward pass, gradient accumulation, clipping, and the optimizer's step.

    Accumulation is exact: the gradient of a group of steps is the mean over the group, also for the last group
    of an epoch when it is shorter. Groups never cross an epoch.

    Args:
        grad_clip: arguments of ``clip_grad_norm_``, for instance ``dict(max_norm=35, norm_type=2)``.
        cumulative_iters: steps per update of the weights.
    """

    def __init__(self, grad_clip: dict[str, float] | None = None, cumulative_iters: int = 1) -> None:
        if cumulative_iters < 1:
            raise ValueError(f'optimizer_config.cumulative_iters must be at least 1, not {cumulative_iters}')
        self.grad_clip = grad_clip
        self.cumulative_iters = cumulative_iters

    def before_train_epoch(self, runner: TrainRunner) -> None:
        """Forget gradients of whoever ran before."""
        runner.optimizer.zero_grad(set_to_none=True)

    def before_train_iter(self, runner: TrainRunner) -> None:
        """Within a group, let processes keep their gradients to themselves until its last step."""
        if runner.launch.distributed:
            runner.model.require_backward_grad_sync = self._closes_group(runner)

    def after_train_iter(self, runner: TrainRunner) -> None:
        """Run the backward pass; at the end of a group also update the weights."""
        loss = runner.outputs['loss'] / self._group_size(runner)
        scaler = runner.precision.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        runner.between_updates = self._closes_group(runner)
        if not runner.between_updates:
            return
        if scaler is not None:
            scaler.unscale_(runner.optimizer)
        self._clip(runner)
        self._step(runner, scaler)
        runner.optimizer.zero_grad(set_to_none=True)

    def _closes_group(self, runner: TrainRunner) -> bool:
        """Whether the current step is the last of its group."""
        return self.every_n_inner_iters(runner, self.cumulative_iters) or self.end_of_epoch(runner)

    def _group_size(self, runner: TrainRunner) -> int:
        """Number of steps in the group of the current step."""
        start = runner.inner_iter // self.cumulative_iters * self.cumulative_iters
        return min(self.cumulative_iters, len(runner.data_loader) - start)

    def _clip(self, runner: TrainRunner) -> None:
        """Clip gradients and log their norm before clipping; in fp32 and bf16 an overflow ends the run."""
        with_grad = [p for p in runner.model.parameters() if p.grad is not None]
        if self.grad_clip is None:
            norm = get_total_norm([p.grad for p in with_grad])
        else:
            norm = clip_grad_norm_(with_grad, **self.grad_clip)
        # An overflow under fp16 is not an accident but how the scaler finds its scale: keep it out of averages.
        if math.isfinite(float(norm)):
            if self.grad_clip is not None:
                runner.log_buffer.update({'grad_norm': float(norm)}, runner.outputs['num_samples'])
        elif runner.precision.scaler is None:
            runner.stop_at('grad_norm')

    def _step(self, runner: TrainRunner, scaler: torch.amp.GradScaler | None) -> None:
        """Update the weights; under fp16 only when no gradient overflowed."""
        if scaler is None:
            runner.optimizer.step()
            return
        scaler.step(runner.optimizer)
        scaler.update()
        runner.log_buffer.update({'loss_scale': scaler.get_scale()})
        if scaler.get_scale() < SMALLEST_SCALE:
            raise FloatingPointError(
                'every step overflows in fp16, the weights no longer change: use --amp bf16'
            )


@HOOKS.register_module()
class SaveHook(Hook):
    """Saves a checkpoint every few epochs (``epoch_3.pth``) or steps (``iter_500.pth``).

    Args:
        interval: epochs or steps between checkpoints.
        by_epoch: whether ``interval`` counts epochs.
        max_keep_ckpts: how many of the newest to keep, -1 for all.
        save_last: also save after the last epoch.
    """

    def __init__(
        self, interval: int = 1, by_epoch: bool = True, max_keep_ckpts: int = -1, save_last: bool = True
    ) -> None:
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self._due = False

    def after_train_epoch(self, runner: TrainRunner) -> None:
        """Save when the number of finished epochs asks for it."""
        due = self._due or (self.by_epoch and self.every_n_epochs(runner, self.interval))
        self._due = False
        if due or (self.save_last and self.is_last_epoch(runner)):
            self._save(runner, f'epoch_{runner.epoch + 1}.pth', mid_epoch=False)

    def after_train_iter(self, runner: TrainRunner) -> None:
        """Save when the number of finished steps asks for it, but never between the steps of one update.

        What falls due at the end of an epoch is saved as an epoch.
        """
        self._due = not self.by_epoch and (self._due or self.every_n_iters(runner, self.interval))
        if self._due and runner.between_updates and not self.end_of_epoch(runner):
            self._due = False
            self._save(runner, f'iter_{runner.iter + 1}.pth', mid_epoch=True)

    def _save(self, runner: TrainRunner, name: str, mid_epoch: bool) -> None:
        """Write the file and remove the oldest ones."""
        work_dir = Path(runner.work_dir)
        runner.save_checkpoint(work_dir / name, mid_epoch=mid_epoch)
        if not runner.launch.is_main:
            return
        write_link(work_dir / 'latest.pth', name)
        runner.logger.info('saved %s', work_dir / name)
        if self.max_keep_ckpts > 0:
            kind = name.split('_')[0]
            numbered = sorted(work_dir.glob(f'{kind}_*.pth'), key=lambda file: int(file.stem.split('_')[1]))
            for old in numbered[: -self.max_keep_ckpts]:
                old.unlink()


@HOOKS.register_module()
class EvaluateHook(Hook):
    """Evaluates between epochs and after the last, with all processes, and remembers the best checkpoint.

    Training goes on as if it had not happened: the random state and every module's mode are put back.

    Args:
        data_loader: this process's loader of the validation split.
        interval: epochs between evaluations.
        start: first epoch (counted from 1) to evaluate after.
        save_best: name of a metric, for instance 'NDS'; its best checkpoint is kept as ``best_NDS.pth``.
        evaluate: turns results into metrics on rank 0, the dataset's ``evaluate`` by default.
        **evaluate_kwargs: what else to give to it.
    """

    def __init__(
        self,
        data_loader: DataLoader,
        interval: int = 1,
        start: int = 1,
        save_best: str | None = None,
        evaluate: Callable[..., dict[str, float]] | None = None,
        **evaluate_kwargs: Any,
    ) -> None:
        self.data_loader = data_loader
        self.interval = interval
        self.start = start
        self.save_best = save_best
        self.evaluate = evaluate or data_loader.dataset.evaluate
        self.evaluate_kwargs = evaluate_kwargs

    def before_run(self, runner: TrainRunner) -> None:
        """In a resumed run, find the best score so far: that of its own epoch is not in a checkpoint."""
        best = Path(runner.work_dir) / f'best_{self.save_best}.pth'
        if self.save_best and runner.epoch and best.is_file():
            notes = read_checkpoint(best)['meta'].get('hook_msgs', {})
            if notes.get('best_epoch', math.inf) <= runner.epoch:
                runner.meta['hook_msgs'] = notes

    def after_train_epoch(self, runner: TrainRunner) -> None:
        """Evaluate when this epoch asks for it."""
        epoch = runner.epoch + 1
        due = epoch >= self.start and (epoch - self.start + 1) % self.interval == 0
        if not (due or self.is_last_epoch(runner)):
            return
        with untouched_rng():
            # In fp32 whatever training runs in, so that tools/test.py later says the same.
            results = run_inference(runner.model, self.data_loader, runner.launch)
            metrics = None if results is None else self.evaluate(results, **self.evaluate_kwargs)
        metrics = {key: float(value) for key, value in broadcast_object(metrics).items()}
        runner.log_buffer.output.update(metrics, eval_iter_num=len(self.data_loader.dataset))
        runner.log_buffer.ready = True
        if self.save_best:
            self._keep_best(runner, metrics)

    def _keep_best(self, runner: TrainRunner, metrics: dict[str, float]) -> None:
        """Save the checkpoint when the watched metric has never been higher."""
        if self.save_best not in metrics:
            raise UserError(
                f'evaluation.save_best={self.save_best} is not a metric; metrics are {list(metrics)}'
            )
        notes = runner.meta.setdefault('hook_msgs', {})
        if metrics[self.save_best] > notes.get('best_score', -math.inf):
            notes['best_score'] = metrics[self.save_best]
            notes['best_epoch'] = runner.epoch + 1
            runner.save_checkpoint(Path(runner.work_dir) / f'best_{self.save_best}.pth')


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows how far the whole training is, with an estimate of the time left, on rank 0."""

    def before_run(self, runner: TrainRunner) -> None:
        """Start counting at the step a resumed run starts from."""
        name = Path(runner.work_dir).name
        self.progress = Progress(runner.max_iters, f'training {name}', runner.iter, runner.launch.is_main)

    def after_train_iter(self, runner: TrainRunner) -> None:
        """Count one step, and show its loss."""
        loss = runner.outputs.get('log_vars', {}).get('loss')
        self.progress.step(
            '' if loss is None else f'epoch {runner.epoch + 1}/{runner.max_epochs} loss {loss:.3f}'
        )

    def after_run(self, runner: TrainRunner) -> None:
        """Take the bar away."""
        self.progress.close()
