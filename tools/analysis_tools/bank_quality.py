"""Judge instance banks by hidden labels: python tools/analysis_tools/bank_quality.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_bank_quality

if __name__ == '__main__':
    launch(parse_bank_quality, 'studies.self_training.bank_page')
