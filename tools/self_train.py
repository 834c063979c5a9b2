"""Train on sparse labels, mine, and train again: python tools/self_train.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_self_train

if __name__ == '__main__':
    launch(parse_self_train, 'studies.self_training.self_train')
