"""Write a trained detector as a graph in ONNX that stock onnxruntime runs."""

import argparse
import importlib
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from mmcv import Config
from torch import nn

from projects.mmdet3d_plugin.command_line.parsers import parse_export_onnx
from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import require_writable_file, write_bytes
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.config_check import check_test_config
from projects.mmdet3d_plugin.hosts.onnx_graphs import ONNX_GRAPHS
from projects.mmdet3d_plugin.ops.library import pure_torch

OPSET = 17
_VIEW = ('size', 'scale', 'mean', 'std', 'to_rgb', 'pad_divisor')


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/export_onnx.py."""
    cli.run(_export_from, parse_export_onnx(argv))


def _export_from(arguments: argparse.Namespace) -> None:
    """Export as parsed arguments say, and print what came out."""
    if Path(arguments.out).exists() and not arguments.force:
        raise UserError(f'{arguments.out} exists: choose another name or say --force')
    export_onnx(load_config(arguments.config, arguments.cfg_options), arguments.checkpoint, arguments.out)
    print(f'wrote {arguments.out}, {Path(arguments.out).stat().st_size / 2**20:.1f} MiB')


def export_onnx(cfg: Config, checkpoint: str | Path, out: str | Path) -> None:
    """Write the graph of a detector, with its classes and the view of the images in its metadata.

    Args:
        cfg: of the detector, as :func:`load_config` returns it.
        checkpoint: weights; they must fit exactly.
        out: the file to write.

    Raises:
        UserError: onnx is not installed, or there is no graph of this detector.
    """
    onnx = require_package('onnx')
    require_writable_file(out)
    check_test_config(cfg)
    graph_type = ONNX_GRAPHS.get(cfg.model.type)
    if graph_type is None:
        known = ', '.join(ONNX_GRAPHS.module_dict)
        raise UserError(f'{cfg.model.type} cannot be written as ONNX yet; what can is {known}')
    content = read_checkpoint(checkpoint)
    model = build_model(cfg.model)
    load_weights(model, content, source=checkpoint)
    batch = adapter_for(model).blank_batch(cfg)
    graph = graph_type(model.eval(), tuple(batch['img'].shape[-2:]))
    proto = onnx.load_from_string(trace(graph))
    classes = content['meta'].get('CLASSES') or cfg.get('class_names') or cfg.data.test.get('classes')
    about = dict(classes=list(classes or ()), view=_view_of(cfg))
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in about.items()})
    onnx.checker.check_model(proto)
    write_bytes(out, proto.SerializeToString())


def trace(graph: nn.Module) -> bytes:
    """The graph of a module of :data:`ONNX_GRAPHS` as ONNX, of fixed sizes but for how many boxes are found."""
    file = io.BytesIO()
    with torch.no_grad(), pure_torch(), warnings.catch_warnings():
        # sizes of tensors are meant to be fixed, which the tracer warns of at each of them
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        warnings.simplefilter('ignore', DeprecationWarning)
        torch.onnx.export(
            graph,
            graph.example(),
            file,
            opset_version=OPSET,
            input_names=list(graph.INPUTS),
            output_names=list(graph.OUTPUTS),
            dynamic_axes={name: {0: 'boxes'} for name in graph.FOUND},
            dynamo=False,  # the other exporter needs onnxscript
        )
    return file.getvalue()


def require_package(name: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f'{name} is not installed: pip install -r requirements/onnx.txt') from None


def _view_of(cfg: Config) -> dict[str, Any]:
    """How images are resized and normalised in testing, for whoever feeds the graph."""
    pipeline = next(innermost_datasets(cfg.data.test)).get('pipeline', ())
    view = next((step for step in pipeline if step.get('type') == 'ImageView'), None)
    if view is None:
        raise UserError(
            'data.test.pipeline has no ImageView, so that nobody could know what images to give to the graph'
        )
    defaults = dict(
        size=None,
        scale=1.0,
        mean=(103.530, 116.280, 123.675),
        std=(1.0, 1.0, 1.0),
        to_rgb=False,
        pad_divisor=32,
    )
    return {key: view.get(key, defaults[key]) for key in _VIEW}
