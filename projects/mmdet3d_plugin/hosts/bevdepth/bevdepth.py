"""BEVDepth: Acquisition of Reliable Depth for Multi-view 3D Object Detection (AAAI 2023), as Megvii built it."""

from typing import Any, ClassVar

from mmdet.models import DETECTORS
from mmdet3d.models.builder import build_head
from torch import Tensor

from projects.mmdet3d_plugin.hosts.bevdepth.camera_matrices import CameraMatrices
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat import Lifted, LiftSplat
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat_backbone import LiftSplatBackbone
from projects.mmdet3d_plugin.hosts.bevdepth.lift_splat_detector import LiftSplatDetector


@DETECTORS.register_module()
class BEVDepth(LiftSplatDetector):
    """BEVDepth; weights are named as in Megvii's code.

    Args:
        backbone: arguments of :class:`LiftSplatBackbone`.
        head: config of :class:`BEVDepthHead`.
        train_cfg: of the head.
        test_cfg: of the head.
        **detector: arguments of :class:`LiftSplatDetector`.
    """

    CONFIG_PARTS: ClassVar[dict[str, type]] = {'backbone': LiftSplatBackbone}

    def __init__(
        self,
        backbone: dict[str, Any],
        head: dict[str, Any],
        train_cfg: dict[str, Any] | None = None,
        test_cfg: dict[str, Any] | None = None,
        **detector: Any,
    ) -> None:
        super().__init__(**detector)
        self.backbone = LiftSplatBackbone(**backbone)
        self.head = build_head(dict(head, train_cfg=train_cfg, test_cfg=test_cfg))

    @property
    def lift_splat(self) -> LiftSplat:
        """The backbone's."""
        return self.backbone.lift_splat

    def lightning_caution(self) -> str:
        """What of the config does not fit weights that Megvii published, which a PyTorch Lightning's names tell, in words."""
        wanted = {'model.frame=ego': self.frame == 'ego'}
        wanted['model.backbone.lift_splat.truncate=True'] = self.lift_splat.truncate
        lacking = [setting for setting, is_set in wanted.items() if not is_set]
        if not lacking:
            return ''
        return (
            'published weights of BEVDepth were trained in the ego frame, a quarter turn from the LiDAR frame, and with cells '
            f'rounded towards zero: give the config {" and ".join(lacking)}'
        )

    def lift(self, img: Tensor, present: CameraMatrices) -> Lifted:
        """See :meth:`LiftSplatBackbone.lift`."""
        return self.backbone.lift(img, present)

    def pool(self, lifted: Lifted, matrices: CameraMatrices) -> Tensor:
        """See :meth:`LiftSplatBackbone.pool`."""
        return self.backbone.pool(lifted, matrices)

    def read(self, bev: Tensor) -> Any:
        """See :meth:`BEVDepthHead.forward`."""
        return self.head(bev)
