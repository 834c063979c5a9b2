"""Train the student of a recipe under its teacher: python tools/distillation.py --help."""

from projects.mmdet3d_plugin.engine.distill import main

if __name__ == '__main__':
    main()
