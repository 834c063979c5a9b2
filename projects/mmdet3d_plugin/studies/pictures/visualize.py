"""Draw what a detector sees in samples of a dataset."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmcv import Config
from mmcv.parallel import collate
from torch import nn
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.command_line.parsers import PICTURES, parse_visualize
from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.config_checks.numbers import SHARE, check_number
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import require_writable
from projects.mmdet3d_plugin.common.geometry import lidar_to_image
from projects.mmdet3d_plugin.common.models import build_model
from projects.mmdet3d_plugin.common.progress import track
from projects.mmdet3d_plugin.datasets.coco_images import CocoImages
from projects.mmdet3d_plugin.datasets.point_files import read_points
from projects.mmdet3d_plugin.distill.bev_grid import place_bev
from projects.mmdet3d_plugin.distill.hosts.adapter import adapter_for
from projects.mmdet3d_plugin.distill.regions.gt_heatmap import box_heatmap
from projects.mmdet3d_plugin.distill.regions.region import join_boxes
from projects.mmdet3d_plugin.distill.registry import DistillError
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.build import build_split, classes_of
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.engine.test import check_classes
from projects.mmdet3d_plugin.engine.threads import choose_threads
from projects.mmdet3d_plugin.studies.pictures.lidar_inspection import both_stages
from projects.mmdet3d_plugin.studies.pictures.visualize_images import draw_sample, read_image
from projects.mmdet3d_plugin.visualization.bev_view import View, draw_bev
from projects.mmdet3d_plugin.visualization.box_set import BoxSet
from projects.mmdet3d_plugin.visualization.camera_view import draw_cameras
from projects.mmdet3d_plugin.visualization.heatmap_view import draw_heatmap
from projects.mmdet3d_plugin.visualization.overview import draw_overview
from projects.mmdet3d_plugin.visualization.proposal_view import draw_proposals
from projects.mmdet3d_plugin.visualization.style import save_figure

# Frames before the drawn one that a temporal detector sees first.
HISTORY = 3
# How far a box of the heatmap may move and still overlap, as in the published recipe.
MIN_OVERLAP, MIN_RADIUS = 0.1, 2


@dataclass
class Scene:
    """Everything there is to draw of one moment.

    Attributes:
        cameras: name -> (image (H, W, 3) uint8 RGB, lidar2img (4, 4)); empty for a dataset without the six of nuScenes.
        points: (n, 4 or 5) LiDAR points, metres, or None where the dataset has none.
        truth: true boxes within the range.
        forward: where the ego car drives, radians counter-clockwise from x of the LiDAR frame.
        predicted: detected boxes, None without a detector.
        bev: (C, H, W) BEV feature of the detector, None without one.
        stages: boxes of the first stage and what the second made of them, where the detector has two.
    """

    cameras: dict[str, tuple[np.ndarray, np.ndarray]]
    points: np.ndarray | None
    truth: BoxSet
    forward: float
    predicted: BoxSet | None = None
    bev: np.ndarray | None = None
    stages: tuple[BoxSet, BoxSet] | None = None


def read_scene(dataset: Dataset, index: int) -> Scene:
    """Images, points and true boxes of a sample, at the resolution of the camera.

    An image without 3D boxes is a scene of one camera.

    Raises:
        UserError: an image or a cloud is damaged, or the dataset does not say what there is to draw.
    """
    if isinstance(dataset, CocoImages):
        image = read_image(dataset.image_path(index))
        return Scene(
            {'image': (image, np.eye(4))}, None, BoxSet(np.zeros((0, 7)), np.zeros(0, dtype=int)), 0.0
        )
    if not hasattr(dataset, 'get_frame'):
        raise UserError(
            f'{type(dataset).__name__} has no get_frame(index), which says what there is to draw: give it one as '
            'KittiFrames has it'
        )
    frame = dataset.get_frame(index)
    cameras = _read_cameras(frame) if frame.get('img_filename') else {}
    points = Path(frame['pts_filename'])
    cloud = read_points(points, dataset.POINT_DIM) if points.is_file() else None
    return Scene(cameras, cloud, _true_boxes(frame, dataset.pc_range), dataset.FORWARD)


def _read_cameras(frame: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    projections = lidar_to_image(frame['cam_intrinsic'], frame['cam2lidar'])
    images = [read_image(Path(path)) for path in frame['img_filename']]
    return {name: (images[i], projections[i]) for i, name in enumerate(frame['cam_names'])}


def _true_boxes(frame: dict[str, Any], pc_range: Sequence[float]) -> BoxSet:
    """True boxes whose centre lies within the range, as in training and evaluation."""
    if 'ann_info' not in frame:
        return BoxSet(np.zeros((0, 9)), np.zeros(0, dtype=int))
    boxes = _to_array(frame['ann_info']['gt_bboxes_3d'])
    inside = ((boxes[:, :2] > pc_range[:2]) & (boxes[:, :2] < pc_range[3:5])).all(axis=1)
    return BoxSet(boxes, np.asarray(frame['ann_info']['gt_labels_3d'])).select(inside)


def _to_array(boxes: Any) -> np.ndarray:
    """mmdet3d's boxes -> (n, 7 or 9) with gravity centres."""
    return torch.cat([boxes.gravity_center, boxes.tensor[:, 3:]], dim=1).cpu().numpy().astype(float)


