"""A detector whose forward pass is a graph in ONNX: what is evaluated is what will be deployed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.engine.export_onnx import require_package
from projects.mmdet3d_plugin.hosts.bevformer.bev_memory import BEVMemory
from projects.mmdet3d_plugin.hosts.detr.camera_detector import to_result

SUFFIX = '.onnx'


class OnnxDetector(nn.Module):
    """A file of ``tools/export_onnx.py``, run frame by frame by onnxruntime on the CPU.

    Args:
        path: the file.
        threads: of onnxruntime.

    Raises:
        UserError: onnxruntime is not installed, or the file is no graph of ours.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        super().__init__()
        runtime = require_package('onnxruntime')
        if not Path(path).is_file():
            raise UserError(f'there is no file {path}')
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
            about = self.session.get_modelmeta().custom_metadata_map
            self.classes: list[str] = json.loads(about['classes'])
        except Exception as error:  # its exceptions have no common class
            raise UserError(
                f'{path} is no graph of tools/export_onnx.py ({type(error).__name__}): export it again'
            ) from None
        self.shapes = {node.name: tuple(node.shape) for node in self.session.get_inputs()}
        self.num_cams = self.shapes['img'][1]

    def new_memory(self) -> BEVMemory:
        """An empty memory, to be passed on frame after frame."""
        return BEVMemory()

    def forward(
        self, img: Tensor, img_metas: list[list[dict]], memory: BEVMemory | None = None, **_: Any
    ) -> list[dict[str, Any]]:
        """Detect in one frame of each stream; arguments and results as in :meth:`BEVFormer.forward_test`.

        Raises:
            UserError: the graph was exported for images of another size.
        """
        present = [metas[-1] for metas in img_metas]
        previous, exists = memory.recall(present) if memory is not None else (None, None)
        results, bevs = [], []
        for index, meta in enumerate(present):
            before = None if previous is None or not exists[index] else previous[index]
            boxes, scores, labels, bev = self._run(img[index, -1], meta, before)
            results.append(to_result(boxes, scores, labels, meta))
            bevs.append(bev)
        if memory is not None:
            memory.store(torch.cat(bevs), present)
        return results

    def _run(self, img: Tensor, meta: dict[str, Any], before: Tensor | None) -> list[Tensor]:
        """One frame (num_cams, 3, H, W) -> boxes, scores, labels and the BEV feature."""
        if tuple(img.shape) != self.shapes['img'][1:]:
            raise UserError(
                f'the graph takes images {self.shapes["img"][1:]}, the config gives {tuple(img.shape)}: export it again '
                'from this config'
            )
        zeros = np.zeros(self.shapes['prev_bev'], np.float32)
        feed = dict(
            img=img[None].cpu().numpy(),
            lidar2img=np.asarray(meta['lidar2img'], np.float32)[None],
            can_bus=np.asarray(meta['can_bus'], np.float32)[None],
            prev_bev=zeros if before is None else before[None].numpy(),
            prev_exists=np.array([before is not None]),
        )
        outputs = self.session.run(None, feed)
        if not all(np.isfinite(output).all() for output in outputs):
            raise UserError(f'the graph gives numbers that are not finite for sample {meta["sample_token"]}')
        return [torch.from_numpy(output) for output in outputs]
