"""Write the generated parts of the documentation: python -m tools.docs.write [--check | --demo work_dirs/demo].

A page marks such a part by ``<!-- written: NAME -->`` and ``<!-- end -->``; NAME is one of ``results.BLOCKS``.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from tools.docs import api
from tools.docs.markdown import PAGES
from tools.docs.results import BLOCKS

ROOT = api.ROOT
BLOCK = re.compile(r'(<!-- written: ([^>]+?) -->\n)((?:(?!<!-- ).)*)(<!-- end -->)', re.DOTALL)


def pages() -> list[Path]:
    """All pages of the documentation."""
    return [*(ROOT / path for path in PAGES), *sorted((ROOT / 'docs').rglob('*.md'))]


def filled(text: str) -> str:
    """A page with its generated parts brought up to date.

    Raises:
        KeyError: a page asks for a part that does not exist.
    """
    return BLOCK.sub(lambda found: f'{found[1]}{BLOCKS[found[2]]()}\n{found[4]}', text)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: write what is out of date, or with --check only name it and fail."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--check', action='store_true', help='write nothing; fail when a page is out of date')
    parser.add_argument(
        '--demo', type=Path, metavar='DIR', help='first record the figures of a finished demo'
    )
    arguments = parser.parse_args(argv)
    if arguments.demo:
        from tools.docs.record_demo import record_demo  # needs torch, writing does not

        record_demo(arguments.demo)
    stale = [path for path in pages() if filled(path.read_text()) != path.read_text()]
    for path in stale:
        print(f'{path.relative_to(ROOT)}: {"out of date" if arguments.check else "written"}')
        if not arguments.check:
            path.write_text(filled(path.read_text()))
    if stale and arguments.check:
        raise SystemExit('run `python -m tools.docs.write`')


if __name__ == '__main__':
    main()
