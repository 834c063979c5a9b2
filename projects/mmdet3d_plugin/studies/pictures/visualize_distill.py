"""Draw what a recipe teaches in samples of a dataset, and count how far the student is from its teacher."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmcv import Config
from mmcv.parallel import collate
from torch.utils.data import Dataset

from projects.mmdet3d_plugin.command_line.parsers import parse_visualize_distill
from projects.mmdet3d_plugin.common.checkpoint import load_weights, read_checkpoint
from projects.mmdet3d_plugin.common.config import innermost_datasets, load_config
from projects.mmdet3d_plugin.common.files import require_writable
from projects.mmdet3d_plugin.common.progress import track
from projects.mmdet3d_plugin.datasets.samplers import SeededIndex
from projects.mmdet3d_plugin.distill.distiller import Distiller
from projects.mmdet3d_plugin.distill.recipe import build_distiller
from projects.mmdet3d_plugin.distill.state_names import DISTILL
from projects.mmdet3d_plugin.distill.views import with_teacher_view
from projects.mmdet3d_plugin.engine import cli
from projects.mmdet3d_plugin.engine.build import build_split, classes_of
from projects.mmdet3d_plugin.engine.launch import Launch, start
from projects.mmdet3d_plugin.engine.parallel import unpack_batch
from projects.mmdet3d_plugin.engine.threads import choose_threads
from projects.mmdet3d_plugin.studies.pictures.inspection import (
    BEV,
    CAMERAS,
    Comparison,
    Inspection,
    inspect_step,
)
from projects.mmdet3d_plugin.studies.pictures.lidar_inspection import Importance, Pivots
from projects.mmdet3d_plugin.studies.pictures.visualize import (
    Scene,
    check_indices,
    choose_samples,
    files_of,
    read_scene,
)
from projects.mmdet3d_plugin.visualization.bev_view import View
from projects.mmdet3d_plugin.visualization.feature_view import (
    draw_bev_comparison,
    draw_bev_maps,
    draw_camera_comparison,
)
from projects.mmdet3d_plugin.visualization.lidar_view import draw_importance, draw_pivots
from projects.mmdet3d_plugin.visualization.overview import draw_overview
from projects.mmdet3d_plugin.visualization.position_view import draw_positions
from projects.mmdet3d_plugin.visualization.proposal_view import draw_proposals
from projects.mmdet3d_plugin.visualization.region_view import draw_camera_regions
from projects.mmdet3d_plugin.visualization.report import Report
from projects.mmdet3d_plugin.visualization.style import save_figure

AUGMENTATIONS = (
    'PhotoMetricDistortionMultiView', 'BEVAugmentation', 'ObjectSample', 'ObjectNoise', 'RandomFlip3D', 'GlobalRotScaleTrans', 'PointShuffle',
)  # fmt: skip
UNTRAINED = (
    'The checkpoint has no distill.* parts (an exported student, or one trained alone): connectors and generators are '
    'untrained, so what goes through them is left out.'
)
COLUMNS = (
    'term', 'feature', 'in region', 'student, inside', 'outside', 'in / out', 'generated, inside', 'outside',
    'in / out', 'everywhere', 'loss',
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """One picture of a sample.

    Attributes:
        name: end of its file name.
        caption: what it shows.
        figure: the picture itself.
    """

    name: str
    caption: str
    figure: Figure


def draw_inspection(inspection: Inspection, scene: Scene, classes: Sequence[str]) -> Iterator[Picture]:
    """All pictures of one sample; parts that the recipe lacks are left out.

    Args:
        inspection: what the step looked at.
        scene: images, points and true boxes of the sample.
        classes: names by label.
    """
    if inspection.queries is not None:
        yield _queries(inspection, scene, classes)
    if inspection.positions is not None and inspection.at(BEV):
        yield _positions(inspection, scene)
    for comparison in inspection.at(CAMERAS):
        if comparison.region is not None:
            yield _camera_region(comparison, inspection, scene, classes)
    for comparison in inspection.at(CAMERAS):
        figure = draw_camera_comparison(comparison, inspection.filled, list(scene.cameras))
        yield Picture(comparison.name, f'{comparison.name}: image features, {_legend(comparison)}', figure)
    for importance in inspection.importance:
        yield _importance(importance, inspection, scene)
    if inspection.stages is not None:
        yield _stages(inspection, scene, classes)
    for pivots in inspection.pivots:
        yield _pivots(pivots, scene)
    for maps in inspection.maps:
        caption = (
            f'{maps.name}: the BEV maps of both on the same metres, before any connector; bright: what stands out among '
            'the cells as far from the car; white: ground truth.'
        )
        yield Picture(f'{maps.name}_maps', caption, draw_bev_maps(maps, scene.truth, scene.forward))
    for comparison in inspection.at(BEV):
        figure = draw_bev_comparison(comparison, comparison.limits, scene.truth, scene.forward)
        yield Picture(comparison.name, f'{comparison.name}: BEV feature, {_legend(comparison)}', figure)


def _queries(inspection: Inspection, scene: Scene, classes: Sequence[str]) -> Picture:
    view = View.of(inspection.pc_range, scene.forward)
    figure = draw_overview(
        scene.cameras, classes, scene.points, inspection.queries, scene.truth, view, scores=True
    )
    caption = f'{len(inspection.queries)} queries of the distillation head, confidence in percent; white: ground truth'
    return Picture('queries', caption, figure)


def _positions(inspection: Inspection, scene: Scene) -> Picture:
    title = "Positions that the queries sample, over what stands out in the teacher's BEV feature"
    feature = inspection.at(BEV)[0].teacher[0]
    figure = draw_positions(
        feature, inspection.positions, inspection.at(BEV)[0].limits, scene.truth, title, forward=scene.forward
    )
    return Picture('positions', f'{title}. Dot area: attention x confidence; colour: decoder layer.', figure)


def _camera_region(
    comparison: Comparison, inspection: Inspection, scene: Scene, classes: Sequence[str]
) -> Picture:
    title = f'{comparison.name}, {comparison.extent}'
    figure = draw_camera_regions(
        scene.cameras, comparison.region, inspection.seen, classes, scene.truth, title
    )
    return Picture(f'{comparison.name}_region', f'{title}. Colour: weight; white: ground truth.', figure)


def _importance(importance: Importance, inspection: Inspection, scene: Scene) -> Picture:
    view = View.of(inspection.pc_range, scene.forward)
    figure = draw_importance(importance, scene.points, scene.truth, view)
    caption = (
        f'{importance.name}: voxels that are compared, coloured by their weight; lines: from a few of them to the '
        "nearest in the teacher's feature space; white: ground truth."
    )
    return Picture(importance.name, caption, figure)


def _stages(inspection: Inspection, scene: Scene, classes: Sequence[str]) -> Picture:
    view = View.of(inspection.pc_range, scene.forward)
    figure = draw_proposals(classes, scene.points, *inspection.stages, scene.truth, view)
    caption = "Boxes of the student's dense head and what its second stage made of them; white: ground truth."
    return Picture('second_stage', caption, figure)


def _pivots(pivots: Pivots, scene: Scene) -> Picture:
    weight = '' if pivots.weight is None else ', and the weight of each position'
    caption = f'{pivots.name}: heatmaps of teacher and student{weight}; white: ground truth.'
    return Picture(pivots.name, caption, draw_pivots(pivots, scene.truth, scene.forward))


def _legend(comparison: Comparison) -> str:
    shown = ', '.join(['teacher', *comparison.student_features])
    return f"{shown} in the teacher's principal colours, and the squared gap, region outlined"


def gap_row(comparison: Comparison) -> list[float]:
    """The figures of a term in the order of ``COLUMNS``, NaN where there is none."""
    nan = float('nan')
    row = [100 * comparison.share]
    for name in ('student', 'generated'):
        if name in comparison.student_features:
            gap = comparison.gap(name)
            row += [gap.inside, gap.outside, gap.inside / gap.outside if gap.outside else nan]
        else:
            row += [nan] * 3
    names = list(comparison.student_features)
    everywhere = comparison.gap(names[-1]).everywhere if names else nan
    return [*row, everywhere, nan if comparison.loss is None else comparison.loss]


def add_gap_table(report: Report, inspections: Sequence[Inspection]) -> None:
    """A table of the gaps of all terms, averaged over samples."""
    rows = []
    for terms in zip(*(inspection.comparisons for inspection in inspections), strict=True):
        figures = np.array([gap_row(term) for term in terms])
        counts = (~np.isnan(figures)).sum(axis=0)
        mean = np.nansum(figures, axis=0) / np.where(counts, counts, np.nan)
        cells = [_cell(value, '{:.1f} %' if i == 0 else '{:.3g}') for i, value in enumerate(mean)]
        rows.append([terms[0].name, terms[0].place, *cells])
    report.table(COLUMNS, rows)


def _cell(value: float, style: str) -> str:
    return '-' if np.isnan(value) else style.format(value)


def load_distiller(cfg: Config, checkpoint: str, launch: Launch) -> tuple[Distiller, bool]:
    """Build the distiller of a recipe with the weights of a checkpoint.

    Returns:
        The distiller, and whether its connectors and generators are trained.
    """
    content = read_checkpoint(checkpoint)
    distiller = build_distiller(cfg)
    load_weights(distiller, content, source=checkpoint)
    trained = any(f'.{name}'.rfind(f'.{DISTILL}') >= 0 for name in content['state_dict'])
    return distiller.to(launch.device), trained or not list(distiller.distill.parameters())


def without_chance(cfg: Config, split: str) -> Config:
    """A config whose training data are the frames of a split, each as it is: neither jittered nor replaced."""
    dataset = next(innermost_datasets(cfg.data.train))
    dataset.update(files_of(next(innermost_datasets(cfg.data[split]))))
    if 'pipeline' not in dataset:  # of somebody's own, which makes its frames itself
        cfg.data.train = dataset
        return cfg
    kept = [step for step in dataset['pipeline'] if step['type'] not in AUGMENTATIONS]
    # mmdet's other transforms want to be told whether an image was flipped
    calm = dict(RandomFlip=dict(flip_ratio=0.0), ImageView=dict(augment=None))
    dataset['pipeline'] = [{**step, **calm.get(step['type'], {})} for step in kept]
    dataset['filter_empty_gt' if dataset['type'] == 'CocoImages' else 'filter_empty'] = False
    cfg.data.train = dataset
    return cfg


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of tools/visualize_distill.py."""
    cli.run(_draw_from, parse_visualize_distill(argv))


