"""Time DETR3D's look-ups in image features: python tools/benchmark/gather_maps.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_gather_maps

if __name__ == '__main__':
    launch(parse_gather_maps, 'measure.gather_maps', 'tools.benchmark')
