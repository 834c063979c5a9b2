"""How tools begin, and how their warnings read."""

from projects.mmdet3d_plugin.command_line.launcher import PACKAGE, format_warning


def test_our_warnings_are_a_sentence_and_those_of_others_name_their_source() -> None:
    assert (
        format_warning('2 of 3 samples', UserWarning, f'{PACKAGE}/ops/x.py', 7) == 'warning: 2 of 3 samples\n'
    )
    assert format_warning('2 of 3', UserWarning, '/lib/other.py', 7).startswith(
        '/lib/other.py:7: UserWarning: 2 of 3'
    )
