"""The store by its public functions, with a real BentoML store and recipes of the test's own."""

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.recipes import Origin, Source
from runners.recipes.origin import Options, Recipe, Report
from services.artifacts import build, store
from services.artifacts.catalog_build import build_missing
from turnout.catalog import Artifact, load
from turnout.errors import ArtifactInvalid
from turnout.settings import PROJECT

_ROOT = PROJECT
_SMALL = Artifact(tag="toy", recipe="fraud", options={"size": "small"})
_LARGE = Artifact(tag="toy", recipe="fraud", options={"size": "large"})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return tmp_path / "bentoml"


class Toy:
    """A recipe that writes its options and counts how often it ran."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.runs = 0
        self._fail = fail

    def __call__(self, options: Options, out: Path, report: Report) -> Origin:
        self.runs += 1
        report("working")
        (out / "model.onnx").write_text(f"weights {dict(options)}")
        (out / "more").mkdir()
        (out / "more" / "labels.json").write_text("[]")
        if self._fail is not None:
            raise self._fail
        source = Source("pypi:toy==1.0#toy/model.onnx", "ab" * 32, "MIT")
        return Origin((source,), {"top1": 0.5}, ("numpy", "no-such-package"))


def _give(recipe: Recipe) -> Callable[[str], Recipe]:
    return lambda name: recipe


def _quiet(line: str) -> None:
    pass


def _built(artifact: Artifact = _SMALL) -> Path:
    return build.ensure_built(artifact, _quiet, _give(Toy()))


def test_a_built_artefact_is_found_checked_and_described() -> None:
    path = _built()
    assert store.resolve(_SMALL) == path
    manifest = store.verify(path)
    assert manifest["tag"] == "toy"
    assert manifest["options"] == {"size": "small"}
    assert manifest["origin"][0] == {
        "url": "pypi:toy==1.0#toy/model.onnx",
        "sha256": "ab" * 32,
        "license": "MIT",
    }
    assert set(manifest["files"]) == {"model.onnx", "more/labels.json"}
    assert manifest["measured"] == {"top1": 0.5}
    assert manifest["built_with"]["no-such-package"] == "not installed"


def test_bentoml_sees_it_with_its_metadata(home: Path) -> None:
    code = (
        "import bentoml; m = bentoml.models.get('toy:latest');"
        "print(m.path); print(m.info.metadata['recipe']); print(m.info.labels['license'])"
    )
    path = _built()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(path), "fraud", "MIT"]


def test_the_same_inputs_are_built_once() -> None:
    toy = Toy()
    first = build.ensure_built(_SMALL, _quiet, _give(toy))
    assert build.ensure_built(_SMALL, _quiet, _give(toy)) == first
    assert toy.runs == 1


def test_other_options_are_another_version_and_the_catalog_chooses() -> None:
    small, large = _built(_SMALL), _built(_LARGE)
    assert small != large
    assert store.resolve(_SMALL) == small
    assert store.resolve(_LARGE) == large


def test_what_was_never_built_says_how_to_build_it() -> None:
    with pytest.raises(ArtifactInvalid, match=r"not built yet.*turnout models build"):
        store.resolve(_SMALL)
    _built(_LARGE)
    with pytest.raises(ArtifactInvalid, match="with other options"):
        store.resolve(_SMALL)


def test_a_failed_build_leaves_nothing_and_can_be_repeated(home: Path) -> None:
    with pytest.raises(ArtifactInvalid, match="RuntimeError: no luck"):
        build.ensure_built(_SMALL, _quiet, _give(Toy(RuntimeError("no luck"))))
    assert list((home / "turnout").rglob("model.onnx")) == []
    assert store.stored() == []
    assert build.ensure_built(_SMALL, _quiet, _give(Toy())).is_dir()


def test_a_full_disk_is_called_so() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ArtifactInvalid, match=r"disk is full.*BENTOML_HOME"):
        build.ensure_built(_SMALL, _quiet, _give(Toy(full)))


def test_a_recipe_that_writes_a_pickle_is_refused() -> None:
    def write_pickle(options: Options, out: Path, report: Report) -> Origin:
        (out / "model.pkl").write_bytes(b"code")
        return Origin(())

    with pytest.raises(ArtifactInvalid, match=r"wrote a pickle: model\.pkl"):
        build.ensure_built(_SMALL, _quiet, _give(write_pickle))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: (path / "model.onnx").write_text("other"), "model.onnx has changed"),
        (lambda path: (path / "model.onnx").unlink(), "model.onnx is missing"),
        (lambda path: (path / "extra.so").write_text("x"), "extra.so does not belong"),
        (lambda path: (path / "artifact.json").write_text("{"), "cannot be read"),
        (lambda path: (path / "artifact.json").write_text("{}"), "lists no files"),
    ],
    ids=["changed", "missing", "unknown", "broken manifest", "empty manifest"],
)
def test_damage_is_found(damage: Callable[[Path], object], what: str) -> None:
    path = _built()
    damage(path)
    with pytest.raises(ArtifactInvalid, match=what):
        store.verify(path)


_SCRIPT = """
import sys
from pathlib import Path
from runners.recipes import Origin
from services.artifacts import build
from turnout.catalog import Artifact

