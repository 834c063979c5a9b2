import argparse

import pytest
from mmcv import DictAction

from projects.mmdet3d_plugin.command_line.override_action import OverrideAction, parse_overrides

WORDS = (
    'a=1', 'a=-2.5', 'a=1e-4', 'a=True', 'a=false', 'a=None', 'a=none', 'a=word', 'a=x=y', 'a=', 'a=[]', 'a=()',
    'a=1,2,3', 'a=1,', 'a=[1]', 'a=(1,)', 'a=[a, b, c]', 'a=[(1,2),(3,4)]', 'a=[(1, 2, 3), [a, b], c]',
    'a=((1,2),[])', 'a="quoted"', "a='1,2'", 'a=x(1)', 'a=1,[2,3]', 'a=path/to/file.py', 'a=inf',
)  # fmt: skip


@pytest.mark.parametrize('word', WORDS)
def test_words_mean_what_they_mean_to_mmcv(word: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    wanted = parser.parse_args(['--options', word, 'b.c=2']).options
    got = parse_overrides([word, 'b.c=2'])
    assert got == wanted
    assert type(got['a']) is type(wanted['a'])


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('lr', 'lr: say KEY=VALUE'),
        ('=3', '=3: say KEY=VALUE'),
        ('a=[1', 'brackets do not match'),
        ('a=(1]', 'brackets do not match'),
        ('a=1)', 'brackets do not match'),
    ],
)
def test_mistakes_end_with_the_usage(word: str, message: str, capsys: pytest.CaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OverrideAction)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', word])
    assert f'--cfg-options {word}' in (text := capsys.readouterr().err)
    assert message in text
