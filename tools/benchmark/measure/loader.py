"""Time what loads a training sample: six cameras of 1600x900 for two networks, ours beside how others do it, on CPU.

``python tools/benchmark/loader.py --json benchmarks/loader_cpu.json``. A sample is decoded, jittered in colour, normalised
and padded as it is for a teacher, and scaled by one half for a student. The others are mmdet3d's loading and mmdet's
transforms, and BEVFormer's transforms as its paper's code orders them (own rendering); both know one network, so that
they run twice, as whoever has two would let them.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet3d.datasets.pipelines import LoadMultiViewImageFromFiles

from projects.mmdet3d_plugin.datasets.transforms.image_view import ImageView
from projects.mmdet3d_plugin.datasets.transforms.load_multi_view_images import LoadMultiViewImages
from projects.mmdet3d_plugin.datasets.transforms.photo_metric_distortion_multi_view import (
    PhotoMetricDistortionMultiView,
)
from tools.benchmark.options import CAMERAS, parse_loader
from tools.benchmark.timing import interleaved, save_report, start_report

SCALES = {'teacher': 1.0, '': 0.5}
MEAN, STD = np.float32([103.530, 116.280, 123.675]), np.float32([1.0, 1.0, 1.0])
GOAL = 2.0


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_loader(argv)
    cv2.setNumThreads(args.threads)
    report: dict[str, Any] = start_report(args) | dict(goal=GOAL, cases=[])
    with tempfile.TemporaryDirectory() as folder:
        paths = args.images or made_up_images(Path(folder), args.size)
        for jitter in (True, False):
            cases = {
                'ours': lambda jitter=jitter: ours(paths, jitter),
                'mmdet3d': lambda jitter=jitter: [mmdet3d(paths, s, jitter) for s in SCALES.values()],
                'bevformer': lambda jitter=jitter: [bevformer(paths, s, jitter) for s in SCALES.values()],
            }
            ms = interleaved(cases, dict.fromkeys(cases, args.rounds), 'cpu')
            ratio = {name: ms[name] / ms['ours'] for name in ms if name != 'ours'}
            report['cases'].append(dict(jitter=jitter, ms=ms, ratio=ratio))
            print(report['cases'][-1], flush=True)
    return save_report(report, args.json)


def made_up_images(folder: Path, size: Sequence[int]) -> list[str]:
    """JPEG files of smooth noise with some grain, which take as long to decode as photographs."""
    rng, paths = np.random.default_rng(0), []
    for camera in range(CAMERAS):
        coarse = cv2.resize(rng.uniform(0, 255, (20, 36, 3)).astype(np.float32), tuple(size))
        grain = rng.normal(0, 6, (size[1], size[0], 1))
        paths.append(str(folder / f'{camera}.jpg'))
        cv2.imwrite(paths[-1], (coarse + grain).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def ours(paths: Sequence[str], jitter: bool) -> list[torch.Tensor]:
    """Decode once, jitter once, and make both views."""
    frame: dict[str, Any] = dict(
        img_filename=paths,
        rng=np.random.default_rng(0),
        cam_intrinsic=np.tile(np.diag([1.0, 1.0, 1.0]), (len(paths), 1, 1)),
        cam2lidar=np.tile(np.eye(4), (len(paths), 1, 1)),
    )
    steps = [LoadMultiViewImages(to_float32=True)]
    steps += [PhotoMetricDistortionMultiView()] if jitter else []
    steps += [ImageView(name=name, scale=scale, mean=MEAN, std=STD) for name, scale in SCALES.items()]
    for step in steps:
        frame = step(frame)
    return [torch.from_numpy(view['img']) for view in frame['views'].values()]


def mmdet3d(paths: Sequence[str], scale: float, jitter: bool) -> torch.Tensor:
    """mmdet3d reads all images into one array; mmdet's transforms go on image by image."""
    images = LoadMultiViewImageFromFiles(to_float32=True)(dict(img_filename=list(paths)))['img']
    return _finished([_jittered(image, jitter) for image in images], scale, normalise_first=False)


def bevformer(paths: Sequence[str], scale: float, jitter: bool) -> torch.Tensor:
    """BEVFormer stacks what it has read, jitters, normalises at full size, and scales after that."""
    images = np.stack([mmcv.imread(path, 'unchanged') for path in paths], axis=-1).astype(np.float32)
    images = [_jittered(images[..., i], jitter) for i in range(images.shape[-1])]
    return _finished(images, scale, normalise_first=True)


def _jittered(image: np.ndarray, jitter: bool) -> np.ndarray:
    """Colour jitter in the usual order: brightness, contrast, HSV and back, channels; every step in an array of its own."""
    if not jitter:
        return image
    image = (image + np.float32(9)) * np.float32(1.1)
    image = mmcv.bgr2hsv(image)
    image[..., 1] *= np.float32(0.9)
    image[..., 0] += np.float32(5)
    image[..., 0][image[..., 0] > 360] -= 360
    image[..., 0][image[..., 0] < 0] += 360
    return mmcv.hsv2bgr(image)[..., [1, 2, 0]]


def _finished(images: list[np.ndarray], scale: float, normalise_first: bool) -> torch.Tensor:
    """Normalise, scale, pad to multiples of 32 and stack: (num_cams, 3, H, W)."""
    if normalise_first:
        images = [mmcv.imnormalize(image, MEAN, STD, to_rgb=False) for image in images]
    images = [mmcv.imrescale(image, scale) for image in images]
    if not normalise_first:
        images = [mmcv.imnormalize(image, MEAN, STD, to_rgb=False) for image in images]
    images = [mmcv.impad_to_multiple(image, 32, pad_val=0) for image in images]
    return torch.from_numpy(np.ascontiguousarray(np.stack([image.transpose(2, 0, 1) for image in images])))
