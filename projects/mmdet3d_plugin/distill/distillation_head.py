"""FD3D's distillation head: object queries that look at the teacher's BEV feature and say where it matters."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.distill.hosts.adapter import require_ability
from projects.mmdet3d_plugin.distill.registry import HEADS
from projects.mmdet3d_plugin.distill.step import QueryReading, Step
from projects.mmdet3d_plugin.distill.taps import Recorder, Tap
from projects.mmdet3d_plugin.distill.teachers.teacher import Teacher
from projects.mmdet3d_plugin.distill.training_head import TrainingHead

INITS = ('teacher', 'scratch')


@HEADS.register_module()
class DistillationHead(TrainingHead):
    """A DETR decoder with box refinement whose values are the teacher's BEV feature (FD3D, "distillation head").

    Its queries are "aligned": the very positions at which they sample the teacher are compared with the student's
    feature. What it finds is handed out as constants, so no distillation loss can train the head to make itself small.

    Args:
        teacher: whose BEV feature is read.
        init: 'teacher' = the teacher's own frozen decoder and branches: the reading is taken off the teacher's forward
            pass and costs nothing. 'scratch' = a decoder of the same shape with new weights, trained along by the
            detection loss on ground truth and saved under ``distill.head``.
        weight: factor of that detection loss.
        decoder: of 'scratch', for teachers without a decoder of their own: its size, such as
            ``dict(num_query=900, num_layers=6)``.
    """

    reading: ClassVar[str] = 'queries'

    def __init__(
        self,
        teacher: Teacher,
        init: str = 'teacher',
        weight: float = 1.0,
        decoder: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if init not in INITS:
            raise ValueError(f"the distillation head's init must be one of {INITS}, got {init!r}")
        require_ability(teacher.adapter, 'query_head', "'distiller.head'")
        teacher.require_first_run("'distiller.head'")
        self.init, self.weight = init, weight
        self.adapter = teacher.adapter
        # A list hides the teacher's head from nn.Module, whose parameters must never become ours.
        self._frozen = [] if init == 'scratch' else [teacher.adapter.query_head(teacher.model)]
        self.decoder = (
            teacher.adapter.fresh_query_head(teacher.model, **(decoder or {})) if init == 'scratch' else None
        )
        self._taps = teacher.adapter.query_taps(self.decoder if init == 'scratch' else self._frozen[0])

    @property
    def taps(self) -> list[Tap]:
        """What to read in the teacher; empty for a head that runs on its own."""
        if self.decoder is not None:
            return []
        return [replace(tap, path=f'{self.adapter.head}.{tap.path}') for tap in self._taps]

    def forward(self, step: Step) -> tuple[QueryReading, dict[str, Tensor]]:
        """Read the teacher's BEV feature of one step.

        Args:
            step: with the teacher's predictions and what :attr:`taps` recorded.

        Returns:
            The reading, and the detection losses of a head that is trained along.
        """
        if self.decoder is None:
            start = f'{self.adapter.head}.'
            records = {tap.path: step.teacher[start + tap.path] for tap in self._taps}
            return self._read(self._frozen[0], records, step.predictions), {}
        with Recorder(self.decoder, self._taps) as recorder:
            outputs = self.adapter.decode_queries(self.decoder, step.predictions)
        losses = self.adapter.query_losses(self.decoder, outputs, step.batch)
        # d0.loss_cls -> loss_head_d0_cls
        keys = ['loss_head_' + name.replace('loss_', '').replace('.', '_') for name in losses]
        named = {key: value * self.weight for key, value in zip(keys, losses.values(), strict=True)}
        return self._read(self.decoder, recorder.pop(), outputs), named

    @torch.no_grad()
    def _read(self, head: nn.Module, records: dict[str, Any], outputs: Any) -> QueryReading:
        return self.adapter.read_queries(head, records, outputs)
