"""DETR3D (CoRL 2021): object queries that look straight at the images of all cameras, without a BEV map."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
