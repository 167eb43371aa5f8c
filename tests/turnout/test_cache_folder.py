"""The cache folder follows the environment, for every package that keeps something there."""

from pathlib import Path

import pytest

from runners.engines.onnx.graph_cache import graph_folder
from services.fleet.profiles import default_path
from turnout.cache_folder import cache_folder


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("TURNOUT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    return monkeypatch


def test_the_own_variable_comes_before_the_desktops_and_that_before_home(
    environment: pytest.MonkeyPatch,
) -> None:
    assert cache_folder() == Path("/home/somebody/.cache/turnout")
    environment.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/turnout")
    environment.setenv("TURNOUT_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_graphs_and_profiles_are_below_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TURNOUT_CACHE", "/own")
    assert graph_folder("model") == Path("/own/graphs/model")
    assert default_path() == Path("/own/profiles.json")
