"""Count multiply-accumulates and live memory while a model runs on shapes alone."""

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmcv.ops import deform_conv, modulated_deform_conv
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from projects.mmdet3d_plugin.common.replaced import replaced
from projects.mmdet3d_plugin.ops import gather_maps, library, lift_splat, ms_deform_attn
from projects.mmdet3d_plugin.ops.gather_maps import FeatureMaps

# Per bilinear sample and channel: four corners, and the weight of the sample.
SAMPLING_MACS = 5


class LiveBytes:
    """Bytes of the storages that are alive, and their peak; views cost nothing.

    Attributes:
        now: bytes alive.
        peak: the most that were ever alive.
    """

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._known: set[int] = set()

    def see(self, tensor: Tensor) -> None:
        """Take note of a tensor of any shape such as (B, C, H, W); its bytes are given back when its storage dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class OpCounter(TorchDispatchMode):
    """Counts what a model computes while sparing it the work.

    Weights, and everything computed with them, are hollow: they have a shape and no meaning, and arithmetic on
    them is skipped. What depends on other things alone is really computed, so that geometry (which camera sees which
    query) comes out right.

    Args:
        model: what is going to run; its parameters and buffers open the memory account.

    Attributes:
        macs: part -> operation -> multiply-accumulates. The part is what :meth:`watch` said.
        memory: bytes of weights and activations.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.macs: dict[str, Counter] = defaultdict(Counter)
        self.memory = LiveBytes()
        self._parts: list[str] = ['other']
        self._hollow: set[int] = set()
        for tensor in [*model.parameters(), *model.buffers()]:
            self.memory.see(tensor)
            self._mark_hollow(tensor)
        self._shapes: dict[Any, Any] = {}

    @property
    def part(self) -> str:
        """The part that runs."""
        return self._parts[-1]

    def count(self, operation: str, macs: int) -> None:
        """Add to the account of the part that runs."""
        self.macs[self.part][operation] += macs

    def watch(self, part: str, module: nn.Module) -> Callable[[], None]:
        """Book what happens during a module's forward under ``part``; the return value ends it."""
        # always_call keeps the stack balanced when the forward raises
        before = module.register_forward_pre_hook(lambda *_: self._parts.append(part))
        after = module.register_forward_hook(lambda *_: self._leave(), always_call=True)
        return lambda: (before.remove(), after.remove())

    def _leave(self) -> None:
        self._parts.pop()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count one operation, and skip it if it works on hollow values."""
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        hollow = any(self._is_hollow(tensor) for tensor in _tensors((args, kwargs)))
        out = self._skip(func, args, kwargs) if hollow else func(*args, **kwargs)
        if formula is not None:
            # torch counts a multiply-accumulate as two operations
            self.count(func._overloadpacket.__name__, formula(*args, **kwargs, out_val=out) // 2)
        for tensor in _tensors(out):
            self.memory.see(tensor)
            if hollow:
                self._mark_hollow(tensor)
        return out

    def _skip(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """What an operation would return, as far as shapes go: the operand that it writes to, a view, or empty memory."""
        aliases = [value.alias_info for value in func._schema.returns]
        if aliases and all(alias is not None for alias in aliases):
            return args[0] if aliases[0].is_write else func(*args, **kwargs)
        if (
            func._overloadpacket is torch.ops.aten.index
        ):  # how many rows a mask picks is in the mask, not in its shape
            return func(*args, **kwargs)
        device = next(_tensors(args)).device
        # Layers repeat each other, and finding a shape takes longer than looking it up.
        key = (func, _described(args), _described(tuple(kwargs.items())))
        if key not in self._shapes:
            meta = tree_map_only(Tensor, lambda t: t.to('meta'), (args, kwargs))
            self._shapes[key] = func(*meta[0], **meta[1])
        # not zeros: memory that nobody writes to costs no time
        return tree_map_only(
            Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device=device), self._shapes[key]
        )

    def _is_hollow(self, tensor: Tensor) -> bool:
        """Whether a tensor, or what it is a view of, has no meaning."""
        return tensor.untyped_storage()._cdata in self._hollow

    def _mark_hollow(self, tensor: Tensor) -> None:
        """Remember that a tensor has no meaning, as long as it lives."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._hollow:
            self._hollow.add(storage._cdata)
            weakref.finalize(storage, self._hollow.discard, storage._cdata)

    def deformable_attention(
        self, value: Tensor, spatial_shapes: Sequence[tuple[int, int]], points: Tensor, *_: Tensor
    ) -> Tensor:
        """Stands in for ``ms_deform_attn`` and ``ms_deform_attn_fused``.

        Args:
            value: (B, S, M, D).
            spatial_shapes: L pairs ``(h, w)``.
            points: (B, Q, M, L, P, 2), locations or offsets.

        Returns:
            (B, Q, M * D).
        """
        return self._attend(value, points, len(points) * points.shape[1])

    def packed_deformable_attention(
        self,
        value: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        sampling_offsets: Tensor,
        attention_logits: Tensor,
        reference_points: Tensor,
        *_: Tensor,
    ) -> Tensor:
        """Stands in for ``ms_deform_attn_packed``: every one of the K pairs samples; shapes as there."""
        return self._attend(value, sampling_offsets, len(reference_points))

    def _attend(self, value: Tensor, points: Tensor, rows: int) -> Tensor:
        """Count ``rows`` queries that sample ``points[0, 0]`` each; returns (B, Q, M * D), as hollow as ``value``."""
        m, d = value.shape[2:]
        self.count('deformable attention', SAMPLING_MACS * d * rows * points.shape[2:-1].numel())
        return value.new_empty(*points.shape[:2], m * d)

    def gather_seen(self, maps: FeatureMaps, locations: Tensor, weights: Tensor, seen: Tensor) -> Tensor:
        """Stands in for ``gather_seen``; which camera shows a query depends on weights, so one is taken for each.

        Args:
            maps: L levels with C channels.
            locations: (B, Q, N, 2).
            weights: (B, Q, N, L).
            seen: (B, Q, N).

        Returns:
            (B, Q, C).
        """
        b, q = seen.shape[:2]
        self.count('look-ups in image features', SAMPLING_MACS * maps.channels * b * q * weights.shape[-1])
        return weights.new_empty(b, q, maps.channels)

    def deformable_convolution(
        self, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, *args: Any
    ) -> Tensor:
        """Stands in for mmcv's ``modulated_deform_conv2d``.

        Args:
            x: (B, C, H, W).
            offset: (B, 2 * G * K, h, w), G groups of K kernel positions.
            mask: (B, G * K, h, w).
            weight: (D, C / groups, kh, kw).
            args: the rest, of no influence on the size.

        Returns:
            (B, D, h, w).
        """
        out = x.new_empty(x.shape[0], weight.shape[0], *offset.shape[-2:])
        per_output = weight[0].numel()
        self.count('deformable convolution', out.numel() * per_output)
        samples = x.shape[0] * x.shape[1] * weight[0, 0].numel() * out[0, 0].numel()
        self.count('deformable convolution, sampling', SAMPLING_MACS * samples)
        return out

    def plain_deformable_convolution(self, x: Tensor, offset: Tensor, weight: Tensor, *args: Any) -> Tensor:
        """Stands in for mmcv's ``deform_conv2d``, which has no mask; shapes as in :meth:`deformable_convolution`."""
        return self.deformable_convolution(x, offset, offset, weight, *args)

    def lift_splat(self, depth: Tensor, context: Tensor, *where: Tensor | tuple[int, int] | bool) -> Tensor:
        """Stands in for ``lift_splat``: every point in range adds its features once.

        Args:
            depth: (B * N, D, h, w).
            context: (B * N, C, h, w).
            where: the rest, see there.

        Returns:
            (B, C, H, W).
        """
        origin, _, _, size, *_ = where
        points = int((lift_splat.lift_cells(*where) >= 0).sum())
        self.count('lift-splat pooling', points * context.shape[1])
        return context.new_empty(len(origin), context.shape[1], *size)

    def _stand_ins(self) -> dict[Callable, Callable]:
        """What is not made of torch's own operations."""
        return {
            ms_deform_attn.ms_deform_attn: self.deformable_attention,
            ms_deform_attn.ms_deform_attn_fused: self.deformable_attention,
            ms_deform_attn.ms_deform_attn_packed: self.packed_deformable_attention,
            gather_maps.gather_seen: self.gather_seen,
            modulated_deform_conv.modulated_deform_conv2d: self.deformable_convolution,
            deform_conv.deform_conv2d: self.plain_deformable_convolution,
            lift_splat.lift_splat: self.lift_splat,
        }

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count everything that runs inside."""
        with ExitStack() as stack:
            for function, stand_in in self._stand_ins().items():
                stack.enter_context(replaced(function, stand_in))
            # the one backend of attention that is made of counted operations on every device
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(library.pure_torch())
            stack.enter_context(torch.no_grad())
            stack.enter_context(self)
            yield


def _tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors, of any shape such as (B, C, H, W), in nested tuples, lists and dicts."""
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _described(tree: Any) -> Any:
    """What shapes of results depend on, to look them up by: of a tensor such as (B, C, H, W) its layout and type."""
    if isinstance(tree, Tensor):
        return tree.shape, tree.stride(), tree.dtype
    return tuple(_described(part) for part in tree) if isinstance(tree, list | tuple) else tree
