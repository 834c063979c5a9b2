"""A synthetic world in COCO's layout: images of single cameras with the 2D boxes of what shows in them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from scipy.ndimage import find_objects

from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.worlds.catalog import NUSCENES, OBJECT_CLASSES
from projects.mmdet3d_plugin.worlds.renderer import Picture, Renderer
from projects.mmdet3d_plugin.worlds.scene import Scene, build_scene
from projects.mmdet3d_plugin.worlds.worlds import World, check_written

GENERATION = 1  # raise it when the same arguments give other bytes
TRAIN_SHARE = 0.8
CATEGORIES = tuple(OBJECT_CLASSES)
LEAST_SHARE = 0.15  # of the pixels that an object would have alone in the image
LEAST_SIDE = 4  # pixels
_FOLDERS = {'train': 'train2017', 'val': 'val2017'}
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class CocoSpec:
    """Everything that decides the bytes of a world.

    Attributes:
        scenes: number of scenes.
        seed: of the world.
        width: of the images, pixels.
        height: of the images, pixels.
        frames: moments per scene, half a second apart, each seen by the six cameras of a nuScenes car.
        reach: greatest distance to the ego vehicle at which an object is placed, metres; None leaves it to the class.
        format: 'coco'.
        generation: of this generator.
    """

    scenes: int
    seed: int
    width: int
    height: int
    frames: int = 1
    reach: float | None = None
    format: str = 'coco'
    generation: int = GENERATION


@dataclass(frozen=True)
class CocoWorld(World):
    """Images of scenes that know nothing of each other, the last fifth of the scenes for validation."""

    format: ClassVar[str] = 'coco'
    unit: ClassVar[str] = 'scene'
    derived: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, spec: CocoSpec) -> 'CocoWorld':
        """The world of a spec; scenes are called by their numbers."""
        return cls(spec, [f'{index:06d}' for index in range(spec.scenes)])

    def folders(self, spec: dict[str, Any]) -> tuple[str, ...]:
        """Folders that a world of a spec fills."""
        return (*_FOLDERS.values(), 'annotations')

    @property
    def training(self) -> frozenset[str]:
        """Names of the scenes that are trained on: all but the last fifth, and but one of several."""
        count = len(self.names)
        return frozenset(self.names[: min(round(TRAIN_SHARE * count), count - 1) or count])

    def make(self, root: Path, name: str) -> dict[str, Any]:
        """Invent one scene and write its images."""
        spec = self.spec
        population = NUSCENES if spec.reach is None else NUSCENES.within(spec.reach)
        seed = np.random.SeedSequence(spec.seed, spawn_key=(int(name),))
        scene = build_scene(name, seed, spec.frames, (spec.width, spec.height), population)
        split = 'train' if name in self.training else 'val'
        return {'split': split, 'images': write_images(root / _FOLDERS[split], scene)}

    def finish(self, root: Path, parts: list[dict[str, Any]]) -> None:
        """Write the annotations of both splits."""
        for split, folder in _FOLDERS.items():
            images = [image for part in parts if part['split'] == split for image in part['images']]
            write_json(root / 'annotations' / f'instances_{folder}.json', self.instances(images))

    def instances(self, images: list[dict[str, Any]]) -> dict[str, Any]:
        """The content of an annotation file, of images with their ``objects``; everything is numbered from 1."""
        rows: dict[str, Any] = {
            'info': {'description': 'synthetic', **asdict(self.spec)},
            'categories': [{'id': i + 1, 'name': name} for i, name in enumerate(CATEGORIES)],
            'images': [],
            'annotations': [],
        }
        for number, image in enumerate(images, start=1):
            known = {key: value for key, value in image.items() if key != 'objects'}
            rows['images'].append({'id': number, **known})
            for item in image['objects']:
                rows['annotations'].append({'id': len(rows['annotations']) + 1, 'image_id': number, **item})
        return rows


def write_images(folder: Path, scene: Scene) -> list[dict[str, Any]]:
    """Render all cameras of all frames of a scene; returns the rows of the images with their ``objects``."""
    folder.mkdir(parents=True, exist_ok=True)
    renderer, rows = Renderer(scene), []
    for frame, time in enumerate(scene.times):
        for camera in scene.rig.cameras:
            picture = renderer.render(camera, float(time) + camera.delay_us * 1e-6)
            path = folder / f'{scene.name}_{frame:02d}_{camera.channel}.jpg'
            check_written(
                cv2.imwrite(str(path), picture.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]), path
            )
            rows.append(
                {
                    'file_name': path.name,
                    'width': camera.width,
                    'height': camera.height,
                    'objects': visible_objects(scene, picture),
                }
            )
    return rows


def visible_objects(scene: Scene, picture: Picture) -> list[dict[str, Any]]:
    """Annotations of a picture: one per object that shows, around the pixels that show of it.

    What stands before an object or lies beyond the border of the image takes away from its box; nothing is guessed. An
    object is a target when at least :data:`LEAST_SHARE` of the pixels that it would have alone in this image show,
    and its box has sides of at least :data:`LEAST_SIDE` pixels. One that shows less is marked ``iscrowd``: COCO's
    evaluation counts it neither as found nor as missed, and training leaves it out.

    Returns:
        Dicts with ``category_id``, ``bbox`` (x, y, width, height) in whole pixels, ``area`` in pixels that show,
        ``iscrowd`` and ``visible``, the share that shows.
    """
    objects = []
    for index, place in enumerate(find_objects(picture.owner.astype(np.int32) + 1)):
        if place is None or not scene.things[index].labelled:
            continue
        rows, columns = place
        height, width = rows.stop - rows.start, columns.stop - columns.start
        share = float(picture.seen[index] / max(picture.whole[index], 1e-9))
        clear = share >= LEAST_SHARE and min(width, height) >= LEAST_SIDE
        objects.append(
            {
                'category_id': CATEGORIES.index(scene.things[index].kind) + 1,
                'bbox': [columns.start, rows.start, width, height],
                'area': int((picture.owner[place] == index).sum()),
                'iscrowd': int(not clear),
                'visible': round(min(share, 1.0), 3),
            }
        )
    return objects
