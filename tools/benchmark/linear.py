"""Time linear layers of BEVFormer's shapes: python tools/benchmark/linear.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_linear

if __name__ == '__main__':
    launch(parse_linear, 'measure.linear', 'tools.benchmark')
