"""Studies of models: what they cost, what distillation gains, what they see; each is a command of tools/."""

from projects.mmdet3d_plugin import compat

compat.apply()
