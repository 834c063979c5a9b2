"""BEVDepth (AAAI 2023): a camera detector that lifts image features by a supervised depth distribution."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
