"""Naming what was meant."""

from projects.mmdet3d_plugin.common.suggest import close_names, nearest


def test_the_likest_names_come_first_whatever_their_case() -> None:
    assert nearest('adamw', ['SGD', 'AdamW', 'Adam']) == "did you mean 'AdamW', 'Adam'?"
    assert close_names('resnett', ['ResNet', 'ResNeXt', 'FPN'], count=1) == ['ResNet']


def test_without_anything_alike_the_known_names_are_listed_but_not_hundreds() -> None:
    assert nearest('zzz', ['car', 'bus']) == 'known: bus, car'
    assert nearest('zzz', []) == 'known: none'
    long = nearest('zzz', [f'module_{i}' for i in range(300)])
    assert long.endswith('and 288 more')
    assert len(long) < 200
