"""Train a detector: python tools/train.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_train

if __name__ == '__main__':
    launch(parse_train, 'engine.train')
