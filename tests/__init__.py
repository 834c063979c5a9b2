"""Tests mirror ``projects/mmdet3d_plugin``, file by file."""

from projects.mmdet3d_plugin import compat

compat.apply()
