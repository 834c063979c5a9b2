"""Time the sampling and grouping of IA-SSD: python tools/benchmark/point_sets.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_point_sets

if __name__ == '__main__':
    launch(parse_point_sets, 'measure.point_sets', 'tools.benchmark')
