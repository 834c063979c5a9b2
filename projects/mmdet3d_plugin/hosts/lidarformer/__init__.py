"""LidarFormer, after DistillBEV (ICCV 2023): BEVFormer's decoder on the BEV feature of a LiDAR detector."""

from projects.mmdet3d_plugin.registry import import_submodules

import_submodules(__name__)
