"""A second stage for LiDAR detectors: boxes of the first are looked at again, scored by their IoU, and refined."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
