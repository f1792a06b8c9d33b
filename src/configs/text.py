"""Values of text experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from src.configs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TextPrep:
    """How texts are cleaned, cut and put into batches."""

    strip_html: bool = False
    """Put a blank in place of each HTML tag."""
    max_length: int = 256
    """Most tokens of a text that the model sees."""
    truncation: Literal["head", "head_tail"] = "head_tail"
    """What is kept of a longer text: its head, or a quarter from its head and the rest from its tail."""
    padding: Literal["like_length", "max_length"] = "like_length"
    """Batches of like length, each padded to its longest; or in any order, all padded to max_length."""
    max_tokens: int | None = None
    """In place of batch_size: as many texts a batch as stay within so many tokens."""

    def __post_init__(self) -> None:
        for name, value in (("max_length", self.max_length), ("max_tokens", self.max_tokens)):
            if value is not None and value < 1:
                raise InputError(f"--prep.{name.replace('_', '-')} {value}: at least 1.")
        if self.max_tokens is not None and self.padding == "max_length":
            raise InputError(f"--prep.max-tokens {self.max_tokens}: give --batch-size where --prep.padding max_length.")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The tokens that texts are made of, and the vectors that they start with."""

    tokenizer: str = "word"
    """word or wordpiece, trained on the training texts; or a folder with tokenizer.json, or an encoder's name."""
    size: int = 20_000
    """Most tokens of a trained tokenizer."""
    vectors: str = "none"
    """Start of the embedding: own (co-occurrences in the training texts), none (random), or a GloVe-like text file."""
    width: int = 128
    """Numbers of a vector."""


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """A recurrent network for texts: its layers, what is made of their states, and its dropouts."""

    hidden: int = 64
    """Width of each layer and direction."""
    layers: int = 1
    """Layers, one over the other."""
    bidirectional: bool = True
    """Read each text backwards too."""
    pooling: tuple[Literal["last", "mean", "max", "attention"], ...] = ("mean", "max")
    """What is made of a text's states; several are joined. last: the state at the end of the reading."""
    word_dropout: float = 0.0
    """Share of the words hidden in training."""
    embedding_dropout: float = 0.0
    """Share of the embedding's columns dropped for a whole text (Gal & Ghahramani 2016, arXiv 1512.05287)."""
    recurrent_dropout: float = 0.0
    """Share of the recurrent weights dropped for a batch (Merity et al. 2018, arXiv 1708.02182, section 2)."""
    dropout: float = 0.0
    """On the pooled features, before the head."""

    def __post_init__(self) -> None:
        for name in ("word_dropout", "embedding_dropout", "recurrent_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--lstm.{name.replace('_', '-')} {getattr(self, name)}: from 0 to below 1.")
        if not self.pooling:
            raise InputError("--lstm.pooling: name one at least of last, mean, max, attention.")


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a text is counted in, and how a linear model is fitted to it."""

    pairs: bool = True
    """Pairs of neighbouring words are terms too."""
    least: int = 2
    """Training texts that have to have a term; others are not counted."""
    strength: float = 10.0
    """Of classes and labels, the inverse of the L2 penalty; that of a regression is chosen by cross-validation."""

    def __post_init__(self) -> None:
        if self.least < 1:
            raise InputError(f"--terms.least {self.least}: at least 1.")
        if not self.strength > 0:
            raise InputError(f"--terms.strength {self.strength}: above 0.")
