"""What mmdet3d's LiDAR detectors need beside themselves. PointPillars, SECOND, PointRCNN and CenterPoint are its own."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
