"""Texts to predict: cleaned, cut to tokens as for the training, but without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from tokenizers import Tokenizer

from src.configs.jsonable import from_json, to_json
from src.configs.table import Csv
from src.configs.text import TextPrep
from src.datamodules.preparation import FILE, Arrays, PredictionInput, read_json
from src.datamodules.texts.given import Given, documents_of, encode_given
from src.datamodules.texts.text_files import Document
from src.datamodules.texts.tokens import TextEncoder, load_tokenizer, padded
from src.resources.files import atomic_write, write_json

TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class TextPreparation:
    """What becomes of a text before the network sees it."""

    kind: ClassVar[str] = "text"

    tokenizer: Tokenizer
    prep: TextPrep
    csv: Csv
    """How a table's cells are written, where that is not to be found out."""
    text_column: str = "text"
    """Of a table."""
    label_column: str = ""
    """Of the target, which tables may have."""
    predicts_number: bool = False

    def read(self, inputs: Sequence[PredictionInput], notes: list[str]) -> PreparedTexts:
        encoder = TextEncoder(self.tokenizer, self.prep)
        columns = (self.text_column, self.label_column)
        given = encode_given(inputs, columns, self.csv, encoder, strip_html=self.prep.strip_html)
        return PreparedTexts(given, self.targets(given.labels), encoder.pad_id)

    def documents(self, inputs: Sequence[PredictionInput]) -> list[Document]:
        """Return the texts of inputs, in memory, with the ids and targets that `read` gives them.

        Raises:
            InputError: as of `read`.
        """
        columns = (self.text_column, self.label_column)
        found = [*documents_of(inputs, columns, self.csv, strip_html=self.prep.strip_html)[0]]
        targets = self.targets([document.label for document in found])
        return [document._replace(label=target) for document, target in zip(found, targets, strict=True)]

    def targets(self, labels: list[str]) -> list[str]:
        """Return what texts came with: labels, or numbers as Python writes them."""
        if not self.predicts_number or not any(labels):
            return labels
        from src.datamodules.tables.table_targets import plain_numbers

        return plain_numbers(labels, self.csv, like=labels)

    def save(self, folder: Path) -> None:
        atomic_write(folder / TOKENIZER, self.tokenizer.to_str())
        rest = {name: value for name, value in vars(self).items() if name not in ("tokenizer", "prep", "csv")}
        configs = {"prep": to_json(vars(self.prep)), "csv": to_json(vars(self.csv))}
        write_json(folder / FILE, {"kind": self.kind} | rest | configs)

    @classmethod
    def load(cls, folder: Path) -> TextPreparation:
        found = read_json(folder / FILE)
        prep, csv = from_json(TextPrep, found["prep"]), from_json(Csv, found["csv"])
        columns = found["text_column"], found["label_column"]
        return cls(load_tokenizer(str(folder)), prep, csv, *columns, found["predicts_number"])


class PreparedTexts:
    """Texts to predict."""

    def __init__(self, given: Given, expected: Sequence[str], pad_id: int) -> None:
        self.given, self.expected, self.pad_id = given, expected, pad_id
        self.ids, self.id_name = given.ids, given.id_name

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text."""
        return self.given.encoded.lengths

    def arrays(self, keys: Sequence[int]) -> Arrays:
        """Return 'tokens', int64 [texts, longest], and 'mask', bool, True where a token is."""
        errors = self.given.errors
        index = [key for key in keys if key not in errors]
        values = padded(self.given.encoded, np.array(index, np.int64), self.pad_id)
        return Arrays(index, values, {key: errors[key] for key in keys if key in errors})
