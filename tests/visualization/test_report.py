"""The page holds what it was given, and nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

from projects.mmdet3d_plugin.visualization.report import Report


class TagBalance(HTMLParser):
    """Collects tags that were closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in ('meta', 'img', 'br'):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def full_report(folder: Path) -> Report:
    picture = folder / 'p.png'
    cv2.imwrite(str(picture), np.zeros((4, 4, 3), np.uint8))
    report = Report('A <title>', 'lead')
    report.heading('Section')
    report.paragraph('text & more')
    report.cards({'NDS': '41.2'})
    report.table(['model', 'NDS', 'ms'], [['a', '40.0', '10'], ['b', '42.0', '7']], best={1: max, 2: min})
    report.facts({'machine': 'two cores'})
    report.commands(['python tools/train.py CONFIG'])
    report.picture(picture, 'six cameras')
    report.gallery({'teacher & all': picture, 'student': picture})
    report.charts({'loss': '<svg></svg>'})
    return report


def test_page_is_well_formed_and_escaped(tmp_path: Path) -> None:
    text = full_report(tmp_path).html()
    balance = TagBalance()
    balance.feed(text)
    assert not balance.wrong
    assert not balance.open
    assert 'A &lt;title&gt;' in text
    assert 'text &amp; more' in text


def test_page_needs_no_other_file(tmp_path: Path) -> None:
    text = full_report(tmp_path).html()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert 'url(' not in text


def test_pictures_of_a_gallery_share_a_row(tmp_path: Path) -> None:
    row = re.search(r'<div class="gallery">(.*?)</div>', full_report(tmp_path).html()).group(1)
    assert re.findall(r'<figcaption>([^<]*)', row) == ['teacher &amp; all', 'student']
    assert row.count('src="data:image/png;base64,') == 2


def test_cells_that_are_all_equal_are_not_set_off() -> None:
    report = Report('t')
    report.table(['model', 'NDS'], [['a', '40.0'], ['b', '40.0']], best={1: max})
    assert 'class="best"' not in report.html()


def test_best_cells_are_set_off(tmp_path: Path) -> None:
    text = full_report(tmp_path).html()
    assert re.findall(r'class="best">([^<]*)', text) == ['42.0', '7']


def test_write_makes_the_folder(tmp_path: Path) -> None:
    path = full_report(tmp_path).write(tmp_path / 'deep' / 'report.html')
    assert path.read_text(encoding='utf-8').startswith('<!doctype html>')
