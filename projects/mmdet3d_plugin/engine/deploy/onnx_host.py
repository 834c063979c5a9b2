"""The base of all export adapters: how a detector becomes a graph in ONNX, and how frames are given to that graph."""

from typing import Any, ClassVar

import numpy as np
from mmcv.utils import Registry
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession
from projects.mmdet3d_plugin.hosts.detr.camera_detector import to_result

ONNX_HOSTS = Registry('export adapter')
"""Adapters by the type of the detector."""

Batch = dict[str, Any]


class OnnxHost:
    """Translates between one family of detectors and ONNX. It has no state; hosts know nothing of it.

    Register a subclass under the host's class name: ``@ONNX_HOSTS.register_module(name='MyDetector')``.
    """

    outputs: ClassVar[tuple[str, ...]] = ('boxes', 'scores', 'labels')
    """Names of what :meth:`compute` returns."""

    axes: ClassVar[dict[str, dict[int, str]]] = {name: {0: 'boxes'} for name in outputs}
    """Axes whose length is not fixed, of inputs and outputs: name -> axis -> what it counts."""

    images: ClassVar[bool] = True
    """Whether the graph takes images, so that whoever feeds it must know how they are resized and normalised."""

    def prepare(self, model: nn.Module) -> None:
        """Replace modules that have no ONNX by others of the same result; the model is edited in place.

        Raises:
            UserError: this detector has parts that cannot be written.
        """

    def about(self, model: nn.Module) -> dict[str, Any]:
        """What else must be known to feed the graph; it goes into the file's metadata as JSON."""
        return {}

    def example(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Inputs of the graph, by name and in order, for a blank batch of the host's adapter."""
        raise NotImplementedError

    def compute(self, model: nn.Module, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the graph does, from inputs in the order of :meth:`example` to :attr:`outputs`."""
        raise NotImplementedError

    def new_memory(self, session: OnnxSession) -> Any:
        """An empty memory of earlier frames; None for a host without one."""
        return None

    def detect(self, session: OnnxSession, batch: Batch, memory: Any) -> list[dict[str, Any]]:
        """Run the graph on a batch of the test loader.

        Args:
            session: the graph.
            batch: what the detector's ``forward`` takes in testing.
            memory: what :meth:`new_memory` returned, or None to look at the frame alone.

        Returns:
            Results as the detector gives them.
        """
        raise NotImplementedError


class Graph(nn.Module):
    """A detector as a module without metas.

    Args:
        host: of the detector.
        detector: in ``eval()``.
    """

    def __init__(self, host: OnnxHost, detector: nn.Module) -> None:
        super().__init__()
        self.host, self.detector = host, detector

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """See :meth:`OnnxHost.compute`."""
        return self.host.compute(self.detector, *inputs)


def host_of(kind: str) -> OnnxHost:
    """The adapter of a detector's type.

    Raises:
        UserError: there is none.
    """
    adapter = ONNX_HOSTS.get(kind)
    if adapter is None:
        known = ', '.join(sorted(ONNX_HOSTS.module_dict))
        raise UserError(f'{kind} cannot be written as ONNX; what can is {known}')
    return adapter()


def stacked(metas: list[dict[str, Any]], key: str, dtype: type = np.float32) -> np.ndarray:
    """One entry of B metas as an array (B, ...), in the precision that a graph takes."""
    return np.stack([np.asarray(meta[key], dtype) for meta in metas])


def camera_results(
    outputs: dict[str, Tensor], frames: Tensor, metas: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Split what a graph found by frame.

    Args:
        outputs: ``boxes`` (n, 9) with gravity centres, ``scores`` (n,) and ``labels`` (n,).
        frames: (n,), the frame of each.
        metas: one dict per frame.
    """
    parts = [outputs[name] for name in ('boxes', 'scores', 'labels')]
    return [to_result(*(part[frames == i] for part in parts), meta) for i, meta in enumerate(metas)]
