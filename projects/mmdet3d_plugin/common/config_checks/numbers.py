"""Numbers of a config that must be whole, positive, or in order."""

import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from projects.mmdet3d_plugin.common.errors import UserError

Rule = tuple[str, Callable[[Any], bool]]
At = Callable[[str], tuple[str, Any]]


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; True and False are none.

    Example:
        >>> is_number(0.5), is_number(float('inf')), is_number(True), is_number(10**400)
        (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and bool(abs(value) <= sys.float_info.max)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number.

    Example:
        >>> is_whole(3), is_whole(3.5)
        (True, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool)


COUNT: Rule = ('a whole number of at least 1', lambda v: is_whole(v) and v >= 1)
COUNT_OR_NONE: Rule = ('a whole number of at least 0', lambda v: is_whole(v) and v >= 0)
COUNT_OR_ALL: Rule = (
    'a whole number of at least 1, or -1 for all',
    lambda v: is_whole(v) and (v >= 1 or v == -1),
)
POSITIVE: Rule = ('a number above 0', lambda v: is_number(v) and v > 0)
NOT_NEGATIVE: Rule = ('a number of at least 0', lambda v: is_number(v) and v >= 0)
SHARE: Rule = ('a number from 0 to 1', lambda v: is_number(v) and 0 <= v <= 1)
DROPPED: Rule = ('a number from 0 to below 1', lambda v: is_number(v) and 0 <= v < 1)
SEED: Rule = ('a whole number from 0 to 2**63 - 1', lambda v: is_whole(v) and 0 <= v < 2**63)
MILESTONES: Rule = (
    'a whole number of at least 1, or a list of such, each above the one before',
    lambda v: (
        bool(counts := list(v) if isinstance(v, (list, tuple)) else [v])
        and all(is_whole(n) and n >= 1 for n in counts)
        and all(a < b for a, b in pairwise(counts))
    ),
)
WEIGHTS: Rule = (
    'a list of numbers of at least 0, and not all 0',
    lambda v: isinstance(v, (list, tuple)) and all(is_number(n) and n >= 0 for n in v) and any(v),
)
RANGE: Rule = (
    'six numbers [x0, y0, z0, x1, y1, z1], each end above its beginning',
    lambda v: isinstance(v, (list, tuple)) and len(v) == 6 and all(map(is_number, v)) and all(a < b for a, b in zip(v[:3], v[3:], strict=True)),
)  # fmt: skip

WHOLE_LISTS = (RANGE, MILESTONES, WEIGHTS)
"""Rules for a whole list, not for each of its numbers."""

BY_PATH: dict[str, Rule] = {
    'runner.max_epochs': COUNT,
    'total_epochs': COUNT,
    'seed': SEED,
    'data.samples_per_gpu': COUNT,
    'data.workers_per_gpu': COUNT_OR_NONE,
    'optimizer.lr': POSITIVE,
    'optimizer.weight_decay': NOT_NEGATIVE,
    'optimizer_config.grad_clip.max_norm': POSITIVE,
    'optimizer_config.cumulative_iters': COUNT,
    'lr_config.warmup_iters': COUNT_OR_NONE,
    'lr_config.warmup_ratio': SHARE,
    'lr_config.min_lr': NOT_NEGATIVE,
    'lr_config.min_lr_ratio': SHARE,
    'lr_config.gamma': POSITIVE,
    'lr_config.step': MILESTONES,
    'momentum_config.step': MILESTONES,
    'checkpoint_config.interval': COUNT,
    'checkpoint_config.max_keep_ckpts': COUNT_OR_ALL,
    'evaluation.interval': COUNT,
    'evaluation.start': COUNT,
    'log_config.interval': COUNT,
}
"""Settings of a run."""
NEEDED = ('runner.max_epochs', 'data.samples_per_gpu', 'data.workers_per_gpu', 'optimizer.lr')

BY_NAME: dict[str, Rule] = {
    **dict.fromkeys(
        (
            'num_classes', 'num_class', 'embed_dims', 'num_query', 'num_layers', 'num_heads', 'num_levels', 'num_cams', 'bev_h',
            'bev_w', 'queue_length', 'feedforward_channels', 'feedforward_dims', 'in_channels', 'out_channels', 'feat_channels',
            'num_outs', 'num_points_in_pillar', 'temporal_points', 'max_num_points', 'max_voxels', 'base_channels', 'stem_channels',
            'output_channels', 'share_conv_channel', 'num_stages', 'layer_nums', 'output_shape', 'sparse_shape', 'grid_size',
            'out_size_factor', 'max_objs', 'num_features', 'load_dim', 'times', 'code_size', 'depth', 'strides', 'dilations',
            'layer_strides', 'mid_channels', 'num_frames', 'final_kernel',
            'reg_max', 'topk', 'pre_max_size', 'post_max_size', 'nms_pre',
        ),
        COUNT,
    ),
    **dict.fromkeys(('max_num', 'max_per_img'), COUNT_OR_ALL),
    **dict.fromkeys(('voxel_size', 'embed_std', 'velocity_scale', 'upsample_strides', 'sizes', 'eps'), POSITIVE),
    **dict.fromkeys(('loss_weight', 'cls_weight', 'reg_weight', 'sweeps_num', 'min_radius', 'gamma', 'depth_weight', 'heatmap_weight', 'box_weight', 'beta'), NOT_NEGATIVE),
    **dict.fromkeys(('score_thr', 'score_threshold', 'pos_iou_thr', 'neg_iou_thr', 'min_pos_iou', 'alpha', 'gaussian_overlap', 'nms_thr', 'iou_threshold', 'flip_ratio_bev_horizontal', 'flip_ratio_bev_vertical'), SHARE),
    **dict.fromkeys(('dropout', 'ffn_drop', 'attn_drop', 'drop_path_rate'), DROPPED),
    **dict.fromkeys(('point_cloud_range', 'post_center_range', 'post_center_limit_range'), RANGE),
    **dict.fromkeys(('code_weights', 'code_weight'), WEIGHTS),
    **dict.fromkeys(('num_reg_fcs', 'stacked_convs'), COUNT_OR_NONE),
    'nms_type': ("'rotate' or 'circle'", lambda v: v in ('rotate', 'circle')),
    'style': ("'pytorch' or 'caffe'", lambda v: v in ('pytorch', 'caffe')),
}  # fmt: skip
"""Arguments of models, datasets and transforms, wherever they stand; a list must hold such numbers only."""


_OF_HOOKS: dict[str, Rule] = {
    'interval': COUNT,
    'warm_up': COUNT,
    'total_iter': COUNT,
    'skip_iters': COUNT_OR_NONE,
}
"""Arguments of the hooks that a config adds."""


def check_numbers(cfg: dict[str, Any]) -> None:
    """Compare the numbers of a config with the rules.

    Raises:
        UserError: names the key, its value and what it must be.
    """
    for path, rule in BY_PATH.items():
        section, _, key = path.rpartition('.')
        if path in NEEDED and key in (value_at(cfg, section) or {}) and value_at(cfg, path) is None:
            raise UserError(f'{path} is None: it must be {rule[0]}')
        if isinstance(value_at(cfg, path), (list, tuple)) and rule not in WHOLE_LISTS:
            raise UserError(f'{path} is {value_at(cfg, path)!r}: it must be {rule[0]}, not a list')
        check_number(path, value_at(cfg, path), rule)
    for section in ('model', 'data'):
        for path, key, value in _leaves(cfg.get(section), section):
            if key in BY_NAME:
                check_number(path, value, BY_NAME[key])
            elif key == 'pc_range' and not (isinstance(value, (list, tuple)) and len(value) == 2):
                check_number(path, value, RANGE)  # decoders of CenterPoint want x0 and y0 only
    for path, key, value in _leaves(cfg.get('custom_hooks'), 'custom_hooks'):
        if key in _OF_HOOKS:
            check_number(path, value, _OF_HOOKS[key])


def value_at(cfg: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none.

    Example:
        >>> value_at({'a': {'b': [3, 4]}}, 'a.b.1')
        4
    """
    for key in path.split('.'):
        if isinstance(cfg, (list, tuple)):
            cfg = cfg[int(key)] if key.isdigit() and int(key) < len(cfg) else None
        else:
            cfg = cfg.get(key) if isinstance(cfg, dict) or hasattr(cfg, 'get') else None
    return cfg


def reader(cfg: Any, prefix: str = '') -> At:
    """A function from a path below a prefix to the whole path and the value there, as checks and their messages need both.

    Example:
        >>> at = reader({'model': {'depth': 18}}, 'model.')
        >>> at('depth')
        ('model.depth', 18)
    """
    return lambda path: (f'{prefix}{path}', value_at(cfg, f'{prefix}{path}'))


def check_number(path: str, value: Any, rule: Rule) -> None:
    """Compare one value, or every one of a list, with a rule; None is left out.

    Raises:
        UserError: names the path, the value and what it must be.
    """
    wanted, holds = rule
    if value is None:
        return
    if rule not in WHOLE_LISTS and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_number(f'{path}[{index}]', item, rule)
    elif not holds(value):
        raise UserError(f'{path} is {value!r}: it must be {wanted}')


def check_between(name: str, value: float | None, least: float, most: float) -> None:
    """Compare one value with two ends that it may have; None is left out.

    Raises:
        UserError: names the value and the ends.
    """
    if value is not None and not least <= value <= most:
        raise UserError(f'{name} is {value}: it must lie between {least:g} and {most:g}')


def check_factors(name: str, value: tuple[float, float]) -> None:
    """Refuse a least and a largest factor that are not in order or not above zero.

    Raises:
        UserError: names them.
    """
    if not 0 < value[0] <= value[1]:
        raise UserError(f'{name} is {value}: it must be two ascending factors above zero')


def _leaves(node: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """(path, key, value) of every entry of every dict below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield f'{place}.{key}', key, value
            yield from _leaves(value, f'{place}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, item in enumerate(node):
            yield from _leaves(item, f'{place}[{index}]')
