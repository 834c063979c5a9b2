"""MkDocs hooks: the site shows the repository's Markdown wherever it lies, with what it links to."""

import os.path
import re
from pathlib import Path
from typing import Any

from tools.docs.markdown import PAGES, is_external, links, place_in_site, replace_links, resolve

ROOT = Path(__file__).resolve().parents[2]
MODULE = re.compile(r'^- \[`([\w.]+)`\]\([^)]*\):.*$', re.MULTILINE)
PACKAGE = 'projects.mmdet3d_plugin'


def on_files(files: Any, config: Any) -> Any:
    """Add the pages outside docs/ and the files of the repository that any page links to."""
    from mkdocs.structure.files import File

    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for file in list(files.documentation_pages()):
        page = _path_of(file.src_uri)
        for target in links(file.content_string):
            path, _ = resolve(page, target)
            uri = place_in_site(path)
            wanted = not is_external(target) and (ROOT / path).is_file()
            if wanted and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the site's own places, and draw the modules of an API page from their docstrings."""
    own = page.file.src_uri
    if own.startswith('api/'):
        markdown = MODULE.sub(rf'## \1\n\n::: {PACKAGE}.\1\n', markdown)
    path = _path_of(own)

    def change(target: str) -> str:
        if is_external(target) or target.startswith('#'):
            return target
        found, name = resolve(path, target)
        here = os.path.relpath(place_in_site(found), os.path.dirname(own) or '.')
        return f'{here}#{name}' if name else here

    return replace_links(markdown, change)


def _path_of(uri: str) -> str:
    """Path in the repository of a page of the site."""
    outside = {place: path for path, place in PAGES.items()}
    return outside.get(uri, f'docs/{uri}')
