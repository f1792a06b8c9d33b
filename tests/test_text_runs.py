"""Runs on texts, end to end: speed and padding, what TensorBoard shows, validations in an epoch, time limits, DDP."""

from __future__ import annotations

import csv
import html
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import Script, own_home
from lightning.pytorch.trainer.states import TrainerFn
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from experiments.texts import TextsBert, TextsLstm
from src import cli, datamodules, tasks
from src.cli import commands
from src.datamodules import Batches
from src.datamodules.texts import vocabulary
from src.experiment import DataSpec, InputError, Optim, Recurrent, TextPrep, Vocabulary
from src.inference.predictor import load_run
from src.resources.cache import cache_dir
from src.runs import records
from src.tasks.task import Batch
from src.training import runner
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

ROWS, TRAIN, VAL = 60, 44, 8
WORDS = [f"word{i}" for i in range(30)]
FRONT = "<i> & "
"""Begins each text: what would be mark-up on a page."""


class Tiny(TextsLstm):
    """The small LSTM at a size for tests."""

    accelerator = "cpu"
    precision = "32-true"
    max_epochs = 1
    batch_size = 4
    prep = TextPrep(max_length=16)
    vocabulary = Vocabulary(size=60, width=8)
    lstm = Recurrent(hidden=4)


class SlowSteps(tasks.TextClassification):
    """Makes an epoch last longer than a second."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        time.sleep(0.3)
        return super().training_step(batch, batch_idx)


class Slow(Tiny):
    """The experiment of `SlowSteps`."""

    def task(self, spec: DataSpec) -> tasks.TextClassification:
        return SlowSteps(super().task(spec).model, spec, self.optim)


class SlowValidation(tasks.TextClassification):
    """Validates for a second and a half an epoch."""

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        if self.trainer.state.fn == TrainerFn.FITTING:
            time.sleep(0.75)
        return super().validation_step(batch, batch_idx)


class ValidatesSlowly(Tiny):
    """The experiment of `SlowValidation`."""

    def task(self, spec: DataSpec) -> tasks.TextClassification:
        return SlowValidation(super().task(spec).model, spec, self.optim)


class SignalsItself(tasks.TextClassification):
    """Is interrupted in the midst of the first epoch."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return super().training_step(batch, batch_idx)


class Interrupts(Tiny):
    """The experiment of `SignalsItself`."""

    def task(self, spec: DataSpec) -> tasks.TextClassification:
        return SignalsItself(super().task(spec).model, spec, self.optim)


class KeptBert(TextsBert):
    """A head on the cached features of a frozen encoder, at a size for tests."""

    cached_features = "probe"

    accelerator = "cpu"
    precision = "32-true"
    frozen = -1
    max_epochs = 3
    validations = 1
    prep = TextPrep(max_length=16)
    optim = Optim(lr=0.1, schedule="constant")


def texts_of(rows: int) -> list[tuple[str, str]]:
    """Return texts of 3 to 13 words and labels that have nothing to do with them."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(["good", "bad"] * (rows // 2)).tolist()
    return [(FRONT + " ".join(rng.choice(WORDS, rng.integers(3, 14)).tolist()), label) for label in labels]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV of 60 texts; not to be changed."""
    path = tmp_path_factory.mktemp("data") / "texts.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts_of(ROWS)])
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small BERT of random weights and its tokenizer; not to be changed."""
    folder = tmp_path_factory.mktemp("encoders") / "bert"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    library: Any = transformers
    small = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = library.BertConfig(**small, intermediate_size=32, max_position_embeddings=16, initializer_range=0.3)
    torch.manual_seed(0)
    library.BertModel(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    plain: Any = tokenizer
    plain.normalizer, plain.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    plain.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def done(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs; not to be changed."""
    folder = tmp_path_factory.mktemp("done")
    with own_home(folder):
        return runner.run(Tiny(data_dir=table, max_epochs=2))


@pytest.fixture(scope="module")
def events(done: Path) -> EventAccumulator:
    return EventAccumulator(str(done), size_guidance={"tensors": 0, "images": 0, "histograms": 0}).Reload()