@torch.no_grad()
def detect(
    model: nn.Module, dataset: Dataset, index: int, launch: Launch
) -> tuple[BoxSet, np.ndarray | None, tuple[BoxSet, BoxSet] | None]:
    """Detect in a sample after the frames of its scene before it.

    Returns:
        Boxes with scores, the (C, H, W) BEV feature where the host's adapter has one by the name of 'bev', and the boxes
        of both stages where it has a 'second_stage'.
    """
    try:
        aliases = adapter_for(model).aliases(model)
    except DistillError:  # boxes can be drawn of a detector without an adapter too
        aliases = {}
    bev, second = (next(iter(aliases.get(name, ())), None) for name in ('bev', 'second_stage'))
    taps = [tap for tap in (bev, second) if tap]
    first = index
    while first > max(0, index - HISTORY) and dataset.scene_tokens[first - 1] == dataset.scene_tokens[index]:
        first -= 1
    extra = {'memory': model.new_memory()} if hasattr(model, 'new_memory') else {}
    first = first if extra else index
    for i in range(first, index + 1):
        batch = unpack_batch(collate([dataset[i]], samples_per_gpu=1), launch)
        with Recorder(model, taps if i == index else []) as recorder:
            result = model(return_loss=False, **batch, **extra)[0]
    result = result.get('pts_bbox', result)  # where mmdet3d's multi-modal detectors put it
    boxes = BoxSet(_to_array(result['boxes_3d']), result['labels_3d'].numpy(), result['scores_3d'].numpy())
    records = recorder.pop()
    feature = None
    if bev is not None:
        feature = bev.convert(records[bev.path])
        if bev.grid is not None:  # a map of the car's frame is turned under the boxes
            feature = place_bev(feature, bev.grid, bev.grid.pc_range, 'lidar', batch['img_metas'])
        feature = feature[0].cpu().numpy()
    return boxes, feature, both_stages(second.convert(records[second.path])) if second else None


def draw(kind: str, scene: Scene, classes: Sequence[str], pc_range: Sequence[float]) -> Figure:
    """One picture of a scene.

    Args:
        kind: one of ``PICTURES``.
        scene: what to draw.
        classes: names by label.
        pc_range: x0, y0, z0, x1, y1, z1 in metres.
    """
    if kind == 'bev':
        view = View.of(pc_range, scene.forward)
        return draw_bev(classes, scene.points, scene.predicted, scene.truth, view)
    if kind in ('overview', 'cameras') and not scene.cameras:
        raise UserError(f'{kind} needs cameras, which this dataset has not: draw --kinds bev')
    if kind == 'overview':
        view = View.of(pc_range, scene.forward)
        return draw_overview(scene.cameras, classes, scene.points, scene.predicted, scene.truth, view)
    if kind == 'cameras':
        return draw_cameras(scene.cameras, classes, scene.predicted, scene.truth)
    if kind == 'proposals':
        if scene.stages is None:
            raise UserError(
                'proposals are drawn of a detector with two stages: give a checkpoint of one, or other --kinds'
            )
        view = View.of(pc_range, scene.forward)
        return draw_proposals(classes, scene.points, *scene.stages, scene.truth, view)
    if scene.bev is None:
        raise UserError('a heatmap is drawn over a BEV feature: give a checkpoint of a detector that has one')
    truth = heatmap_of(scene.truth, scene.bev.shape[1:], pc_range)
    return draw_heatmap(scene.bev, truth, pc_range, scene.truth, forward=scene.forward)


