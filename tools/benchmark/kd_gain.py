"""What distillation gains: python tools/benchmark/kd_gain.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_kd_gain

if __name__ == '__main__':
    launch(parse_kd_gain, 'kd_gain')
