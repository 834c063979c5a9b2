"""Strip a checkpoint to the student: python tools/export_student.py --help."""

from projects.mmdet3d_plugin.engine.export import main

if __name__ == '__main__':
    main()
