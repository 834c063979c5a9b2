"""Time a recipe's distillation step against its teacher and its student alone, and every term by itself.

``python tools/benchmark/distill_step.py --recipe RECIPE --json FILE`` runs one frame of six cameras, batch 1, without
earlier frames, on random weights; full-size recipes take minutes and about 12 GB. ``--per-term`` leaves the hosts out:
every term gets noise in the shapes that its taps would record, which takes seconds. Queries that a trained teacher would
be sure of, and boxes that it would detect, are put near true boxes: random weights are sure of nothing, or of thousands of
boxes, whose suppression would take longer than all else. So a few boxes' decoding is not counted.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmcv import Config
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from projects.mmdet3d_plugin.common.config import load_config
from projects.mmdet3d_plugin.common.logs import start_logging
from projects.mmdet3d_plugin.common.models import without_pretrained
from projects.mmdet3d_plugin.distill.distiller import HEAD, Distiller
from projects.mmdet3d_plugin.distill.hosts.adapter import Detections
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.regions.region import join_boxes
from projects.mmdet3d_plugin.distill.step import QueryReading, Step
from projects.mmdet3d_plugin.distill.taps import Recorder
from projects.mmdet3d_plugin.distill.views import named_teachers, seen_by, split_views, view_name
from projects.mmdet3d_plugin.ops.pages import kept_pages
from projects.mmdet3d_plugin.studies.cost.op_counter import OpCounter
from tools.benchmark.mmcv_attention import mmcv_serves, mmcvs_attention
from tools.benchmark.options import parse_distill_step
from tools.benchmark.timing import Case, interleaved, memory, save_report, start_report

GOAL = 1.10
"""The most that a distillation step may cost, in units of teacher forward plus student step."""

TRUE_BOXES = 35
SIZES = torch.tensor([[4.6, 1.9, 1.7], [0.7, 0.7, 1.8], [7.0, 2.5, 2.8], [0.5, 2.5, 1.0]])
"""Length, width and height of a car, a pedestrian, a truck and a barrier, metres."""


@kept_pages()  # as training runs
def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark from the command line and return the report."""
    args = parse_distill_step(argv)
    report = start_report(args) | {'recipe': args.recipe, 'queries': args.queries}
    torch.manual_seed(0)
    start_logging()
    distiller, batch = build(args.recipe, args.queries, args.device)
    report['terms'] = measure_terms(distiller, batch, args.term_rounds, args.device)
    print_terms(report['terms'])
    if not args.per_term:
        report |= measure_step(distiller, batch, args.rounds, args.device)
        print_step(report)
    return save_report(report, args.json)


def build(recipe: str, queries: int, device: str) -> tuple[Distiller, dict[str, Any]]:
    """A recipe's distiller with random weights, in training mode, and a batch of one frame."""
    cfg = load_config(recipe)
    for teacher in named_teachers(cfg.distiller.teacher).values():
        teacher.pop('checkpoint', None)
        teacher.pop('cache_dir', None)  # what was seen once would cost nothing
        teacher['random_weights'] = True
    cfg.model = without_pretrained(cfg.model)
    distiller = build_distiller(cfg)
    distiller.init_weights()
    batch = rig_batch(distiller, cfg, device)
    for teacher in distiller.teachers.values():
        teacher.detect = lambda _: found_near(batch)
    if HEAD in distiller.distill:
        truth, _ = join_boxes(batch['gt_bboxes_3d'], torch.device(device))
        distiller.distill[HEAD].register_forward_hook(
            lambda _, __, out: (make_sure(out[0], truth, queries), *out[1:])
        )
    return distiller.to(device).train(), batch


def true_boxes(count: int) -> Tensor:
    """(count, 9) boxes of traffic around the car: gravity centre, size, yaw, velocity."""
    place = torch.rand(count, 2) * 90 - 45
    size = SIZES[torch.arange(count) % len(SIZES)]
    yaw = torch.rand(count, 1) * 6.28
    return torch.cat([place, size[:, 2:] / 2 - 1.8, size, yaw, torch.zeros(count, 2)], dim=1)


