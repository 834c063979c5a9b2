"""Time KITTI's evaluation on CPU: python tools/benchmark/kitti_eval.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_kitti_eval

if __name__ == '__main__':
    launch(parse_kitti_eval, 'kitti_eval')
