"""Mine an instance bank: python tools/mine.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_mine

if __name__ == '__main__':
    launch(parse_mine, 'engine.self_training.mine')