def rig_batch(distiller: Distiller, cfg: Config, device: str) -> dict[str, Any]:
    """One frame of noise in the views of student and teacher, cameras and boxes as on a nuScenes car.

    Returns:
        ``img`` and ``teacher_img`` (1, 1, num_cams, 3, H, W) with their metas, or ``teacher_points``, and the ground truth;
        of several teachers ``teacher_<name>_img``, ...
    """
    from mmdet3d.core.bbox import LiDARInstance3DBoxes

    views = [('', distiller.adapter.blank_batch(cfg))]
    views += [
        (f'{view_name(name)}_', teacher.adapter.blank_batch(teacher.cfg))
        for name, teacher in distiller.teachers.items()
        if teacher.view != 'same'
    ]
    batch: dict[str, Any] = {}
    for prefix, view in views:
        if 'points' in view:  # a LiDAR teacher's, whose metas are the student's
            batch[f'{prefix}points'] = [cloud.to(device) for cloud in view['points']]
            continue
        view['img_metas'][0][0]['pc_range'] = list(cfg.point_cloud_range)
        batch[f'{prefix}img'] = torch.randn(view['img'].shape, device=device)
        batch[f'{prefix}img_metas'] = view['img_metas']
    boxes = LiDARInstance3DBoxes(true_boxes(TRUE_BOXES), box_dim=9, origin=(0.5, 0.5, 0.5))
    labels = torch.randint(len(cfg.class_names), (TRUE_BOXES,), device=device)
    return batch | dict(gt_bboxes_3d=[boxes.to(device)], gt_labels_3d=[labels])


def make_sure(reading: QueryReading, truth: Tensor, count: int) -> QueryReading:
    """A reading in which ``count`` queries of every layer are sure of a box near one of the true ones (M, 7)."""
    count = min(count, reading.boxes.shape[2])
    boxes, scores = reading.boxes.clone(), torch.full_like(reading.scores, 0.01)
    near = truth[torch.arange(count, device=truth.device) % len(truth)]
    boxes[:, :, :count] = near + torch.randn_like(near) * 0.3 * (near.new_tensor([1, 1, 1, 0, 0, 0, 0]))
    scores[..., :count, 0] = torch.linspace(0.9, 0.15, count, device=scores.device)
    return replace(reading, boxes=boxes, scores=scores)


def measure_step(distiller: Distiller, batch: dict[str, Any], rounds: int, device: str) -> dict[str, Any]:
    """Milliseconds and peak megabytes of the teacher, or of all, of the student and of the whole step, and their ratio.

    Memory is measured in a round of its own, which warms up. On CUDA the step with mmcv's attention stands beside.
    """
    cases = {
        'teacher forward': partial(teachers_forward, distiller, batch, torch.device(device)),
        'student step': partial(student_step, distiller, batch),
        'distillation step': partial(distillation_step, distiller, batch),
    }
    megabytes = {name: memory(case, device).peak for name, case in cases.items()}
    ms = interleaved(cases, dict.fromkeys(cases, rounds), device, warm_up=False)
    if device == 'cuda' and mmcv_serves(device):
        with mmcvs_attention():
            step = {'as the original attends': cases['distillation step']}
            ms |= interleaved(step, dict.fromkeys(step, rounds), device)
    alone = ms['teacher forward'] + ms['student step']
    return {'ms': ms, 'peak_mb': megabytes, 'ratio': ms['distillation step'] / alone, 'goal': GOAL}


def teachers_forward(distiller: Distiller, batch: dict[str, Any], device: torch.device) -> None:
    """Every teacher looks at its view of the frame."""
    for name, teacher in distiller.teachers.items():
        teacher.observe(seen_by(batch, name), [], device)


def student_step(distiller: Distiller, batch: dict[str, Any]) -> None:
    """The student's own training step, forward and backward."""
    student = distiller.student
    student.zero_grad(set_to_none=True)
    own = distiller.adapter.prepare(student, split_views(batch, 'same')[0])
    student._parse_losses(distiller.adapter.losses(student, own))[0].backward()


def distillation_step(distiller: Distiller, batch: dict[str, Any]) -> None:
    """The whole step, forward and backward."""
    distiller.zero_grad(set_to_none=True)
    distiller.train_step(batch)['loss'].backward()


def measure_terms(
    distiller: Distiller, batch: dict[str, Any], rounds: int, device: str
) -> dict[str, dict[str, float]]:
    """Milliseconds forward and backward and peak megabytes of every term of a recipe, and of its distillation head."""
    step = noise_step(distiller, batch)
    costs = {}
    for name, case in term_cases(distiller, step):
        cases = {'forward': partial(case, False), 'both': partial(case, True)}
        ms = interleaved(cases, dict.fromkeys(cases, rounds), device)
        costs[name] = {
            'forward_ms': ms['forward'],
            'backward_ms': max(ms['both'] - ms['forward'], 0.0),
            'peak_mb': memory(cases['both'], device).peak,
        }
    return costs


