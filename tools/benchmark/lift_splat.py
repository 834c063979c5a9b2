"""Time lift-splat pooling and its geometry against the original's way: python tools/benchmark/lift_splat.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_lift_splat

if __name__ == '__main__':
    launch(parse_lift_splat, 'measure.lift_splat', 'tools.benchmark')
