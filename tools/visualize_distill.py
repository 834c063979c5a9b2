"""Draw what a recipe teaches: python tools/visualize_distill.py --help."""

from projects.mmdet3d_plugin.studies.visualize_distill import main

if __name__ == '__main__':
    main()
