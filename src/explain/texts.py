"""Explanations of texts, by word."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split
from torch import Tensor

from src.configs.errors import InputError
from src.datamodules.texts.given import EMPTY
from src.datamodules.texts.tokens import UNKNOWN, Located, TextEncoder, special_id
from src.explain.example import Example
from src.explain.method import Attribution
from src.explain.subject import Subject

if TYPE_CHECKING:
    from src.configs.spec import DataSpec
    from src.datamodules import DataModule, PredictionInput

SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}"
"""Scripts that write no spaces: each of their characters is a word."""
LETTERS = rf"[\w&&[^{SPACELESS}]]+"
WORDS = Split(
    Regex(rf"[{SPACELESS}]|{LETTERS}(?:(?:['\u2019-]|(?<=\d)[.,](?=\d)){LETTERS})*|[^\w\s]+"), "removed", invert=True
)
"""Cuts a text into words, `didn't`, `well-made` and `3.14` among them, and into the signs between them, as `...`."""
HIDES = ("[MASK]", "<mask>", UNKNOWN, "<unk>", "<|endoftext|>")
"""What stands in the place of hidden words' tokens: the first of these that the tokenizer knows."""


class TextExample(Example):
    """A text in words as the user wrote them, not in the tokenizer's pieces.

    A word with a token in common with the next, as where a tokenizer cuts at spaces alone, is one part with it. Words
    that were cut off, or that the tokenizer drops, are no parts.

    A hidden word's tokens become `hide_id`. The text keeps its length, for without them all words behind would move:
    their positions, and for an LSTM the number of steps, would change the answer too.

    Args:
        id: as in the predictions.
        text: as it was encoded.
        located: its tokens.
        hide_id: token that hides.
        expected: the answer that came with it, '' where there is none.
    """

    def __init__(self, id: str, text: str, located: Located, hide_id: int, expected: str = "") -> None:
        word_at = words_at(text, located.all_spans)
        owners, all_owners = (
            np.array([word_at[start:end].max(initial=-1) for start, end in spans], np.int64)
            for spans in (located.spans, located.all_spans)
        )
        words = np.unique(owners[owners >= 0])
        self.part_of = np.where(owners >= 0, np.searchsorted(words, owners), -1)
        """Part that each token belongs to, -1 for none, int64 [tokens]."""
        self.unread = len(np.setdiff1d(all_owners[all_owners >= 0], words))
        """Words and signs that were cut off."""
        self.hide_id = hide_id
        tokens = torch.tensor([located.ids])
        places = [np.flatnonzero(word_at == word) for word in words]
        names = tuple(text[place[0] : place[-1] + 1] for place in places)
        super().__init__(id, names, (tokens, torch.ones_like(tokens, dtype=torch.bool)), expected)

    def hidden(self, kept: np.ndarray) -> tuple[Tensor, Tensor]:
        tokens, mask = self.tensors
        there = np.column_stack([kept, np.ones(len(kept), bool)])[:, self.part_of]  # of part -1 the last column
        found = tokens.expand(len(kept), -1).masked_fill(~torch.from_numpy(there), self.hide_id)
        return found, mask.expand(len(kept), -1)

    def changed(self) -> TextExample:
        """Return the text without its shortest word, which seldom matters; the first of several."""
        kept = np.arange(len(self)) != min(range(len(self)), key=lambda word: len(self.names[word]))
        other = copy.copy(self)
        other.tensors = self.hidden(kept[None])
        return other

    def of_words(self, values: np.ndarray) -> np.ndarray:
        """Return the sum over each word's tokens, float64 [words], of values of the tokens."""
        own = self.part_of >= 0
        return np.bincount(self.part_of[own], values[own].astype(np.float64), minlength=len(self))


