"""``bentoml serve`` of what cannot be served: the reasons, before any worker starts."""

from pathlib import Path

import pytest

from services.process import preflight as refusing
from services.process.preflight import catalog_to_serve
from turnout.errors import ArtifactInvalid, CatalogInvalid
from turnout.settings import PROJECT

DEFAULT = PROJECT / "catalog" / "default.yaml"
ONE_MODEL = """
version: 1
classes:
  interactive: {deadline_ms: 3000, percentile: 0.95, priority: 1, infeasible: fastest}
models:
  only:
    task: chat
    runner: {engine: openai, url: "http://127.0.0.1:1", model: any}
    placement: remote
    cost: {usd_per_1m_input_tokens: 0.15, usd_per_1m_output_tokens: 0.60}
    quality: {prior: 0.8}
    profile: {base_ms: 500, per_row_ms: 0.1, per_token_ms: 15}
routes:
  chat: {task: chat, candidates: [only], latency_class: interactive}
"""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that stands for the router."""
    monkeypatch.setenv("TURNOUT_CATALOG", str(DEFAULT))
    monkeypatch.setenv("TURNOUT_ROUTER", str(tmp_path))
    return tmp_path


@pytest.fixture
def in_bentoml_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusing, "starts_workers", lambda: True)


@pytest.mark.usefixtures("in_bentoml_serve")
def test_a_router_that_cannot_be_read_ends_it(nowhere: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        catalog_to_serve()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"turnout: router {nowhere}: there is no router.json")
    assert said.count("\n") == 1


@pytest.mark.usefixtures("in_bentoml_serve")
def test_a_catalog_that_cannot_be_read_ends_it(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TURNOUT_CATALOG", str(nowhere / "none.yaml"))
    with pytest.raises(SystemExit):
        catalog_to_serve()
    assert "none.yaml: cannot be read" in capsys.readouterr().err


@pytest.mark.usefixtures("in_bentoml_serve", "nowhere")
def test_what_serves_one_model_reads_no_router():
    assert "chat" in catalog_to_serve(decides=False).routes


@pytest.mark.usefixtures("in_bentoml_serve")
def test_a_catalog_with_nothing_to_choose_reads_no_router(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
):
    (nowhere / "one.yaml").write_text(ONE_MODEL)
    monkeypatch.setenv("TURNOUT_CATALOG", str(nowhere / "one.yaml"))
    assert list(catalog_to_serve().models) == ["only"]


@pytest.mark.usefixtures("nowhere")
def test_a_worker_leaves_the_router_to_its_own_start():
    assert catalog_to_serve().routes


def test_elsewhere_it_is_an_error_like_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TURNOUT_CATALOG", str(tmp_path / "none.yaml"))
    with pytest.raises(CatalogInvalid):
        catalog_to_serve()
    monkeypatch.setenv("TURNOUT_CATALOG", str(DEFAULT))
    monkeypatch.setenv("TURNOUT_ROUTER", str(tmp_path))
    settings = refusing.from_environment()
    with pytest.raises(ArtifactInvalid):
        refusing.check_routers(refusing.load(DEFAULT), settings)
