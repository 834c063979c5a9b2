"""A graph in ONNX, ready to run."""

import importlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.deploy.seal import SEAL, require_seal

_PACKAGES = ('onnx', 'onnxruntime')
Feed = dict[str, np.ndarray]
"""Inputs of a graph by name."""


class GraphParts(dict[str, Any]):
    """What a graph has of one kind, by name; asking for what it lacks says that the graph is not the exporter's.

    Args:
        path: of the graph.
        kind: what the parts are, for the message.
        parts: by name.
    """

    def __init__(self, path: str | Path, kind: str, parts: Mapping[str, Any]) -> None:
        super().__init__(parts)
        self.path, self.kind = path, kind

    def __missing__(self, name: str) -> NoReturn:
        known = ', '.join(self) or 'none'
        raise UserError(
            f'{self.path} has no {self.kind} {name!r}, which tools/export_onnx.py writes (it has {known}): export it again'
        )


class OnnxSession:
    """A graph of ``tools/export_onnx.py``, run by onnxruntime on the CPU.

    Args:
        path: the file.
        threads: of onnxruntime.

    Attributes:
        about: the file's metadata, as far as it is JSON.
        kind: type of the detector that was exported.
        classes: names, in label order.
        shapes: of the inputs; what is no number is not fixed.

    Raises:
        UserError: onnxruntime is not installed, or the file is no graph of ours, or has changed since.
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
        except Exception as error:  # its exceptions have no common class
            raise UserError(
                f'{path} is no graph of tools/export_onnx.py ({type(error).__name__}): export it again'
            ) from None
        if SEAL in props:
            require_seal(path)
        self.path = path
        self.about = GraphParts(path, 'metadata', _read_json(props))
        self.kind, self.classes = str(self.about['host']), self.about['classes']
        if not isinstance(self.classes, list):
            raise UserError(f'{path} calls its classes {self.classes!r}, which is no list: export it again')
        shapes = {node.name: tuple(node.shape) for node in self.session.get_inputs()}
        self.shapes = GraphParts(path, 'input', shapes)
        self.names = [node.name for node in self.session.get_outputs()]

    def __call__(self, feed: Feed) -> dict[str, Tensor]:
        """Inputs by name -> outputs by name.

        Raises:
            UserError: the graph was exported for other inputs, cannot be run on these, or gives numbers that are not
                finite.
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
        try:
            outputs = self.session.run(None, feed)
        except Exception as error:  # its exceptions have no common class
            line = ' '.join(str(error).split())
            raise UserError(f'onnxruntime cannot run {self.path} ({line}): export it again') from error
        if not all(np.isfinite(output).all() for output in outputs):
            raise UserError('the graph gives numbers that are not finite')
        found = {name: torch.from_numpy(value) for name, value in zip(self.names, outputs, strict=True)}
        return GraphParts(self.path, 'output', found)


class RecordingSession(OnnxSession):
    """A graph that remembers in ``feeds`` what it was fed with; arguments as of :class:`OnnxSession`."""

    def __init__(self, path: str | Path, threads: int) -> None:
        super().__init__(path, threads)
        self.feeds: list[Feed] = []

    def __call__(self, feed: Feed) -> dict[str, Tensor]:
        """See the base class."""
        self.feeds.append(feed)
        return super().__call__(feed)


def _read_json(props: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of the exporter; others write what is no JSON."""
    found = {}
    for key, value in props.items():
        with suppress(ValueError):
            found[key] = json.loads(value)
    return found


def require_package(name: str) -> ModuleType:
    """Import an optional package, or a module of one.

    Raises:
        UserError: it is not installed, or it is and lacks something else.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
            reason = f'{error.name} is not installed'
        else:
            reason = f'{name} cannot be imported ({error})'
        raise UserError(f'{reason}: pip install -r requirements/onnx.txt') from None
