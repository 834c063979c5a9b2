"""The training loop: mmcv's epoch runner with mixed precision, and checkpoints that resume to the bit."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmcv.runner import RUNNERS, EpochBasedRunner
from torch.utils.data import DataLoader

from projects.mmdet3d_plugin.common.checkpoint import (
    load_weights,
    plain_state,
    read_checkpoint,
    unwrap,
    write_checkpoint,
)
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.rng import capture_rng, restore_rng, untouched_rng
from projects.mmdet3d_plugin.engine import interrupts
from projects.mmdet3d_plugin.engine.amp import Precision
from projects.mmdet3d_plugin.engine.launch import Launch, gather_objects
from projects.mmdet3d_plugin.ops.pages import kept_pages


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

    def run_iter(self, data_batch: Any, train_mode: bool, **kwargs: Any) -> None:
        """Run one step under autocast, and stop at a loss that is not a number."""
        with self.precision.autocast():
            super().run_iter(data_batch, train_mode, **kwargs)
        if self.precision.scaler is None:  # with a scaler an overflow is met by a smaller scale
            self._refuse_non_finite(self.outputs.get('log_vars', {}))

    def train(self, data_loader: DataLoader, **kwargs: Any) -> None:
        """Train one epoch."""
        self.model.train()
        self.mode = 'train'
        self.data_loader = data_loader
        self._max_iters = self._max_epochs * len(data_loader)
        if hasattr(unwrap(self.model), 'set_epoch'):  # a distiller's terms may be scheduled
            unwrap(self.model).set_epoch(self.epoch)
        self.call_hook('before_train_epoch')
        for number, batch in self._batches(data_loader):
            interrupts.check()
            self._inner_iter = number
            self.data_batch = batch
            self.call_hook('before_train_iter')
            self.run_iter(batch, train_mode=True, **kwargs)
            self.call_hook('after_train_iter')
            self.outputs = None  # nothing of a step outlives it
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
        if self.epoch >= self.max_epochs:
            self.logger.info('nothing to do: the checkpoint has %d of %d epochs', self.epoch, self.max_epochs)
            return
        self.call_hook('before_run')
        while self.epoch < self.max_epochs:
            self.train(data_loader, **kwargs)
        self.call_hook('after_run')

    def save_checkpoint(self, path: str | os.PathLike, mid_epoch: bool = False) -> None:
        """Write everything that resuming needs. Every process must call it: each has its own random state.

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
        content = dict(
            meta={**(self.meta or {}), **position, 'world_size': self.world_size},
            state_dict=plain_state(self.model),
            optimizer=self.optimizer.state_dict(),
            scaler=self.precision.state_dict(),
            rng=rng,
        )
        write_checkpoint(path, content)

    def resume(self, path: str | os.PathLike) -> None:
        """Continue from a checkpoint of :meth:`save_checkpoint` as if nothing had happened.

        Args:
            path: the checkpoint.
        """
        content = read_checkpoint(path)
        lacking = [key for key in ('optimizer', 'rng') if key not in content]
        if lacking or 'epoch' not in content['meta']:
            raise UserError(
                f'{path} cannot be resumed: it has no {" and no ".join(lacking) or "epoch"} '
                '(a checkpoint for testing only?); to start from its weights say load_from'
            )
        load_weights(self.model, content, strict=True, logger=self.logger)
        try:
            self.optimizer.load_state_dict(content['optimizer'])
        except ValueError as error:
            raise UserError(
                f'{path}: the optimizer of the config is not the one that was saved ({error})'
            ) from error
        self.precision.load_state_dict(content.get('scaler'))
        self._restore_position(content, Path(path))

    def _restore_position(self, content: dict[str, Any], path: Path) -> None:
        """Restore epoch, iteration, best score and this process's random state."""
        saved = content['meta']
        self._compare_teachers(saved.get('teacher'), path)
        self._epoch, self._iter, self._skip = saved['epoch'], saved['iter'], saved.get('inner_iter', 0)
        self.meta = {**(self.meta or {}), 'hook_msgs': saved.get('hook_msgs', {})}
        if saved['world_size'] == self.world_size:
            self._pending_rng = content['rng'][self.rank]
        elif self._skip:
            raise UserError(
                f'{path} stopped inside an epoch with {saved["world_size"]} processes: resume with as many'
            )
        else:
            self._recount = True  # an epoch has another number of steps now
            self.logger.warning(
                'resuming %d processes with %d: the random state starts anew',
                saved['world_size'],
                self.world_size,
            )
        self.logger.info('resumed %s after epoch %d, iteration %d', path, self._epoch, saved['iter'])

    def _compare_teachers(self, saved: dict[str, Any] | None, path: Path) -> None:
        """Say so when a student goes on under another teacher than it began with."""
        present = (self.meta or {}).get('teacher')
        if saved and present and saved['sha256'] != present['sha256']:
            self.logger.warning(
                '%s was taught by another teacher (%s): its file has changed', path, saved['checkpoint']
            )

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

    def _restore_pending_rng(self) -> None:
        """Go back to the random state of the checkpoint, once."""
        if self._pending_rng is not None:
            restore_rng(self._pending_rng)
            self._pending_rng = None

    def _refuse_non_finite(self, log_vars: dict[str, float]) -> None:
        """Stop before a NaN reaches the weights."""
        bad = [name for name, value in log_vars.items() if not math.isfinite(value)]
        if bad:
            self.stop_at(', '.join(bad))

    def stop_at(self, what: str) -> None:
        """End the run because of a number that is not finite.

        Raises:
            FloatingPointError: always; it says where, and whether a checkpoint is left.
        """
        saved = [f for kind in ('epoch', 'iter') for f in Path(self.work_dir).glob(f'{kind}_[0-9]*.pth')]
        raise FloatingPointError(
            f'{what} is not finite at epoch {self.epoch + 1}, step {self.inner_iter + 1}:'
            f'{" the weights of the last checkpoint are still good;" if saved else ""} a lower learning rate, bf16 '
            f'instead of fp16, or a look at that batch{"" if saved else " and at the initial weights"} may help'
        )
