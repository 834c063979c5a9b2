"""The tables of what can be compared hold together."""

import pytest

from projects.mmdet3d_plugin.studies.gain.choice import choose_rows
from projects.mmdet3d_plugin.studies.gain.families import FAMILIES, Family, Metric
from projects.mmdet3d_plugin.studies.training_run import ROOT

ALL = pytest.mark.parametrize('family', FAMILIES.values(), ids=FAMILIES)


@ALL
def test_names_are_unique_and_those_that_are_referred_to_exist(family: Family) -> None:
    names = [row.name for pair in family.pairs for row in (*pair.teachers, *pair.known)]
    assert len(set(names)) == len(names)
    for pair in family.pairs:
        rows = {row.name for row in pair.rows}
        assert {name for names in pair.best_of.values() for name in names} <= rows
        assert {name for rivals in pair.rivals for name in rivals} <= rows | pair.best_of.keys()
        assert pair.leads.keys() <= set(pair.rivals)
        assert {name for *names, _ in pair.lowers for name in names} <= rows | pair.best_of.keys()
        assert {key for *_, key in pair.lowers} <= {metric.key for metric in family.metrics}
        assert pair.inherit is None or pair.inherit in rows
    assert {'cpu', 'gpu'} <= family.scales.keys()


@ALL
def test_every_row_has_its_config_and_may_be_compared(family: Family) -> None:
    choices = choose_rows(family)
    assert [choice.pair for choice in choices] == list(family.pairs)
    for pair in family.pairs:
        assert (ROOT / pair.teacher.config).is_file()


def test_metric_is_shown_with_its_digits() -> None:
    assert Metric('a', 'a', digits=1).format(1.25) == '1.2'
