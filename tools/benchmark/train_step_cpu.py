"""Time a training step on the CPU as configs have it: python tools/benchmark/train_step_cpu.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_train_step_cpu

if __name__ == '__main__':
    launch(parse_train_step_cpu, 'train_step_cpu')
