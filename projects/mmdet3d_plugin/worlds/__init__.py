"""A synthetic world in the nuScenes layout, so that everything downstream is the code that runs on real data.

scene.py invents what exists and how it moves; renderer.py and lidar.py look at it through rig.py;
nuscenes_writer.py writes what they saw; create.py runs it all.
"""

from projects.mmdet3d_plugin.worlds.create import WorldError, create_world

__all__ = ['WorldError', 'create_world']
