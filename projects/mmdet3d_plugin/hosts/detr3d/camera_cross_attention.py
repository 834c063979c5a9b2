"""Cross-attention of object queries to image features at their projected reference points (DETR3D, equations 4 to 6)."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmdet.models.utils.transformer import inverse_sigmoid
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.detr.cameras import project_to_cameras
from projects.mmdet3d_plugin.ops.gather_maps import FeatureMaps, gather_seen
from projects.mmdet3d_plugin.ops.linear import Linear


@dataclass
class CameraViews:
    """What the cameras of one frame show, and where they stand.

    Attributes:
        maps: L levels of image features of B * num_cams cameras.
        lidar2img: (B, num_cams, 4, 4), LiDAR frame (metres) to pixels of the padded image.
        img_shape: (B, num_cams, 2), (width, height) of the padded images in pixels.
        pc_range: [x0, y0, z0, x1, y1, z1], metres, what reference points are relative to.
        filled: (B, num_cams, 2), share of width and height that is image and not padding; None takes padding for image.
    """

    maps: FeatureMaps
    lidar2img: Tensor
    img_shape: Tensor
    pc_range: Sequence[float]
    filled: Tensor | None = None

    def project(self, reference: Tensor) -> tuple[Tensor, Tensor]:
        """Find reference points in the images.

        Args:
            reference: (B, Q, 3), (x, y, z) in [0, 1] of the range.

        Returns:
            (B, Q, num_cams, 2), (x, y) in units of the padded images, and (B, Q, num_cams), bool, which of them are seen.
        """
        low, high = reference.new_tensor(self.pc_range).view(2, 3)
        points = reference * (high - low) + low
        places, seen = project_to_cameras(points[:, :, None], self.lidar2img, self.img_shape)
        places, seen = places.squeeze(3).transpose(1, 2), seen.squeeze(3).transpose(1, 2)
        if self.filled is not None:
            seen = seen & (places < self.filled[:, None]).all(-1)
        return places, seen


class CameraCrossAttention(nn.Module):
    """Every query sums what the cameras show at its reference point, weighted by camera and level.

    The weights are sigmoids: they are normalised neither over cameras nor over levels.

    Args:
        embed_dims: C.
        num_cams: cameras in the rig.
        num_levels: L, feature levels per camera.
        dropout: on the output.
    """

    def __init__(self, embed_dims: int, num_cams: int, num_levels: int, dropout: float) -> None:
        super().__init__()
        self.num_cams, self.num_levels = num_cams, num_levels
        self.attention_weights = Linear(embed_dims, num_cams * num_levels)
        self.output_proj = Linear(embed_dims, embed_dims)
        self.position_encoder = nn.Sequential(
            Linear(3, embed_dims),
            nn.LayerNorm(embed_dims),
            nn.ReLU(inplace=True),
            Linear(embed_dims, embed_dims),
            nn.LayerNorm(embed_dims),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(dropout)

    def init_weights(self) -> None:
        """Look at every camera and level with weight one half, whatever the query."""
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        nn.init.xavier_uniform_(self.output_proj.weight)
        nn.init.zeros_(self.output_proj.bias)

    def forward(self, query: Tensor, query_pos: Tensor, views: CameraViews, reference: Tensor) -> Tensor:
        """Look at the images.

        Args:
            query: (B, Q, C).
            query_pos: (B, Q, C).
            views: features and geometry of the cameras.
            reference: (B, Q, 3), (x, y, z) in [0, 1] of the range.

        Returns:
            (B, Q, C), with the residual and the encoded position added.
        """
        b, q, _ = query.shape
        weights = self.attention_weights(query + query_pos).sigmoid()
        weights = weights.view(b, q, self.num_cams, self.num_levels)
        places, seen = views.project(reference)
        shown = gather_seen(views.maps, places, weights, seen)
        position = self.position_encoder(inverse_sigmoid(reference).to(query.dtype))
        return query + self.dropout(self.output_proj(shown.to(query.dtype))) + position
