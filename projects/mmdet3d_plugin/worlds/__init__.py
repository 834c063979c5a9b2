"""Synthetic worlds in the layouts of nuScenes, KITTI and COCO, so that everything downstream is the code for real data.

scene.py invents what exists and how it moves; renderer.py and lidar.py look at it through rig.py; writers/ write what they
saw; create.py runs it all.
"""

from projects.mmdet3d_plugin.worlds.create import WorldError, create_world

__all__ = ['WorldError', 'create_world']
