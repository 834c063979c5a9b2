"""Parts of a recipe are found by name, and mistakes are told in one sentence."""

import sys
from pathlib import Path

import pytest

from projects.mmdet3d_plugin.distill import losses
from projects.mmdet3d_plugin.distill.losses.channel_wise_divergence import ChannelWiseDivergence
from projects.mmdet3d_plugin.distill.registry import CONNECTORS, LOSSES, DistillError, build_part
from projects.mmdet3d_plugin.registry import import_submodules


def test_type_is_found_by_name_and_by_short_form() -> None:
    assert isinstance(
        build_part(LOSSES, dict(type='ChannelWiseDivergence', tau=3.0), 'x'), ChannelWiseDivergence
    )
    assert isinstance(build_part(LOSSES, 'channel_wise_divergence', 'x'), ChannelWiseDivergence)


def test_context_fills_what_the_config_leaves_open() -> None:
    part = build_part(
        CONNECTORS, dict(type='Conv1x1', out_channels=5), 'x', in_channels=3, out_channels=9, size=1
    )
    assert part.conv.weight.shape == (5, 3, 1, 1)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        ('FeatureL3', "there: unknown distillation loss 'FeatureL3'; did you mean 'FeatureL2'"),
        (
            dict(type='ChannelWiseDivergence', tua=2.0),
            "there: ChannelWiseDivergence takes no 'tua'; did you mean 'tau'",
        ),
        (
            dict(type='ChannelWiseDivergence', tau='2'),
            "there: ChannelWiseDivergence: tau is '2': it must be a",
        ),
        (dict(type='ChannelWiseDivergence', tau=float('nan')), 'ChannelWiseDivergence: tau is nan'),
        (dict(type='ChannelWiseDivergence', tau=True), 'ChannelWiseDivergence: tau is True'),
        (None, 'there is None: it must be the name of a distillation loss, or a dict with a type'),
        (dict(tau=2.0), "there has no 'type'; known: .*ChannelWiseDivergence"),
    ],
)
def test_mistakes_name_the_culprit_and_the_mend(cfg: object, message: str) -> None:
    with pytest.raises(DistillError, match=message):
        build_part(LOSSES, cfg, 'there')


def test_needed_argument_is_named() -> None:
    with pytest.raises(DistillError, match="there: Conv1x1 needs 'in_channels'"):
        build_part(CONNECTORS, 'conv1x1', 'there')


def test_new_loss_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in losses/ is registered by the package's own search, without an edit anywhere else."""
    (tmp_path / 'dropped_in.py').write_text(
        'from projects.mmdet3d_plugin.distill.losses.distill_loss import DistillLoss\n'
        'from projects.mmdet3d_plugin.distill.registry import LOSSES\n\n\n'
        '@LOSSES.register_module()\n'
        'class DroppedIn(DistillLoss):\n'
        '    """Only a test."""\n'
    )
    monkeypatch.setattr(losses, '__path__', [*losses.__path__, str(tmp_path)])
    try:
        import_submodules(losses.__name__)
        assert type(build_part(LOSSES, 'dropped_in', 'there')).__name__ == 'DroppedIn'
    finally:
        LOSSES.module_dict.pop('DroppedIn', None)
        sys.modules.pop(f'{losses.__name__}.dropped_in', None)
