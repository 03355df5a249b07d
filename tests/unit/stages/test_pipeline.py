"""The pipeline: order, skipping, failures, locks."""

from __future__ import annotations

import ast
import types
from pathlib import Path

import pytest

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Outcome
from toolkit.core.recipe import Named, Recipe
from toolkit.stages import _record, pipeline

ROOT = _record.PACKAGE_ROOT
# They keep the records themselves; no result depends on them.
BOOKKEEPING = {"stages/_record.py"}


class FakeStages:
    """Stages that count their runs and write one file each."""

    def __init__(self) -> None:
        self.runs: list[str] = []
        self.failing = ""
        self.found = {"limit": 1.0, "seconds": 0.1}

    def module(self, name: str) -> types.SimpleNamespace:
        order = list(_record.STAGES)

        def run(_: Recipe, folder: RunFolder, *, progress: object) -> Outcome:
            self.runs.append(name)
            (folder.path / f"{name}.txt").write_text(name)
            status = "failed" if name == self.failing else "ok"
            reason = "planted" if status == "failed" else ""
            return Outcome(status, reason, {"files": [f"{name}.txt"], **self.found})

        return types.SimpleNamespace(
            run=run,
            AFTER=tuple(order[: order.index(name)]),
            SECTIONS=("model", "train") if name == "train" else (),
            SOURCES=(),
            PACKAGES=(),
            MEASURES=False,
        )


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> FakeStages:
    fake = FakeStages()
    monkeypatch.setattr(_record, "stage_module", fake.module)
    monkeypatch.setattr(pipeline, "stage_module", fake.module)
    return fake


def names(steps: list[pipeline.Step]) -> list[str]:
    return [step.stage for step in steps if not step.current]


def test_runs_all_stages_then_none(stages: FakeStages, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert names(pipeline.run_pipeline(Recipe(), folder)) == list(_record.STAGES)
    assert names(pipeline.run_pipeline(Recipe(), folder)) == []
    assert stages.runs == list(_record.STAGES)


def test_a_changed_output_runs_its_stage_again(stages: FakeStages, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    pipeline.run_pipeline(Recipe(), folder)
    (folder.path / "optimize.txt").write_text("touched")
    assert names(pipeline.run_pipeline(Recipe(), folder)) == ["optimize"]


def test_a_changed_setting_runs_its_stage_again(stages: FakeStages, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    pipeline.run_pipeline(Recipe(), folder)
    changed = Recipe().model_copy(update={"train": Recipe().train.model_copy(update={"epochs": 5})})
    assert names(pipeline.run_pipeline(changed, folder)) == ["train"]


def test_after_a_failure_only_the_report_is_made(stages: FakeStages, tmp_path: Path) -> None:
    stages.failing = "verify"
    steps = pipeline.run_pipeline(Recipe(), RunFolder(tmp_path / "run"))
    assert names(steps) == ["train", "export", "optimize", "build", "verify", "report"]
    assert pipeline.exit_code(steps) == 1
    assert pipeline.exit_code(steps[:4]) == 0


def test_a_failed_stage_is_not_skipped_next_time(stages: FakeStages, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    stages.failing = "export"
    assert pipeline.exit_code(pipeline.run_pipeline(Recipe(), folder)) == 3
    stages.failing = ""
    assert "export" in names(pipeline.run_pipeline(Recipe(), folder))


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [("exprot", "report", "exprot"), ("verify", "export", "comes after")],
)
def test_wrong_stages_are_refused(
    stages: FakeStages, tmp_path: Path, first: str, last: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        pipeline.run_pipeline(Recipe(), RunFolder(tmp_path / "run"), first=first, last=last)
    assert stages.runs == []


def test_a_run_folder_has_one_writer(stages: FakeStages, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), pytest.raises(UsageError, match="another process"):
        pipeline.run_pipeline(Recipe(), folder)


def test_the_source_is_part_of_the_key(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    pipeline.run_pipeline(Recipe(), folder)
    monkeypatch.setattr(_record, "source_hash", lambda part: f"edited {part}")
    assert names(pipeline.run_pipeline(Recipe(), folder)) == list(_record.STAGES)


@pytest.mark.parametrize(
    ("change", "again"),
    [({"limit": 2.0}, list(_record.STAGES)[1:]), ({"seconds": 0.2}, [])],
    ids=["what it found", "how long it took"],
)
def test_what_a_stage_found_is_part_of_later_keys_and_its_time_is_not(
    stages: FakeStages, tmp_path: Path, change: dict[str, float], again: list[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    pipeline.run_pipeline(Recipe(), folder)
    stages.found |= change
    pipeline.run_stage("train", Recipe(), folder)
    assert names(pipeline.run_pipeline(Recipe(), folder)) == again


def test_the_users_own_module_is_part_of_the_key(
    stages: FakeStages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "users_own_model.py"
    module.write_text("def make(): ...\n")
    recipe = Recipe(model=Named(name="users_own_model:make"))
    folder = RunFolder(tmp_path / "run")
    pipeline.run_pipeline(recipe, folder)
    assert names(pipeline.run_pipeline(recipe, folder)) == []
    module.write_text("def make(): return None\n")
    assert names(pipeline.run_pipeline(recipe, folder)) == ["train"]


@pytest.mark.parametrize("name", _record.STAGES)
def test_a_stage_says_what_its_key_is_made_of(name: str) -> None:
    module = _record.stage_module(name)
    assert set(module.AFTER) <= set(_record.STAGES[: _record.STAGES.index(name)])
    assert set(module.SECTIONS) <= set(Recipe.model_fields)
    for source in module.SOURCES:
        assert (ROOT / source).exists(), source


@pytest.mark.parametrize("name", _record.STAGES)
def test_a_stage_names_every_source_that_it_imports(name: str) -> None:
    """Follow the imports from a stage's file: what they reach is among its sources."""
    own = f"stages/{name}.py"
    named = (*_record.stage_module(name).SOURCES, own)
    waiting, seen = [own], set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        waiting += imported(file)
    covered = {file for file in seen if any(file == s or file.startswith(f"{s}/") for s in named)}
    assert sorted(seen - covered - BOOKKEEPING) == []


def imported(file: str) -> list[str]:
    """Return the files of the toolkit that a file imports, in functions too."""
    found = []
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("toolkit."):
            base = (node.module or "").removeprefix("toolkit.").replace(".", "/")
            inner = [f"{base}/{alias.name}.py" for alias in node.names]
            found += [path for path in (f"{base}.py", *inner) if (ROOT / path).is_file()]
    return found
