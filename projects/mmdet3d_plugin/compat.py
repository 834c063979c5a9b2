"""The few lines that let mmcv-full 1.7 and mmdet3d 1.0.0rc6 live on torch 2.11; each names its reason."""

import functools


@functools.cache
def apply() -> None:
    """Make mmdet3d importable and mmcv's runner usable. Safe to call any number of times."""
    _add_numpy_aliases()
    _import_mmdet3d()


def _add_numpy_aliases() -> None:
    """mmdet3d 1.0.0rc6 uses ``np.bool``, ``np.int`` and ``np.long``, removed in numpy 1.24."""
    import numpy as np

    for name, kind in (('bool', bool), ('int', int), ('long', int), ('float', float), ('object', object)):
        if name not in np.__dict__:
            setattr(np, name, kind)


def _import_mmdet3d() -> None:
    """mmdet3d asserts mmcv <= 1.7.0 at import, but mmcv-full 1.7.0 cannot be compiled for torch 2."""
    import mmcv

    real = mmcv.__version__
    mmcv.__version__ = '1.7.0'
    try:
        import mmdet3d  # noqa: F401
    finally:
        mmcv.__version__ = real
