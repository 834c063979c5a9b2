"""Time the stages of making synthetic scenes: python tools/benchmark/synthetic.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_synthetic

if __name__ == '__main__':
    launch(parse_synthetic, 'measure.synthetic', 'tools.benchmark')
