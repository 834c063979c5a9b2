"""Any timm model that gives feature maps, as an image backbone."""

from collections.abc import Sequence
from typing import Any

import timm
from mmcv.runner import BaseModule
from mmdet.models import BACKBONES
from torch import Tensor

from projects.mmdet3d_plugin.common.errors import UserError
from projects.mmdet3d_plugin.common.suggest import nearest


@BACKBONES.register_module()
class TimmBackbone(BaseModule):
    """A timm model in place of a ResNet; ``feature_channels`` says what the neck's ``in_channels`` must be.

    Args:
        model_name: name of the timm model, such as ``'convnext_tiny'``.
        out_indices: stages to return, counted from 0.
        pretrained: download timm's weights when training starts (never to evaluate or to count).
        init_cfg: initialisation, see mmcv; timm initialises by itself.
        options: further arguments of ``timm.create_model``.

    Raises:
        UserError: for a model that timm does not know, or that cannot give feature maps at these stages.
    """

    def __init__(
        self,
        model_name: str,
        out_indices: Sequence[int],
        pretrained: bool = False,
        init_cfg: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.model_name, self.pretrained = model_name, pretrained
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
        reductions = self.model.feature_info.reduction()
        if len(set(reductions)) != len(reductions):
            raise ValueError(
                f'TimmBackbone: {model_name!r} gives maps of strides {reductions}, but a pyramid needs a new stride '
                'at each level. Choose a hierarchical model, or a single stage.'
            )

    def init_weights(self) -> None:
        """Take timm's pretrained weights, if asked for.

        Raises:
            RuntimeError: when they cannot be had.
        """
        super().init_weights()
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
