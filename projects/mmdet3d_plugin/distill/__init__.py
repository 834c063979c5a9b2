"""The distiller: trains a student under a teacher, on any host that has an adapter."""

from projects.mmdet3d_plugin import compat

compat.apply()

from projects.mmdet3d_plugin.distill.distiller import Distiller  # noqa: E402
from projects.mmdet3d_plugin.distill.hosts.module import ModuleAdapter  # noqa: E402
from projects.mmdet3d_plugin.distill.recipe import build_distiller, build_terms  # noqa: E402
from projects.mmdet3d_plugin.distill.teachers.ema_teacher import EMATeacher  # noqa: E402
from projects.mmdet3d_plugin.distill.teachers.frozen_teacher import FrozenTeacher  # noqa: E402
from projects.mmdet3d_plugin.distill.teachers.self_teacher import SelfTeacher  # noqa: E402
from projects.mmdet3d_plugin.registry import import_submodules  # noqa: E402

import_submodules(__name__)

__all__ = [
    'Distiller',
    'EMATeacher',
    'FrozenTeacher',
    'ModuleAdapter',
    'SelfTeacher',
    'build_distiller',
    'build_terms',
]
