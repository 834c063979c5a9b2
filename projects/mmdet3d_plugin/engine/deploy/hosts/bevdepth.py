"""BEVDepth: images, calibration and what earlier key frames saw in, boxes and what this one saw out."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.engine.deploy.center_heads import decode_centers
from projects.mmdet3d_plugin.engine.deploy.onnx_host import ONNX_HOSTS, Batch, OnnxHost
from projects.mmdet3d_plugin.engine.deploy.onnx_session import OnnxSession
from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices, lidar_to_ego
from projects.mmdet3d_plugin.hosts.bevdepth.lift_memory import EarlierFrame, LiftMemory
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted
from projects.mmdet3d_plugin.hosts.detr.camera_detector import to_result

_HISTORY = ('prev_depth', 'prev_context', 'prev_cam2lidar', 'prev_exists')


@ONNX_HOSTS.register_module(name='BEVDepth')
class BEVDepthOnnx(OnnxHost):
    """One frame: what is left after suppression differs from frame to frame, and key frames follow each other."""

    outputs = (*OnnxHost.outputs, 'depth', 'context')

    def about(self, model: nn.Module) -> dict[str, Any]:
        """``frames``, key frames that the model looks at, and ``ego``, whether it asks for ``lidar2ego``."""
        return dict(frames=model.num_frames, ego=model.frame == 'ego')

    def example(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """A frame, and an earlier one of the same images."""
        img, meta = batch['img'][:, -1], batch['img_metas'][0][-1]
        feed = _cameras(meta, self.about(model))
        if model.num_frames > 1:
            with torch.no_grad():
                lifted = model.lift(img, CameraMatrices.of([meta]))
            earlier = [(lifted, [meta])]
            feed |= _history(earlier, meta, model.num_frames - 1)
        return dict(img=img) | {name: torch.from_numpy(value) for name, value in feed.items()}

    def compute(self, model: nn.Module, img: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Detect.

        Args:
            model: the detector.
            img: (1, num_cams, 3, H, W), normalised.
            inputs: float64 ``cam2lidar`` (1, num_cams, 4, 4), optical frame of each camera to the LiDAR frame in metres;
                ``intrinsic`` (1, num_cams, 3, 3) of the image as it was taken, in pixels; ``ida`` (1, num_cams, 3, 3),
                what resize and crop do to pixels (u, v, 1); where the model lives in the ego frame, ``lidar2ego``
                (1, 4, 4). With F > 1 key frames the history, newest first: ``prev_depth`` (F - 1, num_cams, D, h, w) and
                ``prev_context`` (F - 1, num_cams, C, h, w) are ``depth`` and ``context`` of those frames,
                ``prev_cam2lidar`` (F - 1, num_cams, 4, 4), float64, is where their cameras stood in the present LiDAR
                frame, and ``prev_exists`` (1,), bool, tells whether to look at any of this.

        Returns:
            (n, 9) boxes x, y, z, l, w, h, yaw, vx, vy in the LiDAR frame with gravity centres, (n,) scores, (n,) labels,
            ``depth`` (num_cams, D, h, w) and ``context`` (num_cams, C, h, w).
        """
        ego = inputs[3] if model.frame == 'ego' else None
        history = inputs[3 if ego is None else 4 :]
        now = _matrices(*inputs[:3], ego)
        lifted = model.lift(img, now)
        bev = model.pool(lifted, now)
        if history:
            bev = torch.cat([bev, self._earlier(model, bev, history, inputs[1:3], ego)], 1)
        boxes, scores, labels = decode_centers(model.head, model.read(bev))
        if ego is not None:
            boxes = _to_lidar(boxes, ego[0].to(boxes))
        return boxes, scores, labels, *lifted

    def _earlier(
        self,
        model: nn.Module,
        bev: Tensor,
        history: tuple[Tensor, ...],
        lenses: tuple[Tensor, ...],
        ego: Tensor | None,
    ) -> Tensor:
        """Maps (1, (F - 1) * C, H, W) of earlier frames, for which the present one stands in where there is none."""
        depth, context, cam2lidar, exists = history
        maps = [
            model.pool(Lifted(depth[i], context[i]), _matrices(cam2lidar[i : i + 1], *lenses, ego))
            for i in range(model.num_frames - 1)
        ]
        return torch.where(exists[:, None, None, None], torch.cat(maps, 1), torch.cat([bev] * len(maps), 1))

    def new_memory(self, session: OnnxSession) -> LiftMemory | None:
        """That of the detector."""
        return LiftMemory(session.about['frames'] - 1) if session.about['frames'] > 1 else None

    def detect(self, session: OnnxSession, batch: Batch, memory: LiftMemory | None) -> list[dict[str, Any]]:
        """Frame by frame; results as of :meth:`BEVDepth.forward_test`."""
        metas = [queue[-1] for queue in batch['img_metas']]
        earlier = memory.recall(metas) if memory is not None else []
        results, seen = [], []
        for i, meta in enumerate(metas):
            feed = dict(img=batch['img'][i : i + 1, -1].cpu().numpy(), **_cameras(meta, session.about))
            if session.about['frames'] > 1:
                own = [_of_one(frame, i, len(metas)) for frame in earlier if frame.continued[i]]
                feed |= _history(own, meta, session.about['frames'] - 1) if own else _no_history(session)
            found = session(feed)
            results.append(to_result(found['boxes'], found['scores'], found['labels'], meta))
            seen.append(Lifted(found['depth'], found['context']))
        if memory is not None:
            memory.store(Lifted(*map(torch.cat, zip(*seen, strict=True))), metas)
        return results


