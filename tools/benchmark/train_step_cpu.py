"""Time a training step on the CPU as configs have it: python tools/benchmark/train_step_cpu.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_train_step_cpu

if __name__ == '__main__':
    launch(parse_train_step_cpu, 'measure.train_step_cpu', 'tools.benchmark')
