"""Time the voxel query of Voxel R-CNN: python tools/benchmark/voxel_query.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_voxel_query

if __name__ == '__main__':
    launch(parse_voxel_query, 'voxel_query')
