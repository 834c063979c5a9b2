"""Parameters, multiply-accumulates and memory of a config's model: python tools/analysis_tools/get_flops.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_complexity

if __name__ == '__main__':
    launch(parse_complexity, 'studies.cost.complexity')
