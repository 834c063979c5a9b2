"""Help and mistakes in a command must not wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.command_line import parsers
from projects.mmdet3d_plugin.datasets.converters.nuscenes_converter import SPLITS
from projects.mmdet3d_plugin.engine.amp import DTYPES
from projects.mmdet3d_plugin.evaluation.waymo_metric import OVERLAPS

ROOT = Path(__file__).resolve().parents[2]
TOOLS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ('tools/*.py', 'tools/analysis_tools/*.py', 'tools/benchmark/*.py', 'tools/docs/*.py')
    for path in ROOT.glob(pattern)
    if '__main__' in path.read_text() and path.name != 'torchrun.py'  # whose help is torch's own
)
PROBE = """
import contextlib, io, runpy, sys
for tool in sys.argv[1:]:
    for words in (['--help'], ['--no-such-option']):
        sys.argv = [tool, *words]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                runpy.run_path(tool, run_name='__main__')
            except SystemExit as end:
                assert end.code == (2 if words[0].startswith('--no') else 0), (tool, words, end.code)
            else:
                raise AssertionError(f'{tool} {words} did not end')
    heavy = {'torch', 'mmcv', 'mmdet', 'mmdet3d', 'numpy', 'cv2', 'matplotlib', 'nuscenes'} & sys.modules.keys()
    assert not heavy, (tool, heavy)
"""


def test_help_and_mistakes_need_nothing_heavy() -> None:
    """All tools in one process, which has no heavy module after any of them."""
    assert len(TOOLS) >= 27
    answer = subprocess.run([sys.executable, '-c', PROBE, *TOOLS], cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-2000:]


def test_what_is_said_without_looking_is_true(capsys: pytest.CaptureFixture) -> None:
    """Choices and defaults that stand in the help, since what they are of is heavy."""
    assert tuple(DTYPES) == parsers.PRECISIONS
    for parse, words, known in (
        (parsers.parse_create_data, ['nuscenes', '--help'], SPLITS),
        (parsers.parse_waymo_eval, ['--help'], [f'{name}={value}' for name, value in OVERLAPS.items()]),
    ):
        with pytest.raises(SystemExit):
            parse(words)
        text = ' '.join(capsys.readouterr().out.split())
        assert all(word in text for word in known), text


def test_nothing_to_do_is_a_mistake(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        parsers.parse_test(['config.py', 'weights.pth'])
    assert 'say what to do with the results' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--eval', 'bbox', '--format-only'], 'without evaluation: leave it or --eval out'),
        (['--out', 'r.pkl', '--evaluator', 'devkit'], 'add --eval bbox'),
    ],
)
def test_options_that_contradict_each_other_are_a_mistake(
    words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        parsers.parse_test(['config.py', 'weights.pth', *words])
    assert said in capsys.readouterr().err
