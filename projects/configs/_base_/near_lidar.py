"""What LiDAR detectors on the world of near objects share: their range, norms and data.

Configs import this module; the values end up in them as if they were written there.
"""

from projects.configs._base_ import nuscenes

RANGE = [-25.6, -25.6, -5.0, 25.6, 25.6, 3.0]
LIMITS = [-32.0, -32.0, -10.0, 32.0, 32.0, 10.0]  # of decoded centres


def norm(kind: str) -> dict:
    """A batch norm for short runs: with the hosts' momentum of 0.01, running means would lag behind the weights.

    Args:
        kind: 'BN' or 'BN1d'.
    """
    return dict(type=kind, eps=1e-3, momentum=0.1)


def pipelines() -> tuple[list[dict], list[dict]]:
    """A keyframe and the one before it: the world has no sweeps between."""
    return nuscenes.sweeps_pipelines(RANGE, sweeps=1)


def data(train_pipeline: list[dict], test_pipeline: list[dict]) -> dict:
    """Batches of four for one process."""
    test = dict(pipeline=test_pipeline, point_cloud_range=RANGE)
    return dict(
        samples_per_gpu=4,
        workers_per_gpu=0,
        train=dict(pipeline=train_pipeline, point_cloud_range=RANGE),
        val=test,
        test=test,
    )
