"""Time DETR3D's look-ups in image features: python tools/benchmark/gather_maps.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_gather_maps

if __name__ == '__main__':
    launch(parse_gather_maps, 'gather_maps')
