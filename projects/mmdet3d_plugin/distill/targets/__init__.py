"""How a teacher's detections change what a student learns from, one file each; a new file registers itself."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
