"""Datasets, their transforms and converters, and the synthetic world."""

from projects.mmdet3d_plugin import compat
from projects.mmdet3d_plugin.common import safe_pickle
from projects.mmdet3d_plugin.registry import import_submodules

compat.apply()
compat.cache_compiled_loops()
safe_pickle.guard_mmcv()
import_submodules(__name__)
