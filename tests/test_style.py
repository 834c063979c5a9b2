"""The tree is clean by the rules in pyproject.toml."""

import ast
import functools
import re
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / 'projects' / 'mmdet3d_plugin'
FLOORS = (
    ('registry', 'compat', 'box_codec', 'common', 'command_line'),
    ('ops',),
    ('hosts',),
    ('evaluation',),
    ('datasets',),
    ('worlds',),
    ('visualization',),
    ('distill',),
    ('engine',),
    ('studies',),
)
"""Rooms of the plugin from the ground up; CONTRIBUTING.md has the picture."""
ROOM_LIMIT = 3000
"""Lines of Python in one package, its sub-packages not counted."""


@functools.cache
def nodes_of(path: Path) -> tuple[tuple[ast.AST, bool], ...]:
    """Every node of a file that is a function or an import, and whether it stands inside a function."""
    found = []
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(path.read_text()), False)]
    while waiting:
        node, late = waiting.pop()
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if function or isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, late))
        if isinstance(node, ast.stmt | ast.Module | ast.ExceptHandler | ast.match_case):
            waiting += [(child, late or function) for child in ast.iter_child_nodes(node)]
    return tuple(found)


@pytest.mark.parametrize('arguments', [('check',), ('format', '--check')], ids=['lint', 'format'])
def test_ruff_is_content(arguments: tuple[str, ...]) -> None:
    """Ruff, the very version of the lock, finds nothing to complain about."""
    answer = subprocess.run(
        [sys.executable, '-m', 'ruff', *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert answer.returncode == 0, f'`make format` mends most of this:\n{answer.stdout}{answer.stderr}'


def test_ruff_judges_by_our_rules(tmp_path: Path) -> None:
    """The configuration is the one in force: a file that breaks it is refused, so a pass means something."""
    bad = tmp_path / 'bad.py'
    bad.write_text('def undocumented(untyped):\n    return untyped\n')
    command = [sys.executable, '-m', 'ruff', 'check', '--config', str(ROOT / 'pyproject.toml'), str(bad)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 1
    for rule in ('ANN001', 'D103'):
        assert rule in answer.stdout


def test_pre_commit_runs_the_same_ruff() -> None:
    """Hooks use the environment's ruff: a version of their own would disagree with `make test` sooner or later."""
    config = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    hooks = {hook['id']: hook for repo in config['repos'] for hook in repo['hooks']}
    assert hooks['ruff-check']['entry'].startswith('.venv/bin/python -m ruff check')
    assert hooks['ruff-format']['entry'].startswith('.venv/bin/python -m ruff format')


def function_lengths() -> list[int]:
    """Lines of every function of the project, docstrings left out, configs (which are data) too."""
    lengths = []
    for path in [*ROOT.glob('projects/**/*.py'), *ROOT.glob('tools/**/*.py')]:
        if path.is_relative_to(ROOT / 'projects' / 'configs'):
            continue
        for node, _ in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node, clean=False)
                lengths.append(node.end_lineno - node.lineno + 1 - (doc.count('\n') + 1 if doc else 0))
    return sorted(lengths)


def test_functions_stay_short() -> None:
    """Half of all functions fit into 15 lines, nine of ten into 50: the bar of CONTRIBUTING.md."""
    lengths = function_lengths()
    assert statistics.median(lengths) <= 15
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 50


@functools.cache
def written_functions() -> tuple[tuple[str, str, list[ast.stmt]], ...]:
    """(file, name, body without its docstring) of every function of the project that is no config."""
    found = []
    for path in [*PLUGIN.glob('**/*.py'), *ROOT.glob('tools/**/*.py')]:
        for node, _ in nodes_of(path):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node, clean=False) else node.body
                found.append((path.name, node.name, body))
    return tuple(found)


def test_nothing_is_written_twice() -> None:
    """Two functions of one body are one function, but for what is too small to share."""
    bodies = defaultdict(list)
    for file, name, body in written_functions():
        if sum(1 for statement in body for _ in ast.walk(statement)) >= 25:
            bodies['\n'.join(map(ast.dump, body))].append(f'{file}: {name}')
    assert [places for places in bodies.values() if len(places) > 1] == []


def test_helpers_are_worth_their_names() -> None:
    """Few private functions have one caller, and hardly any of these are so short that they only make a reader hop."""
    text = '\n'.join(path.read_text() for path in [*PLUGIN.glob('**/*.py'), *ROOT.glob('tools/**/*.py')])
    uses = Counter(re.findall(r'\b_[a-z]\w*', text))
    functions = written_functions()
    lengths = [
        body[-1].end_lineno - body[0].lineno + 1
        for _, name, body in functions
        if name.startswith('_') and uses[name] == 2 and body  # where it is written, and where it is called
    ]
    assert len(lengths) < 0.16 * len(functions)
    assert sum(length <= 3 for length in lengths) < 0.03 * len(functions)


def test_one_word_stands_for_one_thing() -> None:
    """A student is no pupil, a teacher no expert, and messages use the words of the field."""
    odd = ('apprentice', 'pupil', 'for ever ', 'for ever,', 'for ever.', 'who am i', 'the bar away', 'expert')
    found = []
    for folder in ('projects', 'tools', 'docs'):
        for path in (ROOT / folder).rglob('*'):
            if path.suffix in ('.py', '.md', '.h', '.cpp', '.cu', '.sh'):
                text = path.read_text().lower().replace('imperfect expert', '')  # the title of a paper
                found += [f'{path.name}: {word}' for word in odd if word in text]
    assert found == []


def plugin_imports(path: Path) -> list[tuple[str, bool]]:
    """Modules of the plugin that a file imports, as 'room.module', and whether it does so inside a function."""
    prefix = 'projects.mmdet3d_plugin'
    found = []
    for node, late in nodes_of(path):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(prefix):
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith(prefix)]
        found += [(name.removeprefix(prefix).removeprefix('.'), late) for name in names]
    return found


