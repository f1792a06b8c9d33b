"""An export alone: predicted with where there is no torch, and refused where it is not what was certified."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT, own_home

import leyden
from experiments.tables import TableClassification
from scripts.predict import main
from src.cli.parser import PredictFlags
from src.configs.errors import InputError
from src.datamodules.preparation import read_json
from src.deploy.export import export
from src.deploy.server import process
from src.deploy.worked import require_worked
from src.experiment import Perceptron
from src.inference import exported
from src.inference.batch import predict
from src.resources.files import write_json
from src.runs import records
from src.runs.compare.runs import find
from src.runs.exports import is_stale, weights_of
from src.training import runner

ABSENT = ("torch", "lightning", "torchvision", "torchmetrics", "timm", "transformers", "sklearn", "scipy", "matplotlib")


@pytest.fixture(scope="module")
def run(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two classes, and its export."""
    experiment = TableClassification(
        data_dir=houses, target="size", max_epochs=2, precision="32-true", mlp=Perceptron(width=16, depth=1, bins=4)
    )
    with own_home(tmp_path_factory.mktemp("exported")):
        done = runner.run(experiment)
        export(done)
    return done


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be damaged."""
    return shutil.copytree(run / "export" / "onnx", tmp_path / "onnx")


def requirements(folder: Path) -> list[str]:
    lines = (folder / "requirements.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def closure(names: list[str]) -> set[str]:
    """Return distributions and, without extras, all that they need."""
    found: set[str] = set()
    while names:
        name = re.split(r"[\s;<>=!~\[(]", names.pop())[0]
        if (key := name.lower().replace("_", "-")) in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another system or version of Python
            continue
        found.add(key)
        names += [need for need in needs if "extra ==" not in need]
    return found


@pytest.fixture(scope="module")
def bare_python(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with what an export's requirements.txt names, and nothing else."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    for name in closure(requirements(run / "export" / "onnx")):
        for file in importlib.metadata.files(name) or []:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(top))))
    return home / "bin" / "python"


def test_predict_py_and_leyden_need_no_torch(run: Path, houses: Path, bare_python: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    absent = f"import importlib.util as i; print([n for n in {ABSENT} if i.find_spec(n)])"
    there = subprocess.run([bare_python, "-c", absent], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == "[]"
    folder = run / "export" / "onnx"
    script = [bare_python, ROOT / "scripts" / "predict.py", folder, houses]
    done = subprocess.run(script, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == predict(folder, [houses]).text
    assert "accuracy " in done.stderr
    code = f"import leyden; print(leyden.load({str(folder)!r}).predict({str(houses)!r}).to_csv(index=False), end='')"
    from_python = subprocess.run([bare_python, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert from_python.returncode == 0, from_python.stderr
    columns = [list(csv.DictReader(io.StringIO(text))) for text in (from_python.stdout, done.stdout)]
    assert [row["label"] for row in columns[0]] == [row["label"] for row in columns[1]]


def test_what_an_export_is_in_python(run: Path, houses: Path) -> None:
    found = leyden.load(run / "export" / "onnx")
    assert isinstance(found, leyden.Export)
    assert found.metrics == leyden.load(run).metrics
    assert found.state == "done"
    assert found.certificate["parity"]["largest"] <= 1e-5
    for calibrate in (True, False):
        for threshold in (True, False):
            both = (found, leyden.load(run))
            own, other = (one.predict(houses, calibrate=calibrate, threshold=threshold) for one in both)
            assert own["label"].tolist() == other["label"].tolist()
            assert own["prob_large"].tolist() == pytest.approx(other["prob_large"].tolist(), abs=1e-5)
    for wrong, why in (
        (lambda: found.model(), "no weights of torch"),
        (lambda: found.prepare(houses), "no weights of torch"),
        (lambda: found.history, "no history"),
        (lambda: found.predict(houses, accelerator="gpu"), "on the CPU"),
    ):
        with pytest.raises(InputError, match=why):
            wrong()


def test_the_certificate_names_what_was_exported(run: Path) -> None:
    folder = run / "export" / "onnx"
    found = exported.load(folder).certificate
    assert found["run"]["record_sha256"] == exported.digest_of(run / "run.json")
    assert found["run"]["weights_sha256"] == [exported.digest_of(run / "checkpoints" / "best.ckpt")]
    assert found["run"]["data"]["fingerprint"] == records.load(run)["data"]["fingerprint"]
    assert found["files"] == {
        str(path.relative_to(folder)): exported.digest_of(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "certificate.json"
    }
    assert found["parity"]["examples"] == found["parity"]["labels_equal"] == records.load(run)["data"]["sizes"]["val"]
    assert found["parity"]["sizes"] == [1, 2, 5, min(32, found["parity"]["examples"])]
    assert found["speed"]["ratio"] > 0
    assert found["not_covered"]
    examples = json.loads((folder / "examples" / "examples.json").read_text())["examples"]
    assert len(examples) == found["worked_examples"] == 8
    again = exported.load(folder).predict([one["input"] for one in examples])
    assert [float(value) for value in again.columns["prob_small"]] == pytest.approx(
        [one["outputs"]["prob"][1] for one in examples], abs=1e-5
    )


def test_compare_names_the_exports(run: Path) -> None:
    (found,), _ = find([run])
    assert [one.format for one in found.exports] == ["onnx"]
    assert str(found.exports[0]).startswith("onnx within ")
    assert not list(run.glob("export/.*")), "nothing of the building is left"


def test_a_run_that_has_gone_on_is_not_served_by_its_old_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(run, tmp_path / run.name)
    made: list[Path] = []
    monkeypatch.setattr("src.deploy.export.export", lambda run: made.append(run) or run / "export" / "onnx")
    assert process.export_of(copied) == copied / "export" / "onnx"
    assert not made
    with open(copied / "checkpoints" / "best.ckpt", "ab") as file:
        file.write(b" ")
    assert process.export_of(copied) == copied / "export" / "onnx"
    assert made == [copied]
    assert "of earlier weights of this run, so it is exported again" in capsys.readouterr().out
    (found,), _ = find([copied])
    assert str(found.exports[0]).endswith("of earlier weights")
    (copied / "checkpoints" / "best.ckpt").unlink()
    process.export_of(copied)
    assert made == [copied], "without weights no newer export can be made"
    for name in ("fold-1", "fold-2"):
        (weights := tmp_path / "folds" / name / "checkpoints").mkdir(parents=True)
        (weights.parent / "run.json").write_text("{}")
        (weights / "best.ckpt").write_text(name)
    digests = weights_of(tmp_path / "folds")
    assert len(set(digests)) == 2
    assert [
        is_stale(weights_of(tmp_path / "folds"), {"run": {"weights_sha256": old}}) for old in (digests, digests[:1])
    ] == [0, 1]


# ------------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize("name", ["model.onnx", "columns.json", "preparation.json", "examples/examples.json"])
def test_a_changed_or_missing_file_is_refused_by_name(name: str, folder: Path, houses: Path) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole + b" ")
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}: not the file that was certified .* Export"):
        predict(folder, [houses])
    path.unlink()
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}: missing; the certificate names it"):
        leyden.load(folder)
    path.write_bytes(whole)
    assert predict(folder, [houses]).failed == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"files": {}}'])
def test_a_damaged_certificate_is_refused(content: bytes, folder: Path, houses: Path) -> None:
    (folder / "certificate.json").write_bytes(content)
    with pytest.raises(InputError, match=r"certificate\.json: .*Export the run again"):
        predict(folder, [houses])


@pytest.mark.parametrize("change", [{"files": []}, {"files": {}}, {"run": {}}, {"parity": {}}], ids=str)
def test_a_certificate_without_what_it_proves_is_refused(change: dict[str, Any], folder: Path, houses: Path) -> None:
    write_json(folder / "certificate.json", read_json(folder / "certificate.json") | change)
    with pytest.raises(InputError, match=rf"certificate\.json: (has no )?{next(iter(change))}.*Export the run again"):
        predict(folder, [houses])


def test_a_file_name_out_of_the_folder_is_refused(folder: Path, houses: Path) -> None:
    found = json.loads((folder / "certificate.json").read_text())
    outside = folder.parent / "secret.txt"
    outside.write_text("secret")
    found["files"]["../secret.txt"] = exported.digest_of(outside)
    write_json(folder / "certificate.json", found)
    with pytest.raises(InputError, match=r"\.\./secret\.txt: outside the export"):
        predict(folder, [houses])


def test_worked_examples_are_files_of_the_export_and_may_be_none(folder: Path) -> None:
    table = exported.load(folder)
    assert require_worked(table) == 8
    (folder.parent / "secret.png").write_bytes(b"secret")
    preparation: Any = SimpleNamespace(kind="image")
    for name in ("../../secret.png", str(folder.parent / "secret.png"), "0.png"):
        write_json(folder / "examples" / "examples.json", {"examples": 8 * [{"input": name, "outputs": {}}]})
        with pytest.raises(InputError, match=rf"examples\.json: {re.escape(name)} is no file of this export"):
            require_worked(replace(table, preparations=[preparation]))
    write_json(folder / "examples" / "examples.json", {"examples": []})
    with pytest.raises(InputError, match=r"examples\.json: 0 examples, 8 are certified"):
        require_worked(table)
    assert require_worked(replace(table, certificate=table.certificate | {"worked_examples": 0})) == 0


def test_an_onnxruntime_too_old_for_the_opset_says_so(folder: Path, houses: Path) -> None:
    import onnx

    proto = onnx.load(str(folder / "model.onnx"))
    proto.opset_import[0].version = 99
    onnx.save(proto, str(folder / "model.onnx"))
    found = json.loads((folder / "certificate.json").read_text())
    found["files"]["model.onnx"] = exported.digest_of(folder / "model.onnx")
    found["model"]["opset"] = 99
    write_json(folder / "certificate.json", found)
    with pytest.raises(InputError, match=r"onnxruntime [\d.]+ cannot read it \(opset 99, made with onnxruntime"):
        predict(folder, [houses])


def test_predict_py_says_what_is_wrong(
    run: Path, folder: Path, houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = PredictFlags(run=folder, inputs=(houses,), out=tmp_path / "out.csv")
    assert main(good) == 0
    assert "0 with an error" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"--accelerator gpu: an export is predicted with on the CPU"):
        main(PredictFlags(run=folder, inputs=(houses,), accelerator="gpu"))
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("area,rooms\n80,3\n")
    with pytest.raises(InputError, match=r"lacking\.csv: \d of the \d columns that the run has seen are missing"):
        main(PredictFlags(run=folder, inputs=(lacking,)))
    bad = tmp_path / "bad.csv"
    header, *rows = houses.read_text(encoding="utf-8").splitlines()
    cells = rows[0].split(",")
    cells[1] = "wide"
    bad.write_text("\n".join([header, ",".join(cells), *rows[1:3]]) + "\n")
    found = predict(folder, [bad])
    assert found.failed == 1
    assert "area: 'wide' is no finite number" in found.text
    assert [row["label"] for row in csv.DictReader(io.StringIO(found.text))][1:] == [
        row["label"] for row in csv.DictReader(io.StringIO(predict(run, [bad]).text))
    ][1:]


def test_without_onnxruntime_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime .*pip install -e '\.\[deploy\]'"):
        exported.load(folder)
