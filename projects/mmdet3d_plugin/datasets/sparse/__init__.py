"""One label per frame: which objects keep theirs, the bank of mined ones, and the training set that follows from both."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
