"""The distiller: trains a student under a teacher, on any host that has an adapter."""

from projects.mmdet3d_plugin import compat
from projects.mmdet3d_plugin.registry import import_submodules

compat.apply()
import_submodules(__name__)
