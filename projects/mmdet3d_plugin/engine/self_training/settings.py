"""What ``self_training`` of a config says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmcv import Config

from projects.mmdet3d_plugin.common.config_checks.types import require_values
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest
from projects.mmdet3d_plugin.datasets.sparse.mining_settings import MiningSettings

PLACE = 'self_training'
_CHOICES = {'unsure': ('remove', 'ignore', 'keep'), 'start': ('scratch', 'previous')}


@dataclass(frozen=True)
class SelfTraining:
    """How a detector that has seen few labels teaches itself.

    Attributes:
        split: JSON file of the sparse split, in the data root.
        iterations: rounds of mine, derive, train, test after the first training.
        mine: which predictions become objects.
        unsure: what is neither object nor background for certain: 'remove' its points, 'ignore' it in the loss (anchor
            and centre heads, IA-SSD), or 'keep' it as background.
        own_scene: whether mined objects are labels of their own frames; else they are only pasted into others.
        fill: whether removed objects are replaced by mined ones, as SS3D does.
        start: whether a training starts from 'scratch' or from the weights of the 'previous' one.
        epochs: of the trainings after the first; those of the first by default.
        pretrained: weights that make the first training unnecessary.
        labeller: config of another detector that mines in this one's place, larger or with a second stage. It learns from the
            same labels and the same banks, and none of it is in what comes out.
    """

    split: str
    iterations: int = 2
    mine: MiningSettings = field(default_factory=MiningSettings)
    unsure: str = 'remove'
    own_scene: bool = True
    fill: bool = False
    start: str = 'scratch'
    epochs: int | None = None
    pretrained: str | None = None
    labeller: str | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(
                    f'{PLACE}.{name} is {getattr(self, name)!r}; choose one of {", ".join(choices)}'
                )
        for name, number in (('iterations', self.iterations), ('epochs', self.epochs)):
            if number is not None and number < 1:
                raise UserError(f'{PLACE}.{name} is {number}: it must be at least 1')
        if self.fill and self.unsure != 'remove':
            raise UserError(f"{PLACE}.fill puts objects where points were removed: say unsure='remove' too")

    @classmethod
    def from_config(cls, cfg: Config) -> 'SelfTraining':
        """Settings of a config.

        Raises:
            UserError: it has none, or some that cannot be.
        """
        settings = cfg.get(PLACE)
        if not isinstance(settings, Mapping):
            raise UserError(f"the config has no {PLACE}, such as {PLACE}=dict(split='kitti_sparse1_s0.json')")
        values: dict[str, Any] = dict(settings)
        for key in values:
            if key not in cls.__dataclass_fields__:
                raise UserError(f'{PLACE} takes no {key!r}; {nearest(key, cls.__dataclass_fields__)}')
        if 'split' not in values:
            raise UserError(
                f"{PLACE} has no 'split', the JSON file that tools/create_data.py --sparse writes"
            )
        values['mine'] = MiningSettings.from_config(values.get('mine'), f'{PLACE}.mine')
        require_values(cls, values, f'{PLACE}.')
        return cls(**values)
