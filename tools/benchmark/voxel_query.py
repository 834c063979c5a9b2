"""Time the voxel query of Voxel R-CNN: python tools/benchmark/voxel_query.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_voxel_query

if __name__ == '__main__':
    launch(parse_voxel_query, 'measure.voxel_query', 'tools.benchmark')
