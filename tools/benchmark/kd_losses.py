"""Time the dense distillation losses: python tools/benchmark/kd_losses.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_kd_losses

if __name__ == '__main__':
    launch(parse_kd_losses, 'kd_losses')
