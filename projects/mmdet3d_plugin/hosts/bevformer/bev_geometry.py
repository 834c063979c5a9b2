"""Where each BEV cell lies, in numbers that a query can use at once."""

import torch
from torch import Tensor, nn

from projects.mmdet3d_plugin.hosts.bevformer.reference_points import plane_points

NUM_FACTS = 7


class BEVGeometry(nn.Module):
    """An embedding of the direction and the distance of every BEV cell.

    Cameras see an object's heading relative to the ray to it, a head regresses it in the LiDAR frame: a query has to
    know in which direction it looks to turn one into the other.

    Args:
        embed_dims: C.
        bev_shape: (H, W).
        pc_range: [x0, y0, z0, x1, y1, z1], metres, LiDAR frame.
    """

    def __init__(self, embed_dims: int, bev_shape: tuple[int, int], pc_range: list[float]) -> None:
        super().__init__()
        self.register_buffer('facts', cell_facts(bev_shape, pc_range), persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(NUM_FACTS, embed_dims), nn.ReLU(inplace=True), nn.Linear(embed_dims, embed_dims)
        )

    def forward(self) -> Tensor:
        """(H * W, C)."""
        return self.embed(self.facts)


def cell_facts(bev_shape: tuple[int, int], pc_range: list[float]) -> Tensor:
    """Place, distance and direction of every cell centre as seen from the LiDAR, all within [-1, 1].

    Returns:
        (H * W, 7): x, y and distance in units of the range; cosine and sine of the direction and of twice as much.
    """
    low, high = torch.tensor(pc_range[:2]), torch.tensor(pc_range[3:5])
    place = plane_points(*bev_shape, torch.device('cpu')) * (high - low) + low
    unit = place / torch.stack([low, high]).norm(dim=1).max()
    angle = torch.atan2(place[:, 1], place[:, 0])
    around = [angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()]
    return torch.stack([unit[:, 0], unit[:, 1], unit.norm(dim=1), *around], dim=1)
