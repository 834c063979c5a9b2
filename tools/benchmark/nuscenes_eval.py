"""Time nuScenes' evaluation on CPU: python tools/benchmark/nuscenes_eval.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_nuscenes_eval

if __name__ == '__main__':
    launch(parse_nuscenes_eval, 'nuscenes_eval')
