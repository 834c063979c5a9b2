"""Gains as bars with intervals."""

import xml.etree.ElementTree as ElementTree

from projects.mmdet3d_plugin.visualization.gain_chart import GainBar, draw_gains


def test_chart_is_svg_in_the_colour_of_the_page() -> None:
    bars = [GainBar('heatmap', 2.0, 0.5, [1.8, 2.2], goal=2.15), GainBar('one seed', -1.0, None, [-1.0])]
    svg = draw_gains(bars, 'NDS gained')
    assert ElementTree.fromstring(svg).tag.endswith('svg')
    assert 'currentColor' in svg
    for text in ('heatmap', 'one seed', 'NDS gained'):
        assert text in svg
    assert svg == draw_gains(bars, 'NDS gained')
