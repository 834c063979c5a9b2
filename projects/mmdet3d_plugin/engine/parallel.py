"""Put a model on its device, wrapped so that batches made of DataContainers reach it as plain tensors."""

from typing import Any

from torch import nn

from projects.mmdet3d_plugin.engine.launch import Launch


def wrap_model(model: nn.Module, launch: Launch, find_unused_parameters: bool = False) -> nn.Module:
    """Wrap a model for training.

    Args:
        model: a detector or a distiller.
        launch: the place of this process.
        find_unused_parameters: whether some parameters may stay without gradient in a step.

    Returns:
        a module whose ``train_step`` takes batches as the data loader yields them.
    """
    from mmcv.parallel import MMDataParallel, MMDistributedDataParallel

    model = model.to(launch.device)
    gpus = [launch.device.index] if launch.device.type == 'cuda' else None
    if not launch.distributed:
        return MMDataParallel(model, device_ids=gpus or [-1])
    return MMDistributedDataParallel(model, device_ids=gpus, find_unused_parameters=find_unused_parameters)


def unpack_batch(batch: dict[str, Any], launch: Launch) -> dict[str, Any]:
    """Take a batch out of its DataContainers and put its tensors on this process's device.

    Args:
        batch: as the data loader yields it, images (B, T, num_cams, 3, H, W) for instance.
        launch: the place of this process.
    """
    from mmcv.parallel import scatter

    return scatter(batch, [launch.device.index if launch.device.type == 'cuda' else -1])[0]
