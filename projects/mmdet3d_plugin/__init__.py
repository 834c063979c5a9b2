"""FocalDistiller: knowledge distillation for 3D object detection in bird's-eye view (BEV)."""

from projects.mmdet3d_plugin import compat

compat.hush()
compat.watch_imports()
