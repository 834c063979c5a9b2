"""Detection metrics: nuScenes NDS and mAP, KITTI's and Waymo's AP."""

from projects.mmdet3d_plugin import compat
from projects.mmdet3d_plugin.registry import import_submodules

compat.apply()
import_submodules(__name__)
