"""The adapter of detectors that have none of their own."""

from typing import Any

from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import Batch, HostAdapter


class ModuleAdapter(HostAdapter):
    """Any ``nn.Module`` that keeps to torchvision's custom: losses when it trains, predictions in ``eval()``.

    ``model(**batch)`` returns a dict of losses in training mode. Terms name modules by their dotted paths. It is not
    registered for a class: give it to :class:`~projects.mmdet3d_plugin.distill.distiller.Distiller` and to
    :meth:`FrozenTeacher.from_model <projects.mmdet3d_plugin.distill.teachers.frozen_teacher.FrozenTeacher.from_model>`.
    """

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Any]:
        """Run the student."""
        return model(**batch)

    def infer(self, model: nn.Module, batch: Batch) -> Any:
        """Run the teacher, which is in ``eval()``."""
        return model(**batch)
