"""The vocabulary of a data set: its tokenizer, and the vectors that an embedding starts from, both from the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from src.configs.text import Vocabulary
from src.datamodules.texts.text_parts import Part
from src.datamodules.texts.tokens import RECIPE, TRAINED, Encoded, TextEncoder, train_tokenizer
from src.datamodules.texts.vectors import own_vectors, read_vectors
from src.resources import hub
from src.resources.cache import cache_dir, once
from src.resources.files import atomic_write


def trained_tokenizer(vocabulary: Vocabulary, train: Part) -> Tokenizer:
    """Return a tokenizer trained on the training texts."""
    key = hashlib.sha256(f"{vocabulary.tokenizer} {vocabulary.size} {RECIPE}".encode())
    key.update(train.digests.tobytes())

    def read(path: Path) -> Tokenizer | None:
        try:
            return Tokenizer.from_file(str(path))
        except Exception:  # tokenizers raises bare Exceptions, for no file and for a damaged one
            return None

    def fill(part: Path) -> Tokenizer:
        trained = train_tokenizer(train.texts(), vocabulary.tokenizer, vocabulary.size)
        part.write_text(trained.to_str(), encoding="utf-8")
        return trained

    return once(cache_dir() / "tokenizers" / f"{key.hexdigest()[:24]}.json", read, fill)


def vectors_of(vocabulary: Vocabulary, encoder: TextEncoder, encoded: Encoded, train: Part) -> str:
    """Return the array file with the start of the embedding; '' for none.

    Args:
        encoder: its tokenizer names the tokens.
        encoded: token ids of the texts of the file that `train` is from.
        train: the training texts.
    """
    if vocabulary.vectors == "none":
        return ""
    if vocabulary.vectors != "own":
        return str(read_vectors(Path(vocabulary.vectors), encoder.tokenizer))
    key = hashlib.sha256(f"{vocabulary.width} {encoder.key()}".encode() + train.digests.tobytes()).hexdigest()[:24]
    return str(own_vectors(encoded, train.rows, encoder.tokenizer.get_vocab_size(), vocabulary.width, key=key))


def save_tokenizer(tokenizer: Tokenizer, vocabulary: Vocabulary, folder: Path) -> None:
    """Write a tokenizer to a folder, with the config of the encoder that a pretrained one belongs to."""
    atomic_write(folder / "tokenizer.json", tokenizer.to_str())
    alone = vocabulary.tokenizer in TRAINED or (Path(vocabulary.tokenizer) / "tokenizer.json").is_file()
    if not alone or (Path(vocabulary.tokenizer) / "config.json").is_file():
        hub.load("config", vocabulary.tokenizer).save_pretrained(folder)
