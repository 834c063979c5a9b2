"""What every adapter inherits."""

import pytest
from torch import nn

from projects.mmdet3d_plugin.distill.hosts.adapter import HostAdapter, adapter_for
from projects.mmdet3d_plugin.distill.registry import DistillError
from tests.distill.toy_host import ToyAdapter, ToyBEVHost


def test_adapter_is_found_by_the_hosts_class_and_by_its_bases() -> None:
    class Special(ToyBEVHost):
        pass

    assert isinstance(adapter_for(ToyBEVHost()), ToyAdapter)
    assert isinstance(adapter_for(Special()), ToyAdapter)


def test_unknown_host_lists_the_known_ones() -> None:
    with pytest.raises(DistillError, match=r'no adapter for the host Linear.*BEVFormer.*ToyBEVHost'):
        adapter_for(nn.Linear(1, 1))


def test_path_and_short_name_find_the_same_place() -> None:
    model = ToyBEVHost()
    by_name, by_path = adapter_for(model).taps(model, 'bev'), adapter_for(model).taps(model, 'encoder')
    assert by_name[0].path == by_path[0].path == 'encoder'
    assert by_path[0].channels == 4
    assert by_name[0].size == (8, 8)
    assert [tap.path for tap in adapter_for(model).taps(model, 'backbone.{0,2}')] == [
        'backbone.0',
        'backbone.2',
    ]


def test_misspelt_place_names_the_nearest_and_the_short_names() -> None:
    model = ToyBEVHost()
    with pytest.raises(
        DistillError,
        match=r"no module 'encodr' among its .* did you mean 'encoder'.*short names: bev, stages",
    ):
        adapter_for(model).taps(model, 'encodr')


def test_adapter_without_inference_says_so() -> None:
    with pytest.raises(
        NotImplementedError, match=r'HostAdapter cannot run a teacher yet: implement infer\(\)'
    ):
        HostAdapter().infer(nn.Identity(), {})
