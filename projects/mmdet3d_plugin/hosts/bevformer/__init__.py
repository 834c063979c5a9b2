"""BEVFormer (ECCV 2022): a temporal camera detector on a bird's-eye-view grid of queries."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
