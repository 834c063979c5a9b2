"""IA-SSD (Zhang et al., CVPR 2022): a detector on points that keeps those of objects."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