def noise_step(distiller: Distiller, batch: dict[str, Any]) -> Step:
    """A step in which taps and teacher give noise: the hosts run on shapes alone."""
    student, teachers = distiller.student, distiller.teachers
    own = distiller.adapter.prepare(student, split_views(batch, 'same')[0])
    with OpCounter(nn.ModuleList([student, *(teacher.model for teacher in teachers.values())])).counting():
        with Recorder(student, distiller.taps('student')) as recorder:
            distiller.adapter.infer(student, own)
        heard = tree_map_only(Tensor, _noise, recorder.pop())
        steps = {
            name: Step(own, heard, *_teacher_noise(distiller, name, batch), detect=partial(found_near, own))
            for name in teachers
        }
    if HEAD in distiller.distill:
        queries, _ = distiller.distill[HEAD](steps[distiller.head_teacher])
        steps = {name: replace(step, queries=queries) for name, step in steps.items()}
    return steps.get('') or Step(own, heard, {}, by_teacher=steps)


def _teacher_noise(distiller: Distiller, name: str, batch: dict[str, Any]) -> tuple[Any, Any]:
    """What the taps of a teacher would record, and its predictions, as noise."""
    teacher = distiller.teachers[name]
    view = split_views(seen_by(batch, name), teacher.view)[1]
    with Recorder(teacher.model, distiller.taps('teacher', name)) as recorder:
        predictions = teacher.adapter.infer(teacher.model, teacher.adapter.prepare(teacher.model, view))
    return tree_map_only(Tensor, _noise, recorder.pop()), tree_map_only(Tensor, _noise, predictions)


def found_near(batch: dict[str, Any]) -> list[Detections]:
    """What a trained teacher would detect: a box near each true one, since random weights are sure of nothing."""
    found = []
    for truth, labels in zip(batch['gt_bboxes_3d'], batch['gt_labels_3d'], strict=True):
        boxes = truth.clone()
        boxes.tensor[:, :2] += torch.randn_like(boxes.tensor[:, :2]) * 0.3
        found.append(Detections(boxes, torch.linspace(0.9, 0.15, len(labels)).to(boxes.tensor), labels))
    return found


def _noise(tensor: Tensor) -> Tensor:
    return torch.randn(tensor.shape, device=tensor.device)


def term_cases(distiller: Distiller, step: Step) -> Iterator[tuple[str, Case]]:
    """Name and ``(backward) -> None`` of everything that a distillation step adds to its hosts."""
    if HEAD in distiller.distill:
        yield HEAD, partial(run_head, distiller.distill[HEAD], step)
    for name in distiller.terms:
        term = distiller.distill[name]
        yield name, partial(run_term, term, step)
        if term.loss.consumers:
            with torch.no_grad():
                term(step)


def run_head(head: nn.Module, step: Step, backward: bool) -> None:
    """Read the queries; learn from it where the head is trained along."""
    head.zero_grad(set_to_none=True)
    _, losses = head(step)
    if backward and losses:
        sum(losses.values()).backward()


def run_term(term: nn.Module, step: Step, backward: bool) -> None:
    """One term on features that ask for gradients, as the student's do."""
    term.zero_grad(set_to_none=True)
    step = step.seen_by(term.taught_by)
    step = replace(
        step,
        student=tree_map_only(Tensor, _leaf, {term.student.path: step.student[term.student.path]}),
        generated={name: _leaf(feature) for name, feature in step.generated.items()},
        by_teacher={},
    )
    step.by_teacher[term.taught_by] = step  # where the term looks for it
    loss = term(step)
    if backward:
        loss.backward()


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_()


def print_terms(terms: dict[str, dict[str, float]]) -> None:
    """One line for each term."""
    for name, cost in terms.items():
        print(
            f'{name:<24} forward {cost["forward_ms"]:9.1f} ms   backward {cost["backward_ms"]:9.1f} ms   '
            f'peak {cost["peak_mb"]:7.0f} MB'
        )
    total = sum(cost['forward_ms'] + cost['backward_ms'] for cost in terms.values())
    print(f'{"all terms":<24} {total:17.1f} ms', flush=True)


def print_step(report: dict[str, Any]) -> None:
    """Teacher, student, whole step and their ratio."""
    for name, ms in report['ms'].items():
        peak = f'   peak {report["peak_mb"][name]:7.0f} MB' if name in report['peak_mb'] else ''
        print(f'{name:<24} {ms:17.1f} ms{peak}')
    print(f'distillation / (teacher + student) = {report["ratio"]:.3f}, goal <= {report["goal"]:.2f}')
