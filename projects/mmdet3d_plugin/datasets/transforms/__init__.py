"""What happens to one frame between the disk and the batch."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