def _draw_from(arguments: argparse.Namespace) -> None:
    """Draw as parsed arguments say."""
    require_writable(arguments.out)
    launch = start(arguments.launcher, arguments.device, arguments.local_rank)
    choose_threads(arguments.threads, deterministic=True)
    cfg = without_chance(
        load_config(arguments.config, arguments.cfg_options, arguments.data_root), arguments.split
    )
    distiller, trained = load_distiller(cfg, arguments.checkpoint, launch)
    cfg = with_teacher_view(cfg, distiller.teacher_configs)
    if not trained:
        print(f'notice: {UNTRAINED}')
    dataset = build_split(cfg, 'train', test_mode=False)
    indices = (
        choose_samples(dataset, arguments.samples)
        if arguments.index is None
        else check_indices(dataset, arguments.index)
    )
    out, inspections, pictures = Path(arguments.out), [], {}
    for index in track(indices, len(indices), 'drawing'):
        inspection = inspect_step(distiller, one_sample(dataset, index, launch), trained)
        scene = read_scene(dataset, index)
        pictures[index] = [
            (save_figure(picture.figure, out / f'{index:05d}_{picture.name}.jpg'), picture.caption)
            for picture in draw_inspection(inspection, scene, classes_of(dataset))
        ]
        inspections.append(inspection)
    report = _report(arguments, distiller, trained, inspections, pictures)
    count = sum(map(len, pictures.values()))
    print(f'{count} pictures in {out}, all of them in {report.write(out / "index.html")}')


