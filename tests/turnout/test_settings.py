from __future__ import annotations

from pathlib import Path

import pytest

from turnout.errors import ConfigError
from turnout.settings import from_environment


def test_an_empty_variable_counts_as_absent() -> None:
    found = from_environment({"TURNOUT_ROUTER": "", "TURNOUT_CANARY_SHARE": ""})
    assert found.router is None
    assert found.canary_share == 0.05
    assert found.log_prompts is False


def test_what_is_set_is_read() -> None:
    found = from_environment(
        {
            "TURNOUT_SHADOW_ROUTER": "a",
            "TURNOUT_CANARY_ROUTER": "b",
            "TURNOUT_CANARY_SHARE": "0.2",
            "TURNOUT_LOG_PROMPTS": "1",
            "TURNOUT_LOG_FEATURES": "1",
            "TURNOUT_FEATURE_ROUTERS": "fraud=var/f, image = var/i,",
        }
    )
    assert found.log_features
    assert found.feature_routers == {"fraud": Path("var/f"), "image": Path("var/i")}
    assert (found.shadow_router, found.canary_router) == (Path("a"), Path("b"))
    assert (found.canary_share, found.log_prompts) == (0.2, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TURNOUT_LOG_PROMPTS", "yes"),
        ("TURNOUT_FEATURE_ROUTERS", "var/f"),
        ("TURNOUT_FEATURE_ROUTERS", "fraud="),
        ("TURNOUT_CANARY_SHARE", "1.5"),
        ("TURNOUT_CANARY_SHARE", "five"),
    ],
)
def test_what_means_nothing_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        from_environment({name: value})
