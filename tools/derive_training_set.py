"""Write the training set of a bank: python tools/derive_training_set.py --help."""

from projects.mmdet3d_plugin.command_line.launcher import launch
from projects.mmdet3d_plugin.command_line.parsers import parse_derive

if __name__ == '__main__':
    launch(parse_derive, 'engine.self_training.derive')