def recipe(options, out, report):
    (out / "model.onnx").write_text("half")
    with Path(sys.argv[1]).open("a") as file:
        file.write("ran\\n")
    print("started", flush=True)
    sys.stdin.readline()
    return Origin(())

artifact = Artifact(tag="toy", recipe="fraud", options={"size": "small"})
report = lambda line: print(line, flush=True)
print("at", build.ensure_built(artifact, report, lambda name: recipe))
"""


def _process(log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(log)],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_killed_build_leaves_nothing_that_looks_complete(tmp_path: Path, home: Path) -> None:
    with _process(tmp_path / "log") as killed:
        assert _line(killed) == "started"
        killed.kill()
    assert list((home / "turnout").rglob("model.onnx")) != []  # it was in the middle
    assert store.stored() == []
    path = _built()
    assert "small" in (path / "model.onnx").read_text()
    assert list((home / "turnout").rglob("model.onnx")) == []  # and was tidied up


def test_two_processes_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with _process(log) as first, _process(log) as second:
        assert {_line(first), _line(second)} == {
            "started",
            "toy: another process is building it; waiting",
        }
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        first_out, second_out = first.communicate()[0], second.communicate()[0]
    assert log.read_text() == "ran\n"
    ends = {first_out.splitlines()[-1], second_out.splitlines()[-1]}
    assert ends == {f"at {store.resolve(_SMALL)}"}


def test_what_is_added_by_hand_is_kept_until_it_is_deleted(tmp_path: Path) -> None:
    recipe_built = _built()
    folder = tmp_path / "retrained"
    folder.mkdir()
    (folder / "model.onnx").write_text("better")
    added = build.add("toy", "fraud", {"size": "small"}, folder, Origin(()))
    toy = Toy()
    assert build.ensure_built(_SMALL, _quiet, _give(toy)) == added == store.resolve(_SMALL)
    assert store.verify(added)["added"] is True
    shutil.rmtree(added)
    assert build.ensure_built(_SMALL, _quiet, _give(toy)) == recipe_built
    assert store.resolve(_SMALL) == recipe_built
    assert toy.runs == 0


_CATALOG = """
version: 1
classes: {interactive: {deadline_ms: 500, priority: 1}}
models:
  one: {task: tabular, runner: {engine: onnx}, artifact: {tag: one, recipe: fraud}}
  two: {task: tabular, runner: {engine: onnx}, artifact: {tag: two, recipe: fraud}}
