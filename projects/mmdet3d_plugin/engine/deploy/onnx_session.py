"""A graph in ONNX, ready to run."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError

Feed = dict[str, np.ndarray]
"""Inputs of a graph by name."""


class OnnxSession:
    """A graph of ``tools/export_onnx.py``, run by onnxruntime on the CPU.

    Args:
        path: the file.
        threads: of onnxruntime.

    Attributes:
        about: the file's metadata.
        kind: type of the detector that was exported.
        classes: names, in label order.
        shapes: of the inputs; what is no number is not fixed.

    Raises:
        UserError: onnxruntime is not installed, or the file is no graph of ours.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        runtime = require_package('onnxruntime')
        if not Path(path).is_file():
            raise UserError(f'there is no file {path}')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
            props = self.session.get_modelmeta().custom_metadata_map
            self.about: dict[str, Any] = {key: json.loads(value) for key, value in props.items()}
            self.kind, self.classes = str(self.about['host']), list(self.about['classes'])
        except Exception as error:  # its exceptions have no common class
            raise UserError(
                f'{path} is no graph of tools/export_onnx.py ({type(error).__name__}): export it again'
            ) from None
        self.shapes = {node.name: tuple(node.shape) for node in self.session.get_inputs()}
        self.names = [node.name for node in self.session.get_outputs()]

    def __call__(self, feed: Feed) -> dict[str, Tensor]:
        """Inputs by name -> outputs by name.

        Raises:
            UserError: the graph was exported for other inputs, or gives numbers that are not finite.
        """
        if feed.keys() != self.shapes.keys():
            raise UserError(
                f'the graph takes {", ".join(self.shapes)}, but is given {", ".join(feed)}: export it again with this '
                'version of the project'
            )
        for name, value in feed.items():
            shape = self.shapes[name]
            if value.ndim != len(shape) or any(
                isinstance(size, int) and n != size for n, size in zip(value.shape, shape, strict=True)
            ):
                raise UserError(
                    f'the graph takes {name} of shape {shape}, the config gives {value.shape}: export it '
                    'again from this config'
                )
        outputs = self.session.run(None, feed)
        if not all(np.isfinite(output).all() for output in outputs):
            raise UserError('the graph gives numbers that are not finite')
        return {name: torch.from_numpy(value) for name, value in zip(self.names, outputs, strict=True)}


class RecordingSession(OnnxSession):
    """A graph that remembers in ``feeds`` what it was fed with; arguments as of :class:`OnnxSession`."""

    def __init__(self, path: str | Path, threads: int) -> None:
        super().__init__(path, threads)
        self.feeds: list[Feed] = []

    def __call__(self, feed: Feed) -> dict[str, Tensor]:
        """See the base class."""
        self.feeds.append(feed)
        return super().__call__(feed)


def require_package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f'{name} is not installed: pip install -r requirements/onnx.txt') from None
