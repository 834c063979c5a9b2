"""The training loop: mmcv's epoch runner with mixed precision, and checkpoints that resume to the bit."""

import contextlib
import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import RUNNERS, EpochBasedRunner, LoggerHook
from torch.utils.data import DataLoader

from projects.mmdet3d_plugin.common.checkpoint import (
    added_by_hooks,
    find_latest,
    load_weights,
    plain_state,
    unwrap,
    write_checkpoint,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.rng import capture_rng, restore_rng, untouched_rng
from projects.mmdet3d_plugin.distill.views import named_teachers
from projects.mmdet3d_plugin.engine import interrupts
from projects.mmdet3d_plugin.engine.amp import Precision
from projects.mmdet3d_plugin.engine.launch import Launch, gather_objects
from projects.mmdet3d_plugin.engine.resume import compare_settings, load_optimizer, read_resumable
from projects.mmdet3d_plugin.engine.run_record import RunRecord
from projects.mmdet3d_plugin.ops.pages import kept_pages

SWAP = '_swap_ema_parameters'
"""What mmcv's and mmdet's hooks call the exchange of averaged and trained weights."""


@RUNNERS.register_module()
class TrainRunner(EpochBasedRunner):
    """Runs epochs of training.

    Args:
        launch: the place of this process.
        precision: how the forward pass computes, fp32 by default.
        **kwargs: as mmcv's runner takes them (model, optimizer, work_dir, logger, meta, max_epochs).
    """

    def __init__(self, *, launch: Launch, precision: Precision | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.launch = launch
        self.precision = precision or Precision()
        self.between_updates = True  # False while gradients of an unfinished group are waiting
        self._recount = False
        self._skip = 0  # batches of the first epoch that a resumed run has behind it
        self._pending_rng: dict[str, Any] | None = None
        self._pending_log: dict[str, Any] | None = None
        self._resumed: tuple[Path, dict[str, Any]] | None = (
            None  # what hooks are yet to take from a checkpoint
        )
        self._hook_state: list[str] = []  # names that hooks added to the model's state
        self.resumed_from: Path | None = None
        self._saved_groups: list[dict[str, Any]] = []
        self.evaluation_due = False  # whether the run that was resumed was still to evaluate its last epoch
        self.record = RunRecord(self.work_dir)

    def run_iter(self, data_batch: Any, train_mode: bool, **kwargs: Any) -> None:
        """Run one step under autocast, and stop at a loss that is not a number."""
        with self.precision.autocast():
            super().run_iter(data_batch, train_mode, **kwargs)
        if self.precision.scaler is None:  # with a scaler an overflow is met by a smaller scale
            log_vars = self.outputs.get('log_vars', {})
            bad = [name for name, value in log_vars.items() if not math.isfinite(value)]
            if bad:  # stop before a NaN reaches the weights
                raise FloatingPointError(self.describe_non_finite(', '.join(bad)))

    def train(self, data_loader: DataLoader, **kwargs: Any) -> None:
        """Train one epoch."""
        self.model.train()
        self.mode = 'train'
        self.data_loader = data_loader
        self._max_iters = self._max_epochs * len(data_loader)
        # a distiller's terms may be scheduled
        set_epoch = getattr(unwrap(self.model), 'set_epoch', lambda epoch: None)
        self.call_hook('before_train_epoch')
        self._restore_log()
        for number, batch in self._batches(data_loader):
            interrupts.check()
            self._inner_iter = number
            self.data_batch = batch
            set_epoch(self.epoch + number / len(data_loader))
            self.call_hook('before_train_iter')
            self.run_iter(batch, train_mode=True, **kwargs)
            self.call_hook('after_train_iter')
            self.outputs = None  # nothing of a step outlives it
            self.call_hook('after_step')
            self._iter += 1
        self.data_batch = None
        self.call_hook('after_train_epoch')
        self._epoch += 1

    @kept_pages()
    def run(self, data_loader: DataLoader, **kwargs: Any) -> None:
        """Train from the current epoch to the last.

        Args:
            data_loader: loader of the training split.
        """
        self._max_iters = self._max_epochs * len(data_loader)
        if self._recount:
            self._iter = self.epoch * len(data_loader)
        self.logger.info('training from epoch %d to %d in %s', self.epoch + 1, self.max_epochs, self.work_dir)
        names = set(unwrap(self.model).state_dict())
        self.call_hook('before_run')
        self._hook_state = sorted(set(unwrap(self.model).state_dict()) - names)
        self._load_hook_state()
        self.mode, self.data_loader = 'train', data_loader
        self.call_hook('after_resume')
        if self.epoch >= self.max_epochs:
            self.logger.info('nothing to do: the checkpoint has %d of %d epochs', self.epoch, self.max_epochs)
        while self.epoch < self.max_epochs:
            self.train(data_loader, **kwargs)
        self.call_hook('after_run')

    def call_hook(self, fn_name: str) -> None:
        """Call a method of all hooks; one that mmcv does not know, of those that have it."""
        for hook in self._hooks:
            getattr(hook, fn_name, lambda _: None)(self)

    def save_checkpoint(self, path: str | os.PathLike, mid_epoch: bool = False) -> None:
        """Write everything that resuming needs. Every process must call it: each has its own random state.

        Under hooks that average weights the average has the plain names, as after an epoch, and what is trained is
        what the hook added.

        Args:
            path: file to write.
            mid_epoch: called after a step inside an epoch, not after the epoch.
        """
        rng = gather_objects(capture_rng())
        if not self.launch.is_main:
            return
        position = dict(epoch=self.epoch + 1, iter=self.iter, inner_iter=0)
        if mid_epoch:
            position = dict(epoch=self.epoch, iter=self.iter + 1, inner_iter=self.inner_iter + 1)
        notes = dict(world_size=self.world_size, hook_state=self._hook_state)
        notes['evaluation_due'] = not mid_epoch and any(
            hook.is_due(self)
            for hook in self._hooks
            if hasattr(hook, 'is_due')  # EvaluateHook
        )
        with self._averages() if mid_epoch else contextlib.nullcontext():
            content = dict(
                meta={**(self.meta or {}), **position, **notes},
                state_dict=plain_state(self.model),
                optimizer=self.optimizer.state_dict(),
                scaler=self.precision.state_dict(),
                rng=rng,
                log=self._recent_log() if mid_epoch else None,
            )
            write_checkpoint(path, content)

    @contextlib.contextmanager
    def _averages(self) -> Iterator[None]:
        """Let averaged weights and trained weights change places for a while."""
        hooks = [hook for hook in self._hooks if hasattr(hook, SWAP)]
        for hook in hooks:
            getattr(hook, SWAP)()
        try:
            yield
        finally:
            for hook in reversed(hooks):
                getattr(hook, SWAP)()

    def resume(self, path: str | os.PathLike) -> dict[str, Any]:
        """Continue from a checkpoint of :meth:`save_checkpoint` as if nothing had happened.

        Args:
            path: the checkpoint.

        Returns:
            the notes of the run that wrote it.

        Raises:
            UserError: it does not fit this run.
        """
        path = Path(path)
        content = read_resumable(path)
        self._restore_position(content, path)
        state = content['state_dict']
        added = added_by_hooks(state, content['meta']) - unwrap(self.model).state_dict().keys()
        kept = OrderedDict((name, value) for name, value in state.items() if name not in added)
        kept._metadata = getattr(state, '_metadata', OrderedDict())
        load_weights(self.model, {**content, 'state_dict': kept}, logger=self.logger, source=path)
        load_optimizer(self.optimizer, content['optimizer'], path)
        self._saved_groups = content['optimizer']['param_groups']
        try:
            self.precision.load_state_dict(content.get('scaler'))
        except (KeyError, RuntimeError, TypeError) as error:
            raise UserError(f'{path} cannot be resumed: its loss scale is damaged ({error})') from error
        self._resumed = path, {name: state[name] for name in added}
        return content['meta']

    def _load_hook_state(self) -> None:
        """Give hooks that add to the model's state what a checkpoint has of it: they add only when the run begins."""
        if self._resumed is None:
            return
        (path, state), self._resumed = self._resumed, None
        own = {name: value for name, value in unwrap(self.model).named_buffers() if name in self._hook_state}
        if absent := sorted(state.keys() - own.keys()):
            raise UserError(
                f'{path} was trained with a hook that added {len(absent)} tensors to the model (first {absent[0]}); '
                "this config has no such hook: name it in custom_hooks, for instance dict(type='EMAHook')"
            )
        for name in sorted(own.keys() & state.keys()):
            if own[name].shape != state[name].shape:
                raise UserError(
                    f'{path}: {name} has the shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}'
                )
            own[name].copy_(state[name])
        if own and not state:
            self.logger.warning('%s has no averages: hooks that average weights begin anew', path)

    def _recent_log(self) -> dict[str, Any]:
        """What the next line of the log averages over: values and how many samples each stands for, by name."""
        last = max((hook.interval for hook in self._hooks if isinstance(hook, LoggerHook)), default=0)
        buffer = self.log_buffer
        return {
            name: (
                [float(value) for value in values[-last:]],
                [int(n) for n in buffer.n_history[name][-last:]],
            )
            for name, values in buffer.val_history.items()
            if last
        }

    def _restore_log(self) -> None:
        """Go on averaging where the checkpoint stopped within an epoch, once."""
        for name, (values, counts) in (self._pending_log or {}).items():
            self.log_buffer.val_history[name] = list(values)
            self.log_buffer.n_history[name] = list(counts)
        self._pending_log = None

    def _restore_position(self, content: dict[str, Any], path: Path) -> None:
        """Restore epoch, iteration, best score and this process's random state."""
        saved = content['meta']
        self._recount = compare_settings(
            path, saved, self.meta or {}
        )  # an epoch may have another number of steps now
        self._compare_teachers(saved.get('teacher'), path)
        self._epoch, self._iter, self._skip = saved['epoch'], saved['iter'], saved.get('inner_iter', 0)
        self.meta = {**(self.meta or {}), 'hook_msgs': saved.get('hook_msgs') or {}}
        self.resumed_from, self.evaluation_due = path, bool(saved.get('evaluation_due'))
        self._pending_log = content.get('log')
        if saved['world_size'] == self.world_size:
            self._pending_rng = content['rng'][self.rank]
        elif self._skip:
            raise UserError(
                f'{path} stopped inside an epoch with {saved["world_size"]} processes: resume with as many'
            )
        else:
            self._recount = True
            self.logger.warning(
                'resuming %d processes with %d: the random state starts anew',
                saved['world_size'],
                self.world_size,
            )
        self.logger.info('resumed %s after epoch %d, iteration %d', path, self._epoch, saved['iter'])

    def _compare_teachers(self, saved: dict[str, Any] | None, path: Path) -> None:
        """Say so when a student goes on under another teacher than it began with."""
        present = (self.meta or {}).get('teacher')
        if not saved or not present:
            return
        before, now = named_teachers(saved), named_teachers(present)
        for name in (name for name in before if name in now):
            if before[name]['sha256'] != now[name]['sha256']:
                words = '%s was taught by another teacher (%s): its file has changed'
                self.logger.warning(words, path, before[name]['checkpoint'])

    def _batches(self, data_loader: DataLoader) -> Iterator[tuple[int, Any]]:
        """Yield (number in epoch, batch) of one epoch, without those that a resumed run has behind it."""
        skip, self._skip = self._skip, 0
        if not skip:
            self._restore_pending_rng()
        with untouched_rng():  # persistent workers draw their seed in the first epoch only
            unread = self._position_sampler(data_loader, skip)
            iterator = iter(data_loader)
            for _ in range(unread):
                next(iterator)
        torch.rand(())  # so that workers which do start anew get another seed in every epoch
        self._restore_pending_rng()
        yield from enumerate(iterator, start=skip)

    def _position_sampler(self, data_loader: DataLoader, skip: int) -> int:
        """Tell the sampler epoch and start; returns how many batches must be loaded and thrown away instead."""
        sampler = data_loader.sampler
        if hasattr(sampler, 'start'):  # TrainSampler: skips without loading
            sampler.set_epoch(self.epoch, start=skip * data_loader.batch_size)
            return 0
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(self.epoch)
        return skip

    @contextlib.contextmanager
    def as_saved(self) -> Iterator[None]:
        """Have random state and optimizer's settings of the checkpoint that was resumed, before training begins."""
        groups = self.optimizer.param_groups
        before = [dict(group) for group in groups]
        with untouched_rng():
            if self._pending_rng is not None:
                restore_rng(self._pending_rng)
            for group, saved in zip(groups, self._saved_groups, strict=True):
                group.update({key: value for key, value in saved.items() if key != 'params'})
            try:
                yield
            finally:
                for group, own in zip(groups, before, strict=True):
                    group.clear()
                    group.update(own)

    def _restore_pending_rng(self) -> None:
        """Go back to the random state of the checkpoint, once."""
        if self._pending_rng is not None:
            restore_rng(self._pending_rng)
            self._pending_rng = None

    def describe_non_finite(self, what: str) -> str:
        """The message of a run that stops at a number that is none.

        Args:
            what: name of the number.
        """
        latest = find_latest(self.work_dir)
        good = (
            'there is no checkpoint of this run yet'
            if latest is None
            else f'the weights in {latest} are still good'
        )
        return (
            f'{what} is not finite at epoch {self.epoch + 1}, step {self.inner_iter + 1}: {good}; a lower learning rate, '
            'bf16 instead of fp16, or a look at the data of that batch and at the weights it started from may help'
        )
