"""Leyden from Python: quiet, leaves the process as it was, and predicts what predict.py does."""

from __future__ import annotations

import io
import logging
import os
import random
import re
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Script, Tiny, own_home
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from sklearn.datasets import load_digits

import leyden
from experiments.digits import DigitsCNN
from experiments.images import Images
from experiments.tables import TableRegression
from experiments.texts import TextsLstm
from src.experiment import Optim

EPOCH_LINE = re.compile(r"epoch \d+/\d+ +train/loss .* samples/s\n")


def small(**fields: Any) -> DigitsCNN:
    return DigitsCNN(**{"source": "sklearn", "max_epochs": 2, "precision": "32-true", **fields})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> leyden.Run:
    with own_home(tmp_path_factory.mktemp("api")):
        return leyden.run(small())


@pytest.fixture
def digits() -> np.ndarray:
    """Five digits as uint8 [5, 8, 8]."""
    pixels = np.asarray(load_digits(return_X_y=True)[0])[:5]
    return (pixels.reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)


def seed() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


# ----------------------------------------------------------------------------------------------------------------- run
def test_a_run_prints_its_epochs_alone_and_leaves_the_process_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("lightning.pytorch")
    filters, level, environment = [*warnings.filters], logger.level, {**os.environ}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seed()
    found = leyden.run("experiments/digits.py:DigitsCNN", source="sklearn", max_epochs=2, optim=Optim(lr=1e-3))
    drawn = random.random(), np.random.random(), torch.rand(1).item()
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines(keepends=True)
    assert len(lines) == 2
    assert all(map(EPOCH_LINE.fullmatch, lines)), lines
    seed()
    assert drawn == (random.random(), np.random.random(), torch.rand(1).item())
    assert (warnings.filters, logger.level) == (filters, level)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not {name for name in os.environ.keys() - environment.keys() if name.startswith("PL_")}
    assert (found.config["optim.lr"], found.config["max_epochs"], found.state) == (1e-3, 2, "done")


def test_what_a_run_knows(run: leyden.Run) -> None:
    assert run.metrics == run.record["metrics"]
    assert 0.5 < run.metrics["val/acc"] <= 1
    history = run.history
    assert list(history.columns) == ["epoch", "step", "name", "value"]
    assert history[history["name"] == "val/acc"]["epoch"].tolist() == [1, 2]
    assert history[history["name"] == "val/acc"]["value"].max() == run.record["best"]["value"]
    shown = run._repr_html_()
    for text in (str(run.path), "done", "STAND-IN", "val/acc"):
        assert text in repr(run)
        assert text in shown