def logged(run: Path, name: str) -> list[float]:
    return [value for _, _, found, value in records.metrics(run) if found == name]


def predicted(run: Path) -> list[dict[str, str]]:
    with open(run / "predictions_val.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def only_run() -> Path:
    (record,) = records.runs_dir().glob("*/*/run.json")
    return record.parent


# -------------------------------------------------------------------------------------------------- speed and padding
def batches(data: datamodules.DataModule, epochs: int) -> Iterator[list[dict[str, Tensor]]]:
    """Yield the training batches of each epoch."""
    loader = data.loader("train", train=True)
    order = loader.sampler
    assert isinstance(order, Batches)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        yield list(loader)


def test_speed_and_padding_of_each_epoch_are_logged(done: Path, table: Path) -> None:
    data = Tiny(data_dir=table).datamodule()
    data.setup("fit")
    masks = [[batch["mask"] for batch in epoch] for epoch in batches(data, 2)]
    share = [1 - sum(int(m.sum()) for m in epoch) / sum(m.numel() for m in epoch) for epoch in masks]
    assert 0 < share[0] < 1
    assert logged(done, "train/padding") == pytest.approx(share)
    tokens = [sum(int(m.sum()) for m in epoch) for epoch in masks]
    seconds = [TRAIN / speed for speed in logged(done, "train/samples_per_s")]
    assert len(seconds) == 2
    for count, speed, as_long_as in zip(tokens, logged(done, "train/tokens_per_s"), seconds, strict=True):
        assert 0.5 < count / speed / as_long_as < 2


def test_validation_is_left_out_of_the_speed(table: Path) -> None:
    run = runner.run(ValidatesSlowly(data_dir=table))
    (speed,) = logged(run, "train/tokens_per_s")
    assert TRAIN * 3 / speed < 1.5, "no text is shorter than three tokens"


def test_padding_to_the_greatest_length_is_counted_as_such(table: Path, done: Path) -> None:
    padded = runner.run(Tiny(data_dir=table, prep=TextPrep(max_length=16, padding="max_length")))
    (share,) = logged(padded, "train/padding")
    assert share > 0.3
    assert share > logged(done, "train/padding")[0] + 0.1, "batches of like length save most of it"


def test_after_an_interruption_the_time_before_the_process_began_is_no_training(table: Path) -> None:
    assert commands.run_all([Interrupts(data_dir=table)], cli.RunFlags()) == 130
    run = only_run()
    command = cli.parse(["--resume", str(run)])
    assert commands.run_all(command.experiments, command.flags) == 0
    (tokens, samples), (padding,) = (
        (logged(run, f"train/{name}_per_s")[0] for name in ("tokens", "samples")),
        logged(run, "train/padding"),
    )
    assert 0 <= padding < 1
    assert tokens > samples, "a text has more than one token"


# -------------------------------------------------------------------------------------------------------- TensorBoard
def test_tensorboard_has_the_lengths_of_the_training_texts_once(done: Path, events: EventAccumulator) -> None:
    (histogram,) = events.Histograms("visuals/train/length")
    value = histogram.histogram_value
    split = json.loads((done / "split.json").read_text())
    tokenizer, texts = Tokenizer.from_file(str(done / "tokenizer" / "tokenizer.json")), texts_of(ROWS)
    lengths = [min(len(tokenizer.encode(texts[int(row)][0]).ids), 16) for row in split["train"]]
    assert value.num == TRAIN
    assert value.sum == sum(lengths)
    assert (value.min, value.max) == (min(lengths), max(lengths))


def test_tensorboard_has_the_confusion_matrix(events: EventAccumulator) -> None:
    (image,) = events.Images("visuals/val/confusion")
    assert image.encoded_image_string.startswith(b"\x89PNG")


def test_tensorboard_shows_the_misclassified_texts_the_worst_first(done: Path, events: EventAccumulator) -> None:
    (event,) = events.Tensors("val/worst/text_summary")
    shown = event.tensor_proto.string_val[0].decode()
    rows, texts = predicted(done), texts_of(ROWS)
    wrong = [row for row in rows if row["label"] != row["target"]]
    assert 0 < len(wrong) < len(rows), "the premise"
    wrong.sort(key=lambda row: float(row[f"prob_{row['target']}"]))
    places = []
    for row in wrong:
        text, label = texts[int(row["id"])]
        assert row["target"] == label
        title = f"**{label}, not {row['label']} {float(row['prob_' + row['label']]):.2f}**"
        places.append(shown.index(f"{title}\n\n{html.escape(text)}"))
    assert places == sorted(places)
    assert "<i>" not in shown, "texts are no mark-up"
    right = [texts[int(row["id"])][0] for row in rows if row not in wrong]
    assert not [text for text in right if html.escape(text) in shown]
    assert shown.count("**") == 2 * len(wrong)


# ---------------------------------------------------------------------------------------- when it validates and stops
@pytest.mark.parametrize("batch_size", [6, 4, 7], ids=["8 batches", "11 batches", "7 batches"])
def test_several_validations_an_epoch_are_logged_and_printed(
    table: Path, batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner.run(Tiny(data_dir=table, batch_size=batch_size, validations=4))
    after = [step + 1 for _, step, name, _ in records.metrics(run) if name == "val/acc"]
    assert len(after) == 4
    assert after[-1] == records.load(run)["steps"], "one is at the end"
    assert max(np.diff([0, *after])) - min(np.diff([0, *after])) <= 1, "evenly spread"
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = [line for line in lines if line[:1] == ["step"]]
    assert len(printed) == 3, "and the fourth with the epoch's line"
    assert all("val/acc" in line and "val/loss" in line for line in printed)
    assert [line[:2] for line in lines if line[:1] == ["epoch"]] == [["epoch", "1/1"]]


def test_one_validation_an_epoch_prints_no_steps(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.run(Tiny(data_dir=table))
    assert not [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]


@pytest.mark.parametrize("kind", [Tiny, Slow], ids=["after some epochs", "in the first epoch"])
def test_a_time_limit_ends_the_training_with_the_best_so_far(table: Path, kind: type[Tiny]) -> None:
    started = time.monotonic()
    run = runner.run(kind(data_dir=table, max_epochs=100_000, max_time="00:00:00:01"))
    assert time.monotonic() - started > 1
    record = records.load(run)
    assert (record["state"], record["reason"]) == ("done", "max_time 00:00:00:01 is over")
    assert len(logged(run, "val/acc")) < 1000
    assert record["metrics"]["val/acc"] == pytest.approx(max(logged(run, "val/acc")))
    best, last = (torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert 0 < best["global_step"] <= last["global_step"]
    assert len(predicted(run)) == VAL


# ---------------------------------------------------------------------------------------------------------------- DDP
@pytest.mark.slow
def test_two_processes_share_the_texts_and_evaluate_each_once(script: Script, table: Path, tmp_path: Path) -> None:
    small = ("--prep.max-length", "16", "--vocabulary.width", "8", "--lstm.hidden", "4", "--batch-size", "4")
    two = ("--accelerator", "cpu", "--devices", "2", "--strategy", "ddp")
    done = script("run.py", "experiments/texts.py", "--data-dir", table, "--max-epochs", "1", *small, *two)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    run = only_run()
    record = records.load(run)
    assert (record["state"], record["device"]) == ("done", "cpu x 2")
    assert record["steps"] == torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    split = json.loads((run / "split.json").read_text())
    assert [row["id"] for row in predicted(run)] == split["val"]
    assert len(split["val"]) == VAL
    right = sum(row["label"] == row["target"] for row in predicted(run))
    assert record["metrics"]["val/acc"] == pytest.approx(right / VAL, abs=1e-6)
    (speed,), (padding,) = logged(run, "train/tokens_per_s"), logged(run, "train/padding")
    assert speed > 0
    assert 0 <= padding < 1


# --------------------------------------------------------------------------------------- cached features, the run alone
@pytest.mark.parametrize("frozen", [-1, 0])
def test_a_head_on_kept_features_scores_as_the_full_model(
    table: Path, encoder: Path, frozen: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is frozen besides: without a text, nothing but the head can learn, and nothing is dropped."""
    run = runner.run(KeptBert(data_dir=table, encoder=str(encoder), frozen=frozen, dropout=0.3))
    assert f"solved on cached features [{TRAIN}, 32]" in capsys.readouterr().out
    assert len(list((cache_dir() / "features").glob("*.npz"))) == 2, "train and val"
    record = records.load(run)
    assert record["model"]["trained"] == 2 * 32 + 2
    assert record["weights"]["source"] == f"folder {encoder}"
    best = logged(run, "val/acc").index(max(logged(run, "val/acc")))
    for name in ("val/acc", "val/loss", "val/auroc"):  # the record's are those of the texts, read by the full model
        assert record["metrics"][name] == pytest.approx(logged(run, name)[best], abs=1e-5)
    assert len(set(logged(run, "val/loss"))) == 4, "the premise: it trained on from the solved head"
    assert logged(run, "train/tokens_per_s") == [], "no text went by"
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    stored = load_file(encoder / "model.safetensors")
    assert all(torch.equal(state[f"model.encoder.{name}"], value) for name, value in stored.items())


def test_the_run_keeps_its_tokenizer(done: Path, table: Path) -> None:
    kept = Tokenizer.from_file(str(done / "tokenizer" / "tokenizer.json"))
    spec = records.load(done)["spec"]
    assert kept.get_vocab_size() == spec["vocab_size"]
    assert set(WORDS) <= set(kept.get_vocab())
    assert kept.token_to_id("[UNK]") == spec["unknown_id"]
    assert not (done / "tokenizer" / "config.json").exists(), "it belongs to no encoder"


def test_a_run_goes_on_with_its_own_tokenizer(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Tiny(data_dir=table, vocabulary=Vocabulary(size=60, width=8, tokenizer="wordpiece"))
    run = runner.run(asked)
    kept, before = (run / "tokenizer" / "tokenizer.json").read_bytes(), records.load(run)["metrics"]
    shutil.rmtree(cache_dir())
    monkeypatch.setattr(vocabulary, "train_tokenizer", lambda *_: pytest.fail("its ids would be others"))
    runner.run(asked, RunOptions(resume=run, test=True))
    assert (run / "tokenizer" / "tokenizer.json").read_bytes() == kept
    after = records.load(run)["metrics"]
    assert {name: after[name] for name in before} == before


def test_a_run_does_not_go_on_with_another_encoder(table: Path, encoder: Path, tmp_path: Path) -> None:
    first, second = (shutil.copytree(encoder, tmp_path / name) for name in ("first", "second"))
    run = runner.run(KeptBert(data_dir=table, offline_encoder=str(first), max_epochs=1))
    before = (run / "run.json").read_bytes()
    with pytest.raises(InputError, match=f"--encoder {first}: the run was begun with it"):
        runner.run(
            KeptBert(data_dir=table, offline_encoder=str(second), max_epochs=1), RunOptions(resume=run, test=True)
        )
    assert json.loads((run / "run.json").read_bytes())["fields"] == json.loads(before)["fields"]
    with pytest.raises(InputError, match=rf"--encoder {tmp_path}/typo: no such folder"):
        runner.run(KeptBert(data_dir=table, encoder=str(tmp_path / "typo"), offline_encoder=str(first)))


def test_a_run_of_an_encoder_is_whole_without_the_encoders_folder(table: Path, encoder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(encoder, tmp_path / "copy")
    run = runner.run(KeptBert(data_dir=table, encoder=str(copy), max_epochs=1))
    shutil.rmtree(copy)
    kept, given = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (run / "tokenizer", encoder))
    assert kept.to_str() == given.to_str()
    _, spec, task = load_run(run)
    assert spec.classes == ("bad", "good")
    state = task.model.state_dict()
    stored = load_file(encoder / "model.safetensors")
    assert all(torch.equal(state[f"encoder.{name}"], value) for name, value in stored.items())
