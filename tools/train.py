"""Train a detector: python tools/train.py --help."""

from projects.mmdet3d_plugin.engine.train import main

if __name__ == '__main__':
    main()