routes: {fraud: {task: tabular, candidates: [one, two], latency_class: interactive}}
"""


def test_one_failure_does_not_keep_the_others_from_being_built(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(_CATALOG)
    catalog = load(tmp_path / "catalog.yaml")
    toys = [Toy(RuntimeError("no luck")), Toy()]
    lines: list[str] = []
    with pytest.raises(ArtifactInvalid, match=r"one: .*no luck"):
        build_missing(catalog, lines.append, recipe_of=lambda name: toys.pop(0))
    assert store.resolve(Artifact(tag="two", recipe="fraud")).is_dir()
    assert "[2/2] two: working" in lines


def test_only_some_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(_CATALOG)
    catalog = load(tmp_path / "catalog.yaml")
    assert set(build_missing(catalog, _quiet, ["two"], _give(Toy()))) == {"two"}
    with pytest.raises(ArtifactInvalid, match="no model or tag named three"):
        build_missing(catalog, _quiet, ["three"], _give(Toy()))


def test_inside_a_built_bento_its_own_models_come_first(tmp_path: Path) -> None:
    path = _built()
    bento = tmp_path / "bento"
    (bento / "src").mkdir(parents=True)
    (bento / "bento.yaml").write_text("service: x\n")
    for package in ("services", "turnout"):
        shutil.copytree(_ROOT / package, bento / "src" / package)
    inside = shutil.copytree(path, bento / "models" / "toy" / path.name)
    code = (
        "import sys; from services.artifacts.store import resolve;"
        "from turnout.catalog import Artifact;"
        "print(resolve(Artifact(tag='toy', recipe='fraud', options={'size': 'small'})));"
        "print('bentoml' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=bento / "src",
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(bento / "src"), "BENTOML_HOME": str(tmp_path / "elsewhere")},
    )
    assert done.stdout.split() == [str(inside), "False"]


def test_the_command_lists_and_verifies(home: Path) -> None:
    from typer.testing import CliRunner

    from services.cli.models import app

    path = _built()
    row = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)[0]
    assert row["tag"] == f"toy:{path.name}"
    assert row["origin"] == ["pypi:toy==1.0"]
    assert row["license"] == ["MIT"]
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0
    (path / "model.onnx").write_text("other")
    done = CliRunner().invoke(app, ["verify", "--json"])
    assert done.exit_code == 1
    assert "has changed since the build" in json.loads(done.stdout)[f"toy:{path.name}"]


_RECORDED = {
    "all-minilm-l6-v2": "0c1880c8a31ab551",
    "all-minilm-l6-v2-int8": "0058a2039c25efc6",
    "efficientnet-lite0": "77033707e380f915",
    "efficientnet-lite1": "3ad0ee9a69beb79a",
    "efficientnet-lite2": "6c76bea157561b36",
    "fraud-large": "7b30c3bfcd20bba4",
    "fraud-small": "0d1b123ca1da5092",
    "shop-cards": "7558329e25e18a95",
    "shop-embedder": "2f779c2ba6336c9f",
    "shop-index": "ff8e77708e2c5f32",
    "shop-query-category-small": "8667c9bf6b3b9a9a",
    "shop-rank-books-large": "a344dfc33723acb7",
}
"""The versions of models that stores hold already, as commit 8e08678 named them (Python 3.11)."""


@pytest.mark.parametrize("catalog", ["default", "ecommerce"])
def test_a_store_built_by_an_earlier_release_is_found(catalog: str, home: Path) -> None:
    models = load(PROJECT / "catalog" / f"{catalog}.yaml").models.values()
    artifacts = {one.artifact.tag: one.artifact for one in models if one.artifact is not None}
    held = {tag: artifacts[tag] for tag in _RECORDED if tag in artifacts}
    assert len(held) >= 5
    for tag, artifact in held.items():
        made = build.ensure_built(artifact, _quiet, _give(Toy()))
        made.rename(made.with_name(_RECORDED[tag]))
        again = Toy()
        found = build.ensure_built(artifact, _quiet, _give(again))
        assert (found.name, again.runs) == (_RECORDED[tag], 0)
