"""Detectors, student or teacher; they know nothing of distillation."""

from projects.mmdet3d_plugin import compat
from projects.mmdet3d_plugin.registry import import_submodules

compat.apply()
compat.take_plain_strides()
compat.keep_loops_out_of_graphs()
import_submodules(__name__)