def test_an_instance_a_class_and_a_record_say_the_same(run: leyden.Run) -> None:
    fields = {name: value for name, value in run.config.items() if name != "seed"}
    again = leyden.run(DigitsCNN, **fields)
    assert again.metrics == run.metrics
    assert again.config == run.config
    assert leyden.run(small(), seed=5).config["seed"] == 5


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_epcohs": 3}, r"max_epcohs: DigitsCNN has no such field\. Did you mean max_epochs\?"),
        ({"tset": True}, r"Did you mean test\?"),
        ({"optim.lrr": 1.0}, r"lrr: Optim has no such field\. Did you mean lr\?"),
        ({"seed.lr": 1.0}, r"seed\.lr: DigitsCNN has no such field"),
        ({"max_epochs": "3"}, r"max_epochs='3': expected int"),
        ({"max_epochs": True}, r"max_epochs=True: expected int"),
        ({"max_epochs": 0}, r"--max-epochs 0: at least 1"),
        ({"precision": "bf16"}, r"precision='bf16': expected one of 'auto', '32-true'"),
        ({"optim": 1e-3}, r"optim=0\.001: expected Optim"),
        ({"folds": 1}, r"--folds 1: at least 2"),
        ({"folds": 2, "ensemble": 2}, r"give one of the two"),
        ({"checkpoint_every": "often"}, r"--checkpoint-every often"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_begins(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(leyden.InputError, match=said):
        leyden.run(DigitsCNN, **fields)
    assert not (tmp_path / "runs").exists()


def test_values_as_python_has_them() -> None:
    fields: dict[str, Any] = {"limit_train_batches": np.int64(1), "patience": None, "optim.lr": 1}
    found = leyden.run(small(max_epochs=1), **fields)
    assert (found.config["limit_train_batches"], found.config["optim.lr"]) == (1, 1.0)


def test_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(leyden.InputError, match=r"Did you mean experiments/digits\.py"):
        leyden.run("experiments/digitz.py")
    found = leyden.run("experiments/digits.py:DigitsCNN", source="sklearn", max_epochs=1, limit_train_batches=1)
    assert found.state == "done"


def test_data_that_stand_in_are_warned_of(run: leyden.Run) -> None:
    with pytest.warns(UserWarning, match=r"STAND-IN: the data is scikit-learn's 8x8 digits"):
        leyden.run(DigitsCNN, max_epochs=1, limit_train_batches=1)


# ------------------------------------------------------------------------------------------------- stopping, going on
class Stops(Callback):
    """Asks the process to stop, once, at the third step, as Ctrl-C does."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2 and not trainer.ckpt_path:
            signal.raise_signal(signal.SIGINT)


class Stopped(DigitsCNN):
    """Is interrupted."""

    def callbacks(self) -> list[Callback]:
        return [Stops()]


def test_ctrl_c_saves_and_the_run_can_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    whole = leyden.run(small())
    with pytest.raises(KeyboardInterrupt, match="resume="):
        leyden.run(Stopped(**small().__dict__))
    (path,) = tmp_path.glob("runs/Stopped/*")
    stopped = leyden.load(path)
    assert stopped.state == "interrupted"
    assert f"--resume {path}" in capfd.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert leyden.run(resume=stopped) == stopped
    assert (stopped.state, stopped.metrics) == ("done", whole.metrics)


def test_a_finished_run_is_tested(tmp_path: Path) -> None:
    run = leyden.run(small(max_epochs=1))
    with pytest.raises(leyden.InputError, match="the run is done"):
        leyden.run(resume=run.path)
    with pytest.raises(leyden.InputError, match="leave them out"):
        leyden.run(resume=run, seed=3)
    assert "test/acc" in leyden.run(resume=run.path, test=True).metrics
    with pytest.raises(leyden.InputError, match="no run"):
        leyden.load(tmp_path / "nowhere")


def test_folds_and_members(houses: Path, tiny: Tiny) -> None:
    short = TableRegression(max_epochs=1, limit_train_batches=1, **tiny(TableRegression))
    folded, together = leyden.run(short, folds=2), leyden.run(short, ensemble=2)
    assert folded.record["folds"] == together.record["ensemble"] == 2
    table = pd.read_csv(houses).head(3)
    parts = [leyden.load(together.path / f"member-{n}").predict(table)["prediction"] for n in (1, 2)]
    assert together.predict(table)["prediction"].tolist() == pytest.approx(np.mean(parts, axis=0), rel=1e-5)
    with pytest.raises(leyden.InputError, match=r"its children have the weights\. Load one: .*member-1"):
        together.model()


def test_compare(run: leyden.Run, tmp_path: Path) -> None:
    for seed in (0, 1):
        leyden.run(small(max_epochs=1, limit_train_batches=1), seed=seed)
    frame = leyden.compare(run.path, tmp_path / "runs")
    assert sorted(frame["done"]) == [1, 2]
    two = frame[frame["done"] == 2].iloc[0]
    values = [leyden.load(path).metrics["val/acc"] for path in (tmp_path / "runs/DigitsCNN").iterdir()]
    assert two["val/acc_mean"] == pytest.approx(np.mean(values))
    assert two["val/acc_sd"] == pytest.approx(np.std(values, ddof=1))
    assert frame["val/acc_sd"].dtype == float
    assert any("STAND-IN" in line for line in frame.attrs["warnings"])


# ------------------------------------------------------------------------------------------------------- predictions
def numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="id")


def test_images_are_predicted_as_predict_py_does(
    run: leyden.Run, digits: np.ndarray, tmp_path: Path, script: Script
) -> None:
    files = [tmp_path / f"{row}.png" for row in range(len(digits))]
    for file, image in zip(files, digits, strict=True):
        Image.fromarray(image).save(file)
    (tmp_path / "cut.png").write_bytes(files[0].read_bytes()[:60])
    done = script("predict.py", run.path, *files, tmp_path / "cut.png")
    assert done.returncode == 0, done.stderr
    read = pd.read_csv(io.StringIO(done.stdout), dtype={"id": str, "error": str}).fillna({"error": ""})
    frame = run.predict([*files, str(tmp_path / "cut.png")])
    pd.testing.assert_frame_equal(
        frame.astype({"id": object, "label": float, "error": object}),
        read.astype({"id": object, "label": float, "error": object}),
        check_exact=True,
    )
    assert frame["error"].iloc[-1]
    assert frame.iloc[-1][[f"prob_{digit}" for digit in range(10)]].isna().all()
    for given in (
        list(digits),
        digits[..., None],
        [*digits[:2], digits[2:, ..., None]],
        [Image.open(file) for file in files],
        [files[0], Image.fromarray(digits[1]), *digits[2:]],
        str(tmp_path),
    ):
        again = run.predict(given)[: len(digits)]
        pd.testing.assert_frame_equal(numbers(again), numbers(frame[:-1]), check_exact=True)
    assert run.predict(list(digits))["id"].tolist() == ["0", "1", "2", "3", "4"]


def test_in_two_steps(run: leyden.Run, digits: np.ndarray, tmp_path: Path) -> None:
    model, batch = run.model(), run.prepare(digits[..., None])
    assert isinstance(model, torch.nn.Module)
    assert not model.training
    with torch.no_grad():
        prob = model(batch).softmax(1)
    frame = run.predict(list(digits), calibrate=False)
    assert prob.numpy() == pytest.approx(frame.filter(like="prob_").to_numpy(), abs=1e-5)
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(leyden.InputError, match=r"no\.png: not an image"):
        run.prepare(tmp_path / "no.png")


def test_an_image_in_memory_stays_as_it_is_and_is_turned_upright(run: leyden.Run, digits: np.ndarray) -> None:
    turned = Image.fromarray(np.rot90(digits[3], 1))
    turned.getexif()[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    before = np.asarray(turned).copy()
    frame = run.predict([turned])
    assert (np.asarray(turned) == before).all()
    assert turned.getexif()[0x0112] == 6
    pd.testing.assert_frame_equal(frame, run.predict([digits[3]]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((8, 8)), r"an array of float64 \[8, 8\]: images are uint8"),
        (np.zeros((5, 8, 8), np.uint8), r"uint8 \[5, 8, 8\]"),
        (np.zeros((1, 0, 8, 3), np.uint8), r"uint8 \[1, 0, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "an empty array: nothing to predict"),
        ([], "no input: nothing to predict"),
        (["nowhere.png"], r"nowhere\.png: no such file or folder"),
        (pd.DataFrame({"a": [1]}), "a DataFrame: the run predicts images"),
    ],
)
def test_what_is_no_image_is_refused(run: leyden.Run, given: Any, said: str) -> None:
    with pytest.raises(leyden.InputError, match=said):
        run.predict(given)


def test_colours_in_memory(images: Path, tiny: Tiny) -> None:
    run = leyden.run(Images, max_epochs=1, limit_train_batches=1, **tiny(Images))
    files = sorted((images / "val").rglob("*.jpg"))[:3]
    opened = [Image.open(file).convert("RGB") for file in files]
    by_file, by_image = run.predict(files, calibrate=False), run.predict(opened, calibrate=False)
    assert by_image.filter(like="prob_").to_numpy() == pytest.approx(by_file.filter(like="prob_").to_numpy(), abs=0.02)
    arrays = np.stack([np.asarray(image) for image in opened])
    pd.testing.assert_frame_equal(run.predict(arrays, calibrate=False), by_image, check_exact=True)


def test_texts_in_memory(texts: Path, tiny: Tiny, tmp_path: Path) -> None:
    run = leyden.run(TextsLstm, max_epochs=1, limit_train_batches=2, **tiny(TextsLstm))
    table = pd.read_csv(texts).head(6).assign(ID=[f"t{row}" for row in range(6)])
    table.loc[2, "text"] = None
    table.to_csv(tmp_path / "some.csv", index=False)
    frame = run.predict(tmp_path / "some.csv")
    assert frame["ID"].tolist() == [f"t{row}" for row in range(6)]
    assert frame["error"].tolist() == ["", "", "empty text", "", "", ""]
    pd.testing.assert_frame_equal(run.predict(table.set_index("label")), frame, check_exact=True)
    by_text = run.predict(["" if text != text else text for text in table["text"]])
    assert by_text["id"].tolist() == [str(row) for row in range(6)]
    pd.testing.assert_frame_equal(numbers(by_text), frame.drop(columns="ID"), check_exact=True)
    with pytest.raises(leyden.InputError, match="the table: no column text"):
        run.predict(table.rename(columns={"text": "body"}))
    with pytest.raises(leyden.InputError, match="a ndarray: no table of texts"):
        run.predict(np.zeros(3))


def test_tables_in_memory(houses: Path, tiny: Tiny, tmp_path: Path) -> None:
    run = leyden.run(TableRegression, max_epochs=1, limit_train_batches=2, **tiny(TableRegression))
    table = pd.read_csv(houses).head(7).rename(columns={"id": "Id"})
    table.to_csv(tmp_path / "some.csv", index=False)
    frame = run.predict(tmp_path / "some.csv")
    assert list(frame.columns) == ["Id", "prediction", "error"]
    assert frame["Id"].tolist() == [f"h{row}" for row in range(7)]
    reversed_rows = run.predict(table.iloc[::-1])[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(reversed_rows, frame, check_exact=False, rtol=1e-6)  # float32, added in another order
    with pytest.raises(leyden.InputError, match=r"the table: 1 of the \d+ columns .* missing: rooms"):
        run.predict(table.drop(columns="rooms"))
    with pytest.raises(leyden.InputError, match="two columns are called area"):
        run.predict(pd.concat([table, table[["area"]]], axis=1))
    with pytest.raises(leyden.InputError, match="a ndarray: the run predicts rows of tables"):
        run.predict(np.zeros((3, 4)))
