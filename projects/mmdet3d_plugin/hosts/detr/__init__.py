"""What detectors with object queries share (DETR): branches, matching, losses, decoding; no BEV, no cameras' features."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