def words_at(text: str, tokens: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the number of the word that each character is of, int64 [characters]; -1 for none, as for a space.

    Args:
        text: to be cut into words.
        tokens: their spans of characters; words that share one are one.
    """
    found = np.full(len(text), -1)
    words = [span for _, span in WORDS.pre_tokenize_str(text)]
    for number, (start, end) in enumerate(words):
        found[start:end] = number
    begins = np.ones(len(words), np.int64)
    for start, end in tokens:
        shared = found[start:end][found[start:end] >= 0]
        if len(shared):
            begins[shared[0] + 1 : shared[-1] + 1] = 0
    return np.append(np.cumsum(begins) - 1, -1)[found]


def read(
    datamodule: DataModule, spec: DataSpec, inputs: Sequence[PredictionInput]
) -> tuple[list[TextExample], dict[str, str], list[str]]:
    """Return the texts of inputs, id -> why a text cannot be explained, and what was not read of long ones.

    Raises:
        InputError: the inputs cannot be used.
    """
    from src.datamodules.texts.preparation import TextPreparation

    preparation = cast(Any, datamodule).preparation(spec)
    assert isinstance(preparation, TextPreparation)
    encoder = TextEncoder(preparation.tokenizer, preparation.prep)
    hide_id = special_id(preparation.tokenizer, *HIDES)
    examples, errors = list[TextExample](), dict[str, str]()
    for id, text, expected in preparation.documents(inputs):
        example = TextExample(id, text, encoder.located(text), hide_id, expected)
        if len(example):
            examples.append(example)
        else:
            errors[id] = "no word that the tokenizer knows how to read" if text else EMPTY
    return examples, errors, [*datamodule.notes, *_unread(examples, preparation.prep.max_length)]


def _unread(examples: Sequence[TextExample], max_length: int) -> list[str]:
    cut = [example for example in examples if example.unread]
    if not cut:
        return []
    worst = max(cut, key=lambda example: example.unread)
    longer = f"{len(cut)} of {len(examples)} texts are longer than the {max_length} tokens that the network reads"
    return [f"{longer}; text {worst.id}: {worst.unread} of {worst.unread + len(worst)} words and signs were not read"]


def attention_rollout(subject: Subject, examples: Sequence[TextExample], targets: Sequence[int]) -> list[Attribution]:
    """Return how much of each word reaches the pooled features by attention (Abnar & Zuidema 2020, arXiv 2005.00928).

    The heads' mean, with half of each token's own state for the residual connection, multiplied over the layers. The
    values are shares, at most 1 in all, and the same for every target.

    Raises:
        InputError: the network has no attention that it tells.
    """
    network: Any = subject.network
    encoder = getattr(network, "encoder", None)
    if not hasattr(encoder, "set_attn_implementation"):
        raise InputError(
            f"--method attention-rollout: {type(network).__name__} is no encoder of transformers. Choose "
            "integrated-gradients, occlusion or lime."
        )
    row = slice(None) if network.pooling == "mean" else slice(1)
    with eager(encoder):
        return [Attribution(example.of_words(_rolled(encoder, example)[row].mean(0))) for example in examples]


@torch.no_grad()
def _rolled(encoder: Any, example: TextExample) -> np.ndarray:
    """Return the share that each token has in each token's last state, float64 [tokens, tokens]."""
    tokens, mask = example.tensors
    layers = encoder(input_ids=tokens, attention_mask=mask.long(), output_attentions=True).attentions or ()
    size = tokens.shape[1]
    if not layers or any(layer is None or layer.shape[-2:] != (size, size) for layer in layers):
        raise InputError(
            f"--method attention-rollout: {type(encoder).__name__} does not tell its attention. Choose "
            "integrated-gradients, occlusion or lime."
        )
    rolled = np.eye(size)
    for layer in layers:
        mean = layer[0].mean(0).double().numpy()
        rolled = (mean / mean.sum(1, keepdims=True) + np.eye(size)) / 2 @ rolled
    return rolled


@contextmanager
def eager(encoder: Any) -> Iterator[None]:
    """Have an encoder compute its attention so that it returns the weights."""
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        encoder.set_attn_implementation(before)
