"""No experiment carries a dead flag: what a run builds, and its training, reads every field of the instance."""

from __future__ import annotations

import ast
import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Tiny
from lightning.pytorch import Trainer

from experiments.cats_dogs_finetune import CatsDogsScratch
from src.experiment import Experiment
from src.loading import load
from src.runs.records import Record
from src.training import build, evaluate, runner
from src.training.loggers import open_loggers
from src.training.trainer import build_callbacks, build_trainer, quieten

ROOT = Path(__file__).resolve().parents[1]
INTERNAL = (dataclasses.__file__, "<string>")
"""`replace` and `asdict` read every field, and so do the methods that dataclass generates (their file is <string>)."""
CHECKS = ("__post_init__", "to_json")
"""Functions whose reading is no use of a value: a field that is only checked or written down is dead."""


def experiments() -> list[type[Experiment]]:
    """Return every class of experiments/*.py that builds both its parts; the others are shared bases."""
    found: list[type[Experiment]] = []
    for path in sorted((ROOT / "experiments").glob("*.py")):
        if not path.name.startswith(("zz_", "bad_")):  # other tests' own, left behind by a kill
            classes = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
            kinds = [load(f"{path}:{name}") for name in classes]
            found += [
                kind
                for kind in kinds
                if kind.datamodule is not Experiment.datamodule and kind.task is not Experiment.task
            ]
    return found


def recording(kind: type[Experiment]) -> tuple[type[Experiment], set[str]]:
    """Return a subclass of `kind`, and the set to which its instances add each field that is read."""
    read: set[str] = set()
    names = {field.name for field in dataclasses.fields(kind)}

    def look_up(self: Experiment, name: str) -> Any:
        if name in names:
            caller = sys._getframe(1).f_code
            if caller.co_filename not in INTERNAL and caller.co_name not in CHECKS:
                read.add(name)
        return object.__getattribute__(self, name)

    space = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__getattribute__": look_up}
    return type(kind.__name__, (kind,), space), read


def unread(kind: type[Experiment], folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> set[str]:
    """Build all that a run of `kind` builds, with Lightning's loop left out; return the fields that nothing read."""
    recorded, read = recording(kind)
    monkeypatch.setattr(Trainer, "fit", lambda self, *args, **kwargs: None)
    quieten()
    experiment = recorded(**fields).resolve()
    record = Record(folder)
    with open_loggers(experiment, record, None) as loggers:
        trainer = build_trainer(experiment, build_callbacks(experiment, record), logger=loggers)
        datamodule, task = build.build_parts(experiment)
        experiment = build.set_up(experiment, datamodule)
        evaluate.describe(experiment, datamodule, task, trainer)
        runner.fit(experiment, trainer, task, datamodule, folder / "last.ckpt")
    return {field.name for field in dataclasses.fields(kind)} - read


@pytest.mark.parametrize("kind", experiments(), ids=lambda kind: kind.__name__)
def test_every_field_is_read(
    kind: type[Experiment], tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unread(kind, tmp_path, monkeypatch, **tiny(kind)) == set()


class WithDeadFields(CatsDogsScratch):
    """One field that nothing reads and one that is only checked."""

    temperature: float = 1.0
    """Read nowhere."""
    ensemble: int = 1
    """Checked, then forgotten."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert self.ensemble > 0


def test_a_dead_field_is_found(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = tiny(WithDeadFields)
    assert unread(WithDeadFields, tmp_path, monkeypatch, **fields) == {"temperature", "ensemble"}


def test_a_field_that_the_base_alone_would_read_is_found(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An override that forgets a field makes it dead for this class only."""

    class Forgetful(CatsDogsScratch):
        def folder(self, kind: Any) -> Any:
            return kind(self.data_dir, source=self.source, image_size=self.image_size, batch_size=self.batch_size)

    fields = tiny(Forgetful)
    assert unread(Forgetful, tmp_path, monkeypatch, **fields) == {"cache", "num_workers"}


def test_what_dataclass_itself_reads_does_not_count() -> None:
    recorded, read = recording(CatsDogsScratch)
    experiment = recorded(seed=3)
    other = dataclasses.replace(experiment, max_epochs=2)
    assert experiment != other
    assert hash(experiment) != hash(other)
    assert "seed=3" in repr(experiment)
    assert experiment.to_json()["seed"] == dataclasses.asdict(other)["seed"] == 3
    assert read == set()
    assert other.seed == 3
    assert read == {"seed"}


def test_the_recording_class_changes_nothing_else() -> None:
    recorded, _ = recording(CatsDogsScratch)
    assert recorded().to_json() == CatsDogsScratch().to_json()
    assert recorded.dotted_name() == CatsDogsScratch.dotted_name()
