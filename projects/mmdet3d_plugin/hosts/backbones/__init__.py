"""Image backbones beyond those of mmdet."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
