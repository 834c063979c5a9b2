"""Time a recipe's distillation step against its teacher and its student alone: python tools/benchmark/distill_step.py --help."""

from tools.benchmark.launcher import launch
from tools.benchmark.options import parse_distill_step

if __name__ == '__main__':
    launch(parse_distill_step, 'distill_step')
