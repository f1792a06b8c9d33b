"""Prediction needs the run directory alone and repeats the run's own evaluation; a bad file is a row, not a crash."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest
from conftest import Script, own_home

from experiments.images import Images
from scripts.predict import main
from src.cli.parser import PredictFlags
from src.experiment import InputError
from src.inference.batch import predict
from src.runs import records
from src.training import runner


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data and caches are gone; not to be changed."""
    home = tmp_path_factory.mktemp("trained")
    data = shutil.copytree(images, home / "data")
    with own_home(home):
        run = runner.run(
            Images(data_dir=data, weights="none", backbone="test_resnet", image_size=32, batch_size=4, max_epochs=1)
        )
    shutil.rmtree(data)
    shutil.rmtree(home / "cache")
    return run


@pytest.fixture
def broken(tmp_path: Path, images: Path) -> Path:
    """A folder with good images at depth and three that do not open."""
    folder = tmp_path / "mixed"
    (folder / "deep" / "er").mkdir(parents=True)
    image = (images / "test/cat/0000.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(image)
    (folder / "cut.jpg").write_bytes(image[: len(image) // 2])
    (folder / "deep" / "empty.png").touch()
    (folder / "deep" / "er" / "dog.jpg").write_bytes((images / "test/dog/0000.jpg").read_bytes())
    (folder / "notes.txt").write_text("no image")
    return folder


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_equals_the_runs_own_evaluation(trained: Path, images: Path) -> None:
    text, failed, _ = predict(trained, [images / "val"], calibrate=False)
    found = rows(text)
    assert failed == 0
    assert list(found[0]) == ["id", "label", "prob_cat", "prob_dog", "error"]
    own = rows((trained / "predictions_val.csv").read_text())
    assert [row["id"] for row in found] == [str(images / row["id"]) for row in own]
    assert [row["label"] for row in found] == [row["label"] for row in own]
    for mine, theirs in zip(found, own, strict=True):
        for name in ("prob_cat", "prob_dog"):
            assert float(mine[name]) == pytest.approx(float(theirs[name]), abs=1e-3)
    assert len({row["prob_cat"] for row in found}) > 1, "the premise: the network tells images apart"


def test_needs_the_run_directory_alone(
    trained: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = shutil.copytree(trained, tmp_path / "elsewhere" / "renamed")
    monkeypatch.chdir(tmp_path)
    assert predict(Path("elsewhere/renamed"), [images / "val"]) == predict(trained, [images / "val"])
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in trained.iterdir())
    assert not records.runs_dir().exists()


def test_order_is_kept_and_folders_are_searched_through(trained: Path, broken: Path, images: Path) -> None:
    first, last = images / "val/dog/0001.jpg", images / "val/cat/0000.jpg"
    found = rows(predict(trained, [first, broken, last, first])[0])
    inside = ["a.jpg", "cut.jpg", "deep/empty.png", "deep/er/dog.jpg", "notes.txt"]
    assert [row["id"] for row in found] == [
        str(path) for path in (first, *(broken / name for name in inside), last, first)
    ]
    assert found[0] | {"id": ""} == found[-1] | {"id": ""}


def test_unreadable_files_are_rows_with_their_error(trained: Path, broken: Path) -> None:
    text, failed, _ = predict(trained, [broken])
    found = {Path(row["id"]).name: row for row in rows(text)}
    bad = {"cut.jpg", "empty.png", "notes.txt"}
    assert failed == 3
    assert {name for name, row in found.items() if row["error"]} == bad
    for name, row in found.items():
        if name in bad:
            assert (row["label"], row["prob_cat"], row["prob_dog"]) == ("", "", "")
        else:
            assert row["label"] in {"cat", "dog"}
            assert float(row["prob_cat"]) + float(row["prob_dog"]) == pytest.approx(1, abs=1e-5)
    alone = rows(predict(trained, [broken / "deep" / "er"])[0])[0]
    assert float(found["dog.jpg"]["prob_dog"]) == pytest.approx(float(alone["prob_dog"]), abs=1e-3)


def test_all_unreadable(trained: Path, broken: Path) -> None:
    text, failed, _ = predict(trained, [broken / "notes.txt", broken / "deep" / "empty.png"])
    assert failed == 2
    assert all(row["error"] and not row["label"] for row in rows(text))


def test_missing_and_empty_inputs(trained: Path, tmp_path: Path, images: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: no such file"):
        predict(trained, [images / "val", tmp_path / "gone.jpg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        predict(trained, [tmp_path / "empty"])


def test_run_without_checkpoint(trained: Path, images: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    records.Record.read(run).update(state="failed")
    with pytest.raises(InputError, match=r"best\.ckpt: not there; the run is failed"):
        predict(run, [images / "val"])


@pytest.mark.parametrize("damage", ["cut", "empty", "other model"])
def test_damaged_checkpoint(trained: Path, images: Path, tmp_path: Path, damage: str) -> None:
    import torch

    run = shutil.copytree(trained, tmp_path / "run")
    path = run / "checkpoints" / "best.ckpt"
    if damage == "other model":
        torch.save({"state_dict": {"model.weight": torch.zeros(1)}}, path)
    else:
        path.write_bytes(path.read_bytes()[: 5000 if damage == "cut" else 0])
    with pytest.raises(InputError, match=r"best\.ckpt: cannot be loaded"):
        predict(run, [images / "val"])


def test_no_run(images: Path, tmp_path: Path) -> None:
    for folder in (images, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no run"):
            predict(folder, [images / "val"])


def test_script(
    script: Script, trained: Path, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "predictions.csv"
    written = script("predict.py", trained, broken, "--out", out)
    assert written.returncode == 0, written.stderr
    assert "5 rows, 3 with an error" in written.stderr
    assert str(out) in written.stderr
    expected = predict(trained, [broken])[0]
    assert out.read_text() == expected
    capsys.readouterr()
    assert main(PredictFlags(trained, (broken,))) == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("arguments", [("nowhere", "photo.jpg"), ("{run}", "photo.jpg")])
def test_script_user_errors(
    trained: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run, photo = (argument.format(run=trained) for argument in arguments)
    with pytest.raises(InputError, match=r"no run|no such file"):
        main(PredictFlags(Path(run), (Path(photo),)))
