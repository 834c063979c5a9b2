"""What happens around the steps of training: update weights, save, evaluate, show progress."""

import inspect
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import HOOKS, Hook, LoggerHook, TextLoggerHook
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.utils.data import DataLoader

from projects.mmdet3d_plugin.common.checkpoint import unwrap
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_link
from projects.mmdet3d_plugin.common.progress import Progress
from projects.mmdet3d_plugin.common.rng import untouched_rng
from projects.mmdet3d_plugin.common.suggest import nearest
from projects.mmdet3d_plugin.common.tables import ERRORS
from projects.mmdet3d_plugin.engine.inference import run_inference
from projects.mmdet3d_plugin.engine.launch import broadcast_object
from projects.mmdet3d_plugin.engine.run_record import RunRecord
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
            raise UserError(f'optimizer_config.cumulative_iters must be at least 1, not {cumulative_iters}')
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
        start = runner.inner_iter // self.cumulative_iters * self.cumulative_iters
        group = min(self.cumulative_iters, len(runner.data_loader) - start)  # the last one may be smaller
        loss = runner.outputs['loss'] / group
        scaler = runner.precision.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        runner.between_updates = self._closes_group(runner)
        if not runner.between_updates:
            return
        if scaler is not None:
            scaler.unscale_(runner.optimizer)
        self._clip(runner)
        self._step(runner, scaler)
        # a distiller's teacher may follow its student
        getattr(unwrap(runner.model), 'after_update', lambda: None)()
        runner.optimizer.zero_grad(set_to_none=True)

    def _closes_group(self, runner: TrainRunner) -> bool:
        """Whether the current step is the last of its group."""
        return self.every_n_inner_iters(runner, self.cumulative_iters) or self.end_of_epoch(runner)

    def _clip(self, runner: TrainRunner) -> None:
        """Clip gradients and log their norm before clipping; in fp32 and bf16 an overflow ends the run."""
        with_grad = [p for p in runner.model.parameters() if p.grad is not None]
        if self.grad_clip is None:
            norm = get_total_norm([p.grad for p in with_grad])
        else:
            norm = clip_grad_norm_(with_grad, **self.grad_clip)
        if not math.isfinite(float(norm)):
            if runner.precision.scaler is None:  # in fp16 an overflow is how the scaler finds its scale
                raise FloatingPointError(runner.describe_non_finite('the norm of the gradient'))
        elif self.grad_clip is not None:
            runner.log_buffer.update({'grad_norm': float(norm)}, runner.outputs['num_samples'])

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
        interval: epochs or steps between checkpoints, -1 for none but the last.
        by_epoch: whether ``interval`` counts epochs.
        max_keep_ckpts: how many of the newest that this run saved to keep, -1 for all.
        save_last: also save after the last epoch.
    """

    def __init__(
        self, interval: int = 1, by_epoch: bool = True, max_keep_ckpts: int = -1, save_last: bool = True
    ) -> None:
        for name, value in dict(interval=interval, max_keep_ckpts=max_keep_ckpts).items():
            if not isinstance(value, int) or value < -1 or value == 0:
                raise UserError(f'checkpoint_config.{name} must be at least 1, or -1, not {value}')
        self.interval = interval
        self.by_epoch = by_epoch
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self._due = False

    def before_run(self, runner: TrainRunner) -> None:
        """Note which checkpoints of the folder are this run's."""
        if runner.launch.is_main:
            runner.record.go_on_from(runner.resumed_from, runner.epoch)

    def after_train_epoch(self, runner: TrainRunner) -> None:
        """Save when the number of finished epochs asks for it."""
        due = self._due or (self.by_epoch and self.every_n_epochs(runner, self.interval))
        self._due = False
        if due or (self.save_last and self.is_last_epoch(runner)):
            self._save(runner, f'epoch_{runner.epoch + 1}.pth', mid_epoch=False)

    def after_step(self, runner: TrainRunner) -> None:
        """Save when the number of finished steps asks for it, but never between the steps of one update.

        This comes after everything else of a step, its line in the log included. What falls due at the end of an epoch
        is saved as an epoch.
        """
        self._due = not self.by_epoch and (self._due or self.every_n_iters(runner, self.interval))
        if self._due and runner.between_updates and not self.end_of_epoch(runner):
            self._due = False
            self._save(runner, f'iter_{runner.iter + 1}.pth', mid_epoch=True)

    def _save(self, runner: TrainRunner, name: str, mid_epoch: bool) -> None:
        """Write the file and remove the oldest ones of its kind that this run wrote."""
        work_dir, record = Path(runner.work_dir), runner.record
        runner.save_checkpoint(work_dir / name, mid_epoch=mid_epoch)
        if not runner.launch.is_main:
            return
        record.saved = [*(other for other in record.saved if other != name), name]
        kind = name.split('_')[0]
        own = [other for other in record.saved if other.startswith(f'{kind}_')]
        old = own[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        record.saved = [other for other in record.saved if other not in old]
        record.write()
        write_link(work_dir / 'latest.pth', name)
        runner.logger.info('saved %s', work_dir / name)
        for other in old:
            (work_dir / other).unlink(missing_ok=True)


@HOOKS.register_module()
class EvaluateHook(Hook):
    """Evaluates between epochs and after the last, with all processes, and remembers the best checkpoint.

    Training goes on as if it had not happened: the random state and every module's mode are put back.

    Args:
        data_loader: this process's loader of the validation split.
        interval: epochs between evaluations.
        start: first epoch (counted from 1) to evaluate after.
        save_best: name of a metric, for instance 'NDS'; its best checkpoint is kept as ``best_NDS.pth``.
        rule: 'greater' or 'less', which is better; known for NDS, AP, errors and losses.
        evaluate: turns results into metrics on rank 0, the dataset's ``evaluate`` by default.
        **evaluate_kwargs: what else to give to it.

    Raises:
        UserError: a number makes no sense, ``save_best`` is no metric of the dataset, or which of its values is better
            is not known.
    """

    def __init__(
        self,
        data_loader: DataLoader,
        interval: int = 1,
        start: int | None = 1,
        save_best: str | None = None,
        rule: str | None = None,
        evaluate: Callable[..., dict[str, float]] | None = None,
        **evaluate_kwargs: Any,
    ) -> None:
        start = 1 if start is None else start
        for name, value, least in (('interval', interval, 1), ('start', start, 0)):
            if not isinstance(value, int) or value < least:
                raise UserError(f'evaluation.{name} must be at least {least}, not {value}')
        self.data_loader = data_loader
        self.interval = interval
        self.start = start
        self.save_best = save_best
        names = getattr(data_loader.dataset, 'metric_names', None)
        self.known = names() if save_best and names else None
        self.sign = sign_of(save_best, rule, self.known) if save_best else 0
        self.evaluate = evaluate or data_loader.dataset.evaluate
        self.evaluate_kwargs = evaluate_kwargs
        try:
            inspect.signature(self.evaluate).bind([], **evaluate_kwargs)
        except TypeError as error:
            raise UserError(f'evaluation: {error}') from None
        self._evaluated: int | None = None  # the epoch whose evaluation is not in the record yet

    def after_resume(self, runner: TrainRunner) -> None:
        """Find the best score of the run so far, and make up for an evaluation that an interruption cut off."""
        if runner.resumed_from is None:
            return
        noted = None
        if runner.launch.is_main:  # from the record beside the checkpoint
            record = runner.record
            if runner.resumed_from.resolve().parent != Path(runner.work_dir).resolve():
                record = RunRecord(runner.resumed_from.parent).load()
            noted = record.evaluated, record.best
        evaluated, best = broadcast_object(noted)
        if best and best.get('best_metric') == self.save_best and best['best_epoch'] <= runner.epoch:
            runner.meta['hook_msgs'] = best
        if not runner.evaluation_due or runner.epoch in evaluated:
            return
        runner.logger.info('evaluating after epoch %d: the run was interrupted before it had', runner.epoch)
        runner._epoch -= 1  # where the interrupted run was
        try:
            with runner.as_saved():
                self._evaluate(runner)
                for hook in runner.hooks:
                    if isinstance(hook, LoggerHook):
                        hook.after_train_epoch(runner)
        finally:
            runner._epoch += 1
        self._note(runner)

    def before_train_epoch(self, runner: TrainRunner) -> None:
        """Note that everything after the last epoch is done."""
        self._note(runner)

    def after_run(self, runner: TrainRunner) -> None:
        """Note that everything after the last epoch is done."""
        self._note(runner)

    def is_due(self, runner: TrainRunner) -> bool:
        """Whether to evaluate after the current epoch."""
        epoch = runner.epoch + 1
        due = epoch >= self.start and (epoch - self.start + 1) % self.interval == 0
        return due or self.is_last_epoch(runner)

    def after_train_epoch(self, runner: TrainRunner) -> None:
        """Evaluate when this epoch asks for it."""
        if self.is_due(runner):
            self._evaluate(runner)

    def _evaluate(self, runner: TrainRunner) -> None:
        """Evaluate, log, and keep the checkpoint if it is the best."""
        with untouched_rng():
            # In fp32 whatever training runs in, so that tools/test.py later says the same.
            results = run_inference(runner.model, self.data_loader, runner.launch)
            metrics = None if results is None else self.evaluate(results, **self.evaluate_kwargs)
        metrics = {key: float(value) for key, value in broadcast_object(metrics).items()}
        runner.log_buffer.output.update(metrics, eval_iter_num=len(self.data_loader.dataset))
        runner.log_buffer.ready = True
        if self.save_best:
            self._keep_best(runner, metrics)
        self._evaluated = runner.epoch + 1

    def _note(self, runner: TrainRunner) -> None:
        """Put a finished evaluation into the record of the run."""
        if self._evaluated is not None and runner.launch.is_main:
            runner.record.evaluated = sorted({*runner.record.evaluated, self._evaluated})
            runner.record.write()
        self._evaluated = None

    def _keep_best(self, runner: TrainRunner, metrics: dict[str, float]) -> None:
        """Save the checkpoint when the watched metric has never been better."""
        # one that cannot be computed is left out
        if self.save_best not in metrics and self.save_best not in (self.known or ()):
            raise UserError(
                f'evaluation.save_best={self.save_best} is not a metric; {nearest(self.save_best, metrics)}'
            )
        score, epoch = metrics.get(self.save_best, math.nan), runner.epoch + 1
        if math.isnan(score):
            runner.logger.warning(
                '%s is not a number after epoch %d (nothing of its kind in the ground truth?): it cannot be the best',
                self.save_best,
                epoch,
            )
            return
        notes = runner.meta.setdefault('hook_msgs', {})
        before = notes.get('best_score') if notes.get('best_metric') == self.save_best else None
        if before is not None and self.sign * score <= self.sign * before:
            return
        notes.update(best_metric=self.save_best, best_score=score, best_epoch=epoch)
        runner.save_checkpoint(Path(runner.work_dir) / f'best_{self.save_best.replace("/", "_")}.pth')
        if runner.launch.is_main:
            runner.record.best = dict(notes)
            runner.record.write()


def sign_of(metric: str, rule: str | None, known: Sequence[str] | None) -> int:
    """Which of a metric's values is better.

    Args:
        metric: its name.
        rule: 'greater', 'less', or None to tell by the name.
        known: names of the dataset's metrics, None when it does not say.

    Returns:
        1 when more is better, -1 when less is.

    Raises:
        UserError: it is no metric, or that cannot be told.
    """
    if not isinstance(metric, str):
        raise UserError(f'evaluation.save_best is {metric!r}: it must be the name of a metric')
    if known is not None and metric not in known:
        raise UserError(f'evaluation.save_best={metric} is not a metric; {nearest(metric, known)}')
    if rule is not None and rule not in ('greater', 'less'):
        raise UserError(f"evaluation.rule must be 'greater' or 'less', not {rule!r}")
    if rule is None and re.search(r'^(NDS|m?AP)|^(m|top|.*_)?(acc|recall|iou|f1)', metric, re.IGNORECASE):
        rule = 'greater'
    if rule is None and (metric in ERRORS or re.search('loss|err', metric, re.IGNORECASE)):
        rule = 'less'
    if rule is None:
        raise UserError(
            f"evaluation.save_best={metric}: say which values are better, evaluation.rule='greater' or 'less'"
        )
    return 1 if rule == 'greater' else -1


@HOOKS.register_module(name='TextLoggerHook', force=True)
class ValidTextLoggerHook(TextLoggerHook):
    """mmcv's text log; in its JSON lines a number that is not finite is null, as every reader of JSON expects."""

    def _round_float(self, items: Any) -> Any:
        if isinstance(items, float) and not math.isfinite(items):
            return None
        return super()._round_float(items)


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
        """End the progress bar."""
        self.progress.close()