def kinds_of(scene: Scene) -> list[str]:
    """The pictures that a scene has all parts of."""
    missing = ('overview', 'cameras') * (not scene.cameras) + ('heatmap',) * (scene.bev is None)
    missing += ('proposals',) * (scene.stages is None)
    return [kind for kind in PICTURES if kind not in missing]


def heatmap_of(truth: BoxSet, size: tuple[int, int], pc_range: Sequence[float]) -> np.ndarray:
    """The region that the published recipe distils, (H, W) in [0, 1]."""
    boxes, sample = join_boxes([torch.from_numpy(truth.boxes)], torch.device('cpu'))
    heatmap = box_heatmap(boxes, sample, list(pc_range), tuple(size), 1, MIN_OVERLAP, MIN_RADIUS)
    return heatmap[0, 0].numpy()


def load_detector(cfg: Config, checkpoint: str, classes: list[str] | None, launch: Launch) -> nn.Module:
    """Build the detector of a config with the weights of a checkpoint, ready to detect."""
    content = read_checkpoint(checkpoint)
    check_classes(content['meta'].get('CLASSES'), classes, checkpoint)
    model = build_model(cfg.model)
    load_weights(model, content, source=checkpoint)
    return model.to(launch.device).eval()


def choose_samples(dataset: Dataset, samples: int) -> list[int]:
    """Indices spread evenly over a dataset; in the middle of their stretch, where a scene has a past."""
    if len(dataset) == 0:
        raise UserError(f'{dataset.ann_file} has no samples: try the other --split')
    if samples < 1:
        raise UserError(f'--samples is {samples}: ask for at least 1')
    count = min(samples, len(dataset))
    return [int((i + 0.5) * len(dataset) / count) for i in range(count)]


def check_indices(dataset: Dataset, indices: Sequence[int]) -> list[int]:
    """Indices that a person asked for.

    Raises:
        UserError: one of them is not in the dataset.
    """
    for index in indices:
        if not 0 <= index < len(dataset):
            raise UserError(
                f'--index {index}: {dataset.ann_file} has {len(dataset)} samples, 0 to {len(dataset) - 1}'
            )
    return list(indices)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/visualize.py."""
    cli.run(_draw_from, parse_visualize(argv))


def _draw_from(arguments: argparse.Namespace) -> None:
    """Draw as parsed arguments say."""
    check_number('--score-thr', arguments.score_thr, SHARE)
    require_writable(arguments.out)
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    choose_threads(arguments.threads, deterministic=True)
    cfg = load_config(arguments.config, arguments.cfg_options, arguments.data_root)
    dataset = build_split(_seen_in_testing(cfg, arguments.split), 'test', test_mode=True)
    indices = (
        choose_samples(dataset, arguments.samples)
        if arguments.index is None
        else check_indices(dataset, arguments.index)
    )
    if isinstance(dataset, CocoImages) and arguments.kinds:
        raise UserError(
            '--kinds are of 3D detectors: of images with 2D boxes there is one kind, leave it out'
        )
    classes = classes_of(dataset)
    model = load_detector(cfg, arguments.checkpoint, classes, launch) if arguments.checkpoint else None
    count = 0
    for index in track(indices, len(indices), 'drawing'):
        if isinstance(dataset, CocoImages):
            figure = draw_sample(dataset, index, model, launch, arguments.score_thr)
            save_figure(figure, Path(arguments.out) / f'{index:05d}_boxes.jpg')
            count += 1
            continue
        scene = read_scene(dataset, index)
        if model is not None:
            boxes, scene.bev, stages = detect(model, dataset, index, launch)
            scene.predicted = boxes.above(arguments.score_thr)
            scene.stages = stages and tuple(one.above(arguments.score_thr) for one in stages)
        for kind in arguments.kinds or kinds_of(scene):
            figure = draw(kind, scene, classes, dataset.pc_range)
            save_figure(figure, Path(arguments.out) / f'{index:05d}_{kind}.jpg')
            count += 1
    print(f'{count} pictures in {arguments.out}')


def _seen_in_testing(cfg: Config, split: str) -> Config:
    """A config whose test split has the frames of another one and its own pipeline."""
    first = next(innermost_datasets(cfg.data[split]))
    next(innermost_datasets(cfg.data.test)).update(files_of(first))
    return cfg


def files_of(dataset: dict[str, Any]) -> dict[str, Any]:
    """What of a dataset's config says which frames it has."""
    return {key: dataset[key] for key in ('ann_file', 'img_prefix') if key in dataset}