def one_sample(dataset: Dataset, index: int, launch: Launch) -> dict:
    """A batch of one sample, the same in every call."""
    return unpack_batch(collate([dataset[SeededIndex(index, 0)]], samples_per_gpu=1), launch)


def _report(
    arguments: argparse.Namespace,
    distiller: Distiller,
    trained: bool,
    inspections: Sequence[Inspection],
    pictures: dict[int, list[tuple[Path, str]]],
) -> Report:
    """One page with the gaps and all pictures."""
    files = ', '.join(
        str(teacher.checkpoint or type(teacher).__name__) for teacher in distiller.teachers.values()
    )
    report = Report('Where it matters', f'What {Path(arguments.config).stem} teaches, as the terms see it.')
    report.facts(
        {
            'student': str(arguments.checkpoint),
            'teacher': files,
            'data': f'{arguments.split}, samples {", ".join(map(str, pictures))}',
        }
    )
    if not trained:
        report.paragraph(UNTRAINED)
    report.heading('Squared gap to the teacher')
    report.paragraph(
        'Mean over channels and cells of the squared difference to the teacher, averaged over the samples: inside the '
        "term's region (weighted by it; for positions, where queries sample), and where the region is 0. In front of a "
        "generator the student's feature need not look like the teacher's: only what is generated is compared. The loss "
        'is that of the term, with its weight.'
    )
    add_gap_table(report, inspections)
    for (index, images), inspection in zip(pictures.items(), inspections, strict=True):
        report.heading(f'Sample {index}')
        if len(inspections) > 1:
            add_gap_table(report, [inspection])
        for path, caption in images:
            report.picture(path, caption)
    return report
