"""Mixed precision by device type."""

import contextlib
from typing import Any

import torch

from projects.mmdet3d_plugin.common.logs import get_logger

DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class Precision:
    """How the forward pass computes, and how gradients are kept from vanishing.

    bf16 needs no scaling; fp16 does, on CPU as well as on GPU.

    Args:
        name: 'bf16', 'fp16' or None for plain fp32.
        device_type: 'cpu' or 'cuda'.
    """

    def __init__(self, name: str | None = None, device_type: str = 'cpu') -> None:
        if name is not None and name not in DTYPES:
            raise ValueError(f'mixed precision "{name}" is unknown: choose from {", ".join(DTYPES)}')
        if name == 'fp16' and device_type == 'cpu':
            get_logger().warning(
                'fp16 is emulated on a CPU and many times slower than fp32 there; bf16 is not'
            )
        self.name = name
        self.device_type = device_type
        self.scaler = torch.amp.GradScaler(device_type) if name == 'fp16' else None

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Context for forward passes; a no-op in fp32."""
        if self.name is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=DTYPES[self.name])

    def state_dict(self) -> dict[str, Any] | None:
        """State of the gradient scaler, None when there is none."""
        return None if self.scaler is None else self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Restore the gradient scaler; a state of another precision is left alone."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)
