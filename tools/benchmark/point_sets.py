"""Time the sampling and grouping of IA-SSD: python tools/benchmark/point_sets.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_point_sets

if __name__ == '__main__':
    launch(parse_point_sets, 'point_sets')
