"""Figures of the documentation say what the records say."""

from pathlib import Path
from typing import Any

from tools.docs.charts import FIGS, draw_gains_by_teacher, gains_by_teacher
from tools.docs.results import near_records


def comparison(teacher: float, **beyond: float | None) -> dict[str, Any]:
    """A record of ``kd_gain``: the teacher's NDS, and what rows gained beyond the inherited head."""
    rows = {
        name: dict(
            title=f'row {name}',
            beyond_head=gain and dict(mean=gain, differences={'0': gain - 1, '1': gain + 1}),
        )
        for name, gain in beyond.items()
    }
    return dict(pairs=dict(teacher=dict(teacher=dict(metrics=dict(NDS=teacher)), rows=rows)))


def test_gains_stand_by_the_teachers_score(tmp_path: Path) -> None:
    """From the weakest teacher up, for the rows that every one of them taught."""
    strong, weak = comparison(0.5, none=None, a=2.0, b=4.0), comparison(0.25, none=None, a=-1.5)
    gains = gains_by_teacher([strong, weak])
    assert list(gains) == ['row a']
    assert [(point.teacher, point.mean, list(point.single)) for point in gains['row a']] == [
        (25.0, -1.5, [-2.5, -0.5]),
        (50.0, 2.0, [1.0, 3.0]),
    ]
    draw_gains_by_teacher(gains, tmp_path / 'chart.svg')
    drawn = (tmp_path / 'chart.svg').read_text()
    assert all(text in drawn for text in ('row a', '-1.50', '+2.00'))


def test_the_figure_is_drawn_from_the_records() -> None:
    drawn = (FIGS / 'gain_by_teacher.svg').read_text()
    gains = gains_by_teacher(near_records())
    assert gains
    assert all(
        text in drawn for title, points in gains.items() for text in (title, *(p.text for p in points))
    )
