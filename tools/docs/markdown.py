"""Links and headings of a Markdown page, with what stands in code left out."""

import os.path
import re
from collections.abc import Callable
from pathlib import PurePosixPath

PAGES = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'contributing.md',
    'ckpts/README.md': 'weights.md',
    'benchmarks/kd_gain_lidar_tuning.md': 'tuning-lidar.md',
    'benchmarks/kd_gain_tuning.md': 'tuning-camera.md',
    'projects/mmdet3d_plugin/ops/README.md': 'operators.md',
}
"""Pages that lie outside docs/, and what the site calls them."""
OUTSIDE = 'repository'
"""Folder of the site for the other files that pages link to."""

CODE = re.compile(r'^(```|~~~).*?^\1[^\S\n]*$|`[^`\n]+`', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'(\]\()([^)\s]+)(\))')
HEADING = re.compile(r'^#{1,6}\s+(.+?)\s*#*$', re.MULTILINE)


def without_code(text: str) -> str:
    """The page with code blocks and inline code made blank; positions stay."""
    return CODE.sub(lambda found: re.sub(r'\S', ' ', found[0]), text)


def links(text: str) -> list[str]:
    """Targets of the links and images of a page, in its order.

    Example:
        >>> links('[a](b.md#c) and ![d](e.jpg), `[not](me)`')
        ['b.md#c', 'e.jpg']
    """
    return [found[2] for found in LINK.finditer(without_code(text))]


def replace_links(text: str, change: Callable[[str], str]) -> str:
    """The page with every link's target changed, code left as it is."""
    parts, last = [], 0
    for found in LINK.finditer(without_code(text)):
        parts += [text[last : found.start(2)], change(found[2])]
        last = found.end(2)
    return ''.join([*parts, text[last:]])


def anchor(heading: str) -> str:
    """The name that GitHub gives a heading; MkDocs gives the same to those without odd signs.

    Example:
        >>> anchor('What `make demo` does')
        'what-make-demo-does'
    """
    plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading)
    return re.sub(r'[^\w\- ]', '', plain.lower()).replace(' ', '-')


def anchors(text: str) -> list[str]:
    """Names of all headings of a page."""
    blank = re.sub(r'^(```|~~~).*?^\1[^\S\n]*$', '', text, flags=re.MULTILINE | re.DOTALL)
    return [anchor(found[1]) for found in HEADING.finditer(blank)]


def is_external(target: str) -> bool:
    """Whether a link leads out of the repository."""
    return re.match(r'[a-z]+:', target) is not None


def resolve(page: str, target: str) -> tuple[str, str]:
    """The file of the repository that a page's link means, and the anchor in it.

    Args:
        page: path of the page in the repository.
        target: as written; an anchor alone means the page itself.

    Example:
        >>> resolve('docs/lidar.md', '../figs/lidar_boxes.jpg')
        ('figs/lidar_boxes.jpg', '')
        >>> resolve('docs/lidar.md', '#evaluation')
        ('docs/lidar.md', 'evaluation')
    """
    path, _, name = target.partition('#')
    folder = PurePosixPath(page).parent
    return os.path.normpath(folder / path) if path else page, name


def place_in_site(path: str) -> str:
    """Where the site keeps a file of the repository.

    Example:
        >>> place_in_site('docs/data.md'), place_in_site('README.md'), place_in_site('figs/overview.jpg')
        ('data.md', 'index.md', 'repository/figs/overview.jpg')
    """
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix('docs/') if path.startswith('docs/') else f'{OUTSIDE}/{path}'
