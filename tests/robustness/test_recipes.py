"""Mutants of recipes, on a toy host and without forks: whatever stands where, it is one line or a step is taken."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmcv import Config

from projects.mmdet3d_plugin.common.errors import explain
from projects.mmdet3d_plugin.distill import registry
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from tests.distill.conftest import BEV_TERM, PV_TERM, recipe, teacher_file  # noqa: F401  fixtures
from tests.distill.toy_host import toy_batch

Recipe = Callable[..., Config]
WRONG = (None, -1, 1.5, float('nan'), 'x', [1], dict(type='x'), True)
LOSSES = {
    'FeatureL2': BEV_TERM,
    'ChannelWiseDivergence': PV_TERM,
    'LocalGraph': dict(type='LocalGraph', on='bev', connector='resize_conv', num_query=8, k=4, width=4),
}
"""Terms of losses that need more than a place and a connector."""
KNOWN_BEFOREHAND = ('channels', 'student_channels', 'name', 'in_channels', 'out_channels')
PLACES = (
    'bevv', 'backbone.{0..9}', 'backbone.{1..0}', 'backbone.9', 'backbone.-1', 'pv', 'heads', 'voxels', '.',
    'backbone..0', '{', '{0..1}', 'stages', 'head.out.weight',
)  # fmt: skip


def arguments_of(kind: type) -> list[str]:
    """Names of the arguments that a config gives."""
    return [
        key
        for key, p in inspect.signature(kind).parameters.items()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and key not in KNOWN_BEFOREHAND
    ]


def parts(name: str) -> list[tuple[str, str]]:
    """(type, argument) of all parts of a registry."""
    kinds = getattr(registry, name).module_dict.items()
    ours = [(kind, cls) for kind, cls in kinds if cls.__module__.startswith('projects.')]
    return [(kind, key) for kind, cls in ours for key in arguments_of(cls)]


def outcome(cfg: Config) -> str:
    """'ran', or the line that a person reads; fails for a traceback and for a loss that is no number."""
    try:
        distiller = build_distiller(cfg)
        distiller.init_weights()
        out = distiller.train_step(toy_batch())
        out['loss'].backward()
    except Exception as error:
        said = explain(error)
        if said is None:
            raise
        assert said.strip()
        assert '\n' not in said
        return said
    assert torch.isfinite(out['loss'])
    return 'ran'


def outcomes(made: Callable[[Any], Config]) -> list[str]:
    """What comes of every wrong value, with the value in front where it is a traceback."""
    found = []
    for value in WRONG:
        try:
            found.append(outcome(made(value)))
        except Exception as error:
            pytest.fail(f'{value!r}: {type(error).__name__}: {error}')
    return found


@pytest.mark.parametrize('key', ['type', 'name', 'on', 'connector', 'region', 'weight', 'schedule', 'clone'])
def test_a_term(recipe: Recipe, key: str) -> None:  # noqa: F811
    found = outcomes(lambda value: recipe(terms=[{**BEV_TERM, key: value}]))
    assert found.count('ran') < 4


@pytest.mark.parametrize(('kind', 'key'), parts('LOSSES'))
def test_an_argument_of_a_loss(recipe: Recipe, kind: str, key: str) -> None:  # noqa: F811
    term = LOSSES.get(kind, dict(type=kind, on='bev', connector='resize_conv'))
    found = outcomes(lambda value: recipe(terms=[{**term, key: value}]))
    assert found.count('ran') < 4


@pytest.mark.parametrize(('kind', 'key'), parts('REGIONS'))
def test_an_argument_of_a_region(recipe: Recipe, kind: str, key: str) -> None:  # noqa: F811
    found = outcomes(lambda value: recipe(terms=[{**BEV_TERM, 'region': {'type': kind, key: value}}]))
    assert found.count('ran') < 4


@pytest.mark.parametrize(
    ('kind', 'key'),
    [*parts('CONNECTORS'), *((kind, key) for kind in ('Conv1x1', 'Deconv') for key in ('in_channels', 'out_channels'))],
)  # fmt: skip
def test_an_argument_of_a_connector(recipe: Recipe, kind: str, key: str) -> None:  # noqa: F811
    found = outcomes(lambda value: recipe(terms=[{**BEV_TERM, 'connector': {'type': kind, key: value}}]))
    assert found.count('ran') < 4


@pytest.mark.parametrize(('kind', 'key'), parts('TARGETS'))
def test_an_argument_of_a_target(recipe: Recipe, kind: str, key: str) -> None:  # noqa: F811
    assert 'ran' not in outcomes(lambda value: recipe(targets=[{'type': kind, key: value}]))


@pytest.mark.parametrize(('kind', 'key'), parts('INITIALIZERS'))
def test_an_argument_of_an_initializer(recipe: Recipe, kind: str, key: str) -> None:  # noqa: F811
    outcomes(lambda value: recipe(initialize=[{'type': kind, key: value}]))


@pytest.mark.parametrize(
    'key', ['config', 'checkpoint', 'view', 'allow', 'random_weights', 'guard_every', 'type']
)
def test_the_teacher(recipe: Recipe, key: str) -> None:  # noqa: F811
    outcomes(lambda value: recipe(teacher={key: value}))


@pytest.mark.parametrize('key', ['teacher', 'terms', 'head', 'targets', 'initialize', 'debug'])
def test_the_distiller(recipe: Recipe, key: str) -> None:  # noqa: F811
    outcomes(lambda value: recipe(**{key: value}) if key != 'teacher' else with_teacher(recipe(), value))


def with_teacher(cfg: Config, value: Any) -> Config:
    """A recipe whose whole teacher is another value."""
    cfg.distiller['teacher'] = value
    return cfg


@pytest.mark.parametrize('place', PLACES)
def test_a_place_that_is_not_there(recipe: Recipe, place: str) -> None:  # noqa: F811
    for on in (place, dict(student=place, teacher='bev'), dict(student='bev', teacher=place)):
        assert outcome(recipe(terms=[{**BEV_TERM, 'on': on}])) != 'ran'
