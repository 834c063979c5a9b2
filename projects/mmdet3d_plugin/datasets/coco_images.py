"""Images with 2D boxes in COCO's layout, as mmdet reads them, for the tools of this project."""

import contextlib
import io
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from mmdet.datasets import DATASETS, CocoDataset

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.files import write_json
from projects.mmdet3d_plugin.common.rng import drawn_from
from projects.mmdet3d_plugin.datasets.coco_checks import check_coco, require_boxes
from projects.mmdet3d_plugin.evaluation.coco_metric import evaluate_coco, metric_names

RESULT_FILE = 'results.bbox.json'


@DATASETS.register_module()
class CocoImages(CocoDataset):
    """mmdet's ``CocoDataset``, whose chance can be reproduced, and which says what is wrong with its files.

    It takes the same arguments and pipelines. Images know nothing of each other, so processes may share them out
    anywhere. Box AP is COCO's, unrounded.

    Raises:
        UserError: the annotation file is none, or its categories are not the classes in the same order; mmdet numbers
            labels in the order of the file, whatever the order of the classes is.
    """

    MADE_BY: ClassVar[str] = 'tools/create_synthetic.py --format coco --out {root} --scenes 100'

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flag = np.zeros(len(self), dtype=np.uint8)  # mmdet's wrappers group by it
        self.scene_tokens = [str(info['id']) for info in self.data_infos]

    def load_annotations(self, ann_file: str) -> list[dict[str, Any]]:
        """Rows of all images; refuses a file that holds something else, or other classes."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
                rows = super().load_annotations(ann_file)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise UserError(
                f'{ann_file} is no annotation file in COCO format ({type(error).__name__}: {error})'
            ) from None
        check_coco(self.coco.dataset, ann_file)
        names = [self.coco.cats[number]['name'] for number in self.cat_ids]
        if names != list(self.CLASSES):
            raise UserError(
                f'the classes {list(self.CLASSES)} are not categories of {ann_file} in its order; of them it has {names}: '
                'give classes in the order of the file'
            )
        if not self.test_mode:
            require_boxes(self.coco.dataset, ann_file)
        return rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample ``index``; a :class:`SeededIndex` makes all chance in it reproducible."""
        seed = getattr(index, 'seed', None)
        try:
            with drawn_from(np.random.randint(2**31) if seed is None else seed):
                sample = super().__getitem__(int(index))
        except (FileNotFoundError, AttributeError, cv2.error):  # OpenCV gives None for what is no image
            path = self.image_path(int(index))
            if path.is_file() and path.stat().st_size and cv2.imread(str(path)) is not None:
                raise
            what = 'is no image' if path.is_file() else 'does not exist'
            raise UserError(f'{path} {what}; look at img_prefix and --data-root') from None
        self._check_size(sample, int(index))
        return sample

    def _check_size(self, sample: dict[str, Any], index: int) -> None:
        """Boxes are in pixels of an image as large as its row says."""
        metas = sample.get('img_metas')
        meta = getattr(metas[0] if isinstance(metas, list) and metas else metas, 'data', None) or {}
        height, width = meta.get('ori_shape', (None, None))[:2]
        row = self.data_infos[index]
        if height is not None and (height, width) != (row['height'], row['width']):
            raise UserError(
                f'{self.image_path(index)} is {width}x{height} pixels, but its row in the annotation file says '
                f'{row["width"]}x{row["height"]}: the boxes belong to another size of it'
            )

    def image_path(self, index: int) -> Path:
        """The file of an image."""
        return Path(self.img_prefix or '') / self.data_infos[index]['file_name']

    @property
    def has_labels(self) -> bool:
        """Whether there is anything to compare with; the files of COCO's test sets have images only."""
        return bool(self.coco.anns)

    def metric_names(self) -> list[str]:
        """Names of what :meth:`evaluate` may give."""
        return metric_names(self.CLASSES)

    def evaluate(
        self, results: list[list[np.ndarray]], out_dir: str | Path | None = None
    ) -> dict[str, float]:
        """COCO's box AP.

        Args:
            results: per image and class (n, 5): left, top, right, bottom in pixels of the original image, and the score.
            out_dir: gets the boxes in COCO's result format.

        Returns:
            ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_s``, ``mAP_m``, ``mAP_l`` and 'AP/<class>', fractions.
        """
        rows = self._det2json([_boxes_of(result) for result in results])
        if out_dir is not None:
            write_json(Path(out_dir) / RESULT_FILE, rows)
        return evaluate_coco(self.coco, rows, self.cat_ids, self.CLASSES)

    def format_results(self, results: list[list[np.ndarray]], out_dir: str | Path) -> str:
        """Write what COCO's server takes; returns the file."""
        path = Path(out_dir) / RESULT_FILE
        write_json(path, self._det2json([_boxes_of(result) for result in results]))
        return str(path)


def _boxes_of(result: Any) -> list[np.ndarray]:
    """Boxes by class of one image; detectors with masks give a pair of boxes and masks."""
    return result[0] if isinstance(result, tuple) else result
