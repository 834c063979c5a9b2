"""What cannot be right in an annotation file in COCO format, which mmdet and pycocotools meet late or never."""

from collections.abc import Mapping, Sequence
from typing import Any

from projects.mmdet3d_plugin.common.config_checks.numbers import is_number
from projects.mmdet3d_plugin.common.errors import UserError

Row = Mapping[str, Any]


def check_coco(content: Mapping[str, Any], source: object) -> None:
    """Look at every row of an annotation file.

    Args:
        content: what the file holds, with its ``images`` and ``categories``, and ``annotations`` unless it is of a test set.
        source: the file, for the message.

    Raises:
        UserError: names the first row that cannot be right, and what is wrong with it.
    """
    images = _by_number(content.get('images', ()), 'image', source)
    categories = _by_number(content.get('categories', ()), 'category', source)
    for number, row in images.items():
        for key in ('width', 'height'):
            if not (is_number(row.get(key)) and row[key] >= 1):
                raise UserError(
                    f'{source}: image {number} has the {key} {row.get(key)!r}: it must be a number of pixels'
                )
    annotations = content.get('annotations', ())
    for number, row in _by_number(annotations, 'annotation', source).items():
        wrong = _what_is_wrong(row, images, categories)
        if wrong:
            raise UserError(f'{source}: annotation {number} {wrong}; mend the file, or leave it out')


def require_boxes(content: Mapping[str, Any], source: object) -> None:
    """Refuse to train where no box at all can be a target.

    Args:
        content: as :func:`check_coco` has found it right.
        source: the file, for the message.

    Raises:
        UserError: there are boxes, but all are crowds, empty or beyond their images.
    """
    sizes = {row['id']: (row['width'], row['height']) for row in content.get('images', ())}
    rows = content.get('annotations', ())
    if rows and not any(_is_target(row, *sizes[row['image_id']]) for row in rows):
        raise UserError(
            f'{source}: none of its {len(rows)} boxes can be learnt: each is iscrowd, below one pixel or beyond its image; '
            'are they [left, top, width, height] in pixels?'
        )


def _is_target(row: Row, image_width: float, image_height: float) -> bool:
    """As mmdet decides it."""
    x, y, w, h = row['bbox']
    inside = min(x + w, image_width) > max(x, 0) and min(y + h, image_height) > max(y, 0)
    return not row.get('iscrowd') and w >= 1 and h >= 1 and row['area'] > 0 and inside


def _by_number(rows: Any, what: str, source: object) -> dict[Any, Row]:
    """Rows by their ``id``, each of which there is once."""
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(f'{source}: it holds no list of {what} rows')
    found: dict[Any, Row] = {}
    for index, row in enumerate(rows):
        if 'id' not in row:
            raise UserError(f"{source}: {what} row {index} has no 'id'")
        if row['id'] in found:
            raise UserError(f'{source}: two {what} rows have the id {row["id"]!r}')
        found[row['id']] = row
    return found


def _what_is_wrong(row: Row, images: Mapping[Any, Row], categories: Mapping[Any, Row]) -> str:
    """Of one annotation; '' when nothing is."""
    for key in ('image_id', 'category_id', 'bbox', 'area'):
        if key not in row:
            mend = ' (of a box without a mask: its width times its height)' if key == 'area' else ''
            return f'has no {key!r}{mend}'
    if row['image_id'] not in images:
        return f'is of image {row["image_id"]!r}, which the file does not have'
    if row['category_id'] not in categories:
        return f'is of category {row["category_id"]!r}, which the file does not have'
    box = row['bbox']
    if not isinstance(box, Sequence) or len(box) != 4 or not all(map(is_number, box)):
        return f'has the bbox {box!r}: it must be four finite numbers, left, top, width and height in pixels'
    if box[2] < 0 or box[3] < 0:
        return f'has the bbox {box!r}, whose size is negative: it must be left, top, width and height'
    if not is_number(row['area']):
        return f'has the area {row["area"]!r}: it must be a finite number'
    return ''