@ONNX_HOSTS.register_module(name='BEVDet')
class BEVDetOnnx(BEVDepthOnnx):
    """BEVDepth as the BEVDet family builds it: other layers, the same inputs and outputs."""


def _matrices(cam2lidar: Tensor, intrinsic: Tensor, ida: Tensor, ego: Tensor | None) -> CameraMatrices:
    """Matrices towards the frame of the model, without augmentation of the BEV."""
    cam2frame = cam2lidar if ego is None else ego[:, None] @ cam2lidar
    return CameraMatrices(cam2frame, intrinsic, ida, torch.eye(4, dtype=cam2lidar.dtype)[None])


def _cameras(meta: dict[str, Any], about: dict[str, Any]) -> dict[str, np.ndarray]:
    """The calibration of a frame as the graph takes it."""
    now = CameraMatrices.of([meta])
    feed = dict(cam2lidar=now.cam2frame, intrinsic=now.intrinsic, ida=now.ida)
    feed = {name: value.numpy() for name, value in feed.items()}
    return feed | (dict(lidar2ego=lidar_to_ego(meta)[None]) if about['ego'] else {})


def _of_one(frame: EarlierFrame, sample: int, batch: int) -> tuple[Lifted, list[dict[str, Any]]]:
    """One sample of a remembered frame of a batch."""
    return Lifted(*(part.chunk(batch)[sample] for part in frame.lifted)), [frame.metas[sample]]


def _no_history(session: OnnxSession) -> dict[str, np.ndarray]:
    """Zeros that the graph does not look at."""
    shapes = {name: session.shapes[name] for name in _HISTORY[:2]}
    feed = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    cam2lidar = np.zeros(session.shapes['prev_cam2lidar'])
    return feed | dict(prev_cam2lidar=cam2lidar, prev_exists=np.array([False]))


def _to_lidar(boxes: Tensor, lidar2ego: Tensor) -> Tensor:
    """Boxes (n, 9) of the ego frame in that of the LiDAR, to which (4, 4) leads back."""
    turn, heading = lidar2ego[:3, :3], boxes[:, 6:7]
    ahead = torch.cat([heading.cos(), heading.sin(), heading * 0], 1) @ turn
    centre, velocity = (boxes[:, :3] - lidar2ego[:3, 3]) @ turn, boxes[:, 7:] @ turn[:2]
    yaw = torch.atan2(ahead[:, 1:2], ahead[:, :1])
    return torch.cat([centre, boxes[:, 3:6], yaw, velocity[:, :2]], 1)


def _history(
    earlier: list[tuple[Lifted, list[dict[str, Any]]]], meta: dict[str, Any], wanted: int
) -> dict[str, np.ndarray]:
    """Earlier frames of one stream, newest first, as the graph takes them; the oldest stands in for what lacks."""
    frames = (earlier + earlier[-1:] * wanted)[:wanted]
    cam2lidar = [CameraMatrices.of(metas, [meta]).cam2frame[0] for _, metas in frames]
    depth, context = ([lifted[part] for lifted, _ in frames] for part in (0, 1))
    parts = (*(torch.stack(x).numpy() for x in (depth, context, cam2lidar)), np.array([True]))
    return dict(zip(_HISTORY, parts, strict=True))
