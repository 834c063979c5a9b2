"""What the exporter knows about each family of detectors. A new file registers itself."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
