"""Time KITTI's evaluation on CPU: python tools/benchmark/kitti_eval.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_kitti_eval

if __name__ == '__main__':
    launch(parse_kitti_eval, 'measure.kitti_eval', 'tools.benchmark')
