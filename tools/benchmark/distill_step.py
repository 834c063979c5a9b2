"""Time a recipe's distillation step against its teacher and its student alone: python tools/benchmark/distill_step.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from tools.benchmark.options import parse_distill_step

if __name__ == '__main__':
    launch(parse_distill_step, 'measure.distill_step', 'tools.benchmark')
