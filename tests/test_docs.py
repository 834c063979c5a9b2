"""The documentation: links lead somewhere, figures are those of the records, every page is in the navigation."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.utils import yaml_load

from tools.docs.api import PACKAGES, PLUGIN, modules_of
from tools.docs.markdown import PAGES, anchors, is_external, links, place_in_site, replace_links, resolve
from tools.docs.results import BLOCKS, record
from tools.docs.write import BLOCK, ROOT, filled, main, pages

FILES = [str(path.relative_to(ROOT)) for path in pages()]
README_LINES = 100


def tracked() -> set[str]:
    """Files of the repository, new ones that are not ignored included."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode:
        pytest.skip('not a git clone')
    return set(answer.stdout.split('\n'))


@pytest.mark.parametrize('page', FILES)
def test_every_link_leads_somewhere(page: str) -> None:
    files, dead = tracked(), []
    for target in links((ROOT / page).read_text()):
        if is_external(target):
            continue
        path, name = resolve(page, target)
        if path not in files or (name and name not in anchors((ROOT / path).read_text())):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize('page', FILES)
def test_headings_that_are_linked_to_have_one_name_everywhere(page: str) -> None:
    """GitHub and MkDocs name headings by rules that differ for odd signs and for two equal headings."""
    from markdown.extensions.toc import slugify

    names = anchors((ROOT / page).read_text())
    for name in names:
        assert slugify(name, '-') == name
    assert len(set(names)) == len(names)


def test_a_dead_link_is_found() -> None:
    text = '# Title\n[a](b.md#c) `[x](y)`\n```\n[z](z.md)\n```\n![d](e.jpg)'
    assert links(text) == ['b.md#c', 'e.jpg']
    assert replace_links(text, str.upper) == text.replace('b.md#c', 'B.MD#C').replace('e.jpg', 'E.JPG')
    assert resolve('docs/api/ops.md', '../../README.md#x') == ('README.md', 'x')


def test_every_page_is_in_the_navigation_once() -> None:
    def leaves(nodes: list) -> list[str]:
        found = []
        for node in nodes:
            value = next(iter(node.values())) if isinstance(node, dict) else node
            found += leaves(value) if isinstance(value, list) else [value]
        return found

    navigation = leaves(yaml_load((ROOT / 'mkdocs.yml').read_text())['nav'])
    assert sorted(navigation) == sorted(place_in_site(page) for page in FILES)


def test_generated_parts_are_up_to_date(capsys: pytest.CaptureFixture) -> None:
    main(['--check'])
    assert capsys.readouterr().out == ''


def test_an_outdated_figure_is_found_and_mended() -> None:
    page = (ROOT / 'docs' / 'results.md').read_text()
    score = f'{record("demo_cpu")["models"][0]["NDS"]:.2f}'
    assert filled(page.replace(f'| {score} |', '| 99.99 |', 1)) == page
    assert (
        filled('<!-- written: demo -->\n<!-- end -->')
        == f'<!-- written: demo -->\n{BLOCKS["demo"]()}\n<!-- end -->'
    )


def test_every_generated_part_is_shown() -> None:
    shown = {found[2] for path in pages() for found in BLOCK.finditer(path.read_text())}
    assert shown == set(BLOCKS)


def test_every_module_is_on_an_api_page() -> None:
    files = [path for path in PLUGIN.rglob('*.py') if path.name != '__init__.py']
    names = {'.'.join(path.relative_to(PLUGIN).with_suffix('').parts) for path in files}
    assert {name for package in PACKAGES for name in modules_of(package)} == names


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / 'README.md').read_text().splitlines()) <= README_LINES
    for page in sorted(set(PAGES) - {'README.md'}):
        assert (ROOT / page).is_file()


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path: Path) -> None:
    """MkDocs warns of dead links, missing anchors, pages outside the navigation; with --strict that is an error."""
    command = [sys.executable, '-m', 'mkdocs', '--quiet', 'build', '--strict', '--site-dir', str(tmp_path)]
    environment = {**os.environ, 'NO_MKDOCS_2_WARNING': '1', 'DOCS_SEARCH': 'false'}
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    home = (tmp_path / 'index.html').read_text()
    assert 'src="repository/figs/distillation.svg"' in home
    assert 'href="set-up.html"' in home
    assert 'id="projects.mmdet3d_plugin.ops.knn.' in (tmp_path / 'api' / 'ops.html').read_text()
    assert not re.search(r'<(script|img|link)[^>]+(src|href)="?http', home), 'it is read without a network'


def test_a_finished_demo_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from projects.mmdet3d_plugin.studies.demo import CONTENDERS, DemoOptions, demo_stages
    from tools.docs import record_demo

    def write(path: Path, content: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    out, options = tmp_path / 'demo', DemoOptions(out=tmp_path / 'demo')
    errors = dict.fromkeys(('mATE', 'mASE', 'mAOE', 'mAVE', 'mAAE'), 0.51234)
    for contender in CONTENDERS:
        write(options.metrics(contender), {'NDS': 0.12345, 'mAP': 0.5, **errors})
    for name in ('teacher', 'student'):
        write(out / 'cost' / f'{name}.json', {'total': {'parameters': 680_000, 'computed': 1.39e9}})
    write(out / 'cost' / 'latency.json', {'models': [{'median_ms': 39.31}] * 3})
    for stage in demo_stages(options):
        write(out / 'stamps' / f'{stage.name}.json', {'key': '', 'seconds': 99, 'cpu_seconds': 60})
    monkeypatch.setattr(record_demo, 'BENCHMARKS', tmp_path)
    record_demo.record_demo(out)
    written = json.loads((tmp_path / 'demo_cpu.json').read_text())
    assert written.keys() == record('demo_cpu').keys()
    assert written['cpu_minutes'] == len(demo_stages(options))
    assert written['models'][0] == {
        'model': 'teacher',
        **{'NDS': 12.35, 'mAP': 50.0, **dict.fromkeys(errors, 0.512)},
        **{'parameters_m': 0.68, 'gflops': 1.39, 'ms_per_frame': 39.3},
    }