def floor_of(module: str) -> int:
    """The floor of 'room.module'; a KeyError for a room that is on none."""
    room = module.split('.')[0]
    return {name: floor for floor, names in enumerate(FLOORS) for name in names}[room]


def test_imports_only_go_down() -> None:
    """A room imports from its own floor or from those below it."""
    upward = []
    for path in sorted(PLUGIN.rglob('*.py')):
        if path == PLUGIN / '__init__.py':
            continue
        own = '.'.join(path.relative_to(PLUGIN).with_suffix('').parts)
        upward += [
            f'{own} imports {module}'
            for module, _ in plugin_imports(path)
            if floor_of(module) > floor_of(own)
        ]
    assert not upward, '\n'.join(upward)


def test_the_picture_of_the_floors_is_right() -> None:
    """CONTRIBUTING.md draws the same floors, the ground last."""
    page = (ROOT / 'CONTRIBUTING.md').read_text()
    picture = re.search(r'^## The floors$.*?^```\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)[1]
    names = {name for floor in FLOORS for name in floor}
    drawn = [tuple(re.split(r' {2,}', line)[0].split()) for line in picture.splitlines()]
    assert tuple(reversed(drawn)) == FLOORS
    folders = {path.name for path in PLUGIN.iterdir() if path.is_dir() and any(path.glob('*.py'))}
    assert names == folders | {path.stem for path in PLUGIN.glob('*.py') if path.name != '__init__.py'}


def test_modules_do_not_import_in_a_circle() -> None:
    """No module reaches itself through imports, late ones included."""
    files = {'.'.join(p.relative_to(PLUGIN).with_suffix('').parts): p for p in PLUGIN.rglob('*.py')}
    graph = {}
    for own, path in files.items():
        targets = {name for name, _ in plugin_imports(path)}
        graph[own] = {t if t in files else t.rpartition('.')[0] for t in targets} & files.keys()
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, ' -> '.join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_no_room_is_too_large() -> None:
    """A stranger can hold a package in the head, its sub-packages apart."""
    sizes = {
        str(folder.relative_to(PLUGIN)): sum(len(p.read_text().splitlines()) for p in folder.glob('*.py'))
        for folder in PLUGIN.rglob('*')
        if folder.is_dir()
    }
    assert not {room: size for room, size in sizes.items() if size > ROOM_LIMIT}
