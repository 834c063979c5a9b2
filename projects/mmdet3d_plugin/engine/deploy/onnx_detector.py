"""A detector whose forward pass is a graph in ONNX: what is evaluated is what will be deployed."""

from pathlib import Path
from typing import Any

from torch import nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.deploy import hosts  # noqa: F401  registers the adapters
from projects.mmdet3d_plugin.engine.deploy.onnx_host import host_of
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession

SUFFIX = '.onnx'


class OnnxDetector(nn.Module):
    """A graph in place of a detector, in testing.

    Args:
        path: the file.
        threads: of onnxruntime.

    Attributes:
        num_cams: that the graph takes images of; None where it takes none.

    Raises:
        UserError: see :class:`OnnxSession`.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        super().__init__()
        self.path, self.session = path, OnnxSession(path, threads)
        self.host = host_of(self.session.kind)
        self.classes = self.session.classes
        self.num_cams = self.session.shapes['img'][1] if self.host.images else None

    def require_kind(self, kind: str) -> None:
        """Refuse a config whose model is of another type.

        Raises:
            UserError: names both.
        """
        if kind != self.session.kind:
            raise UserError(
                f'{self.path} is the graph of a {self.session.kind}, but the config is that of a {kind}: name the config '
                'that it was exported with'
            )

    def new_memory(self) -> Any:
        """An empty memory, to be passed on frame after frame; None for a host without one."""
        return self.host.new_memory(self.session)

    def forward(self, memory: Any = None, return_loss: bool = False, **batch: Any) -> list[dict[str, Any]]:
        """Detect in a batch of the test loader; arguments and results as of the detector's ``forward`` in testing.

        Raises:
            UserError: see :class:`OnnxSession`; it names the sample.
        """
        try:
            return self.host.detect(self.session, batch, memory)
        except UserError as error:
            raise UserError(f'{error} (sample {_name_of(batch)})') from None


def _name_of(batch: dict[str, Any]) -> str:
    """What the first sample of a batch is called."""
    meta = batch['img_metas']
    while isinstance(meta, (list, tuple)):
        meta = meta[-1]
    return str(meta.get('sample_token', meta.get('sample_idx', '?')))
