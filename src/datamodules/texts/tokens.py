"""Texts as token ids: the tokenizer, the cut to a length, and what both made of all texts, memory-mapped."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from src.configs.errors import InputError, did_you_mean
from src.configs.text import TextPrep
from src.resources.cache import cache_dir, once

TRAINED = ("word", "wordpiece")
"""Tokenizers that are trained on the training split; any other name is a pretrained one."""
WORD = r"\w+(?:['\u2019]\w+)*|[!?]"
"""What of a text becomes tokens: words, `didn't` among them, and the two signs that tell of feeling."""
RECIPE = f"1 {WORD}"
"""Names how tokenizers are trained: another recipe, another tokenizer in the cache."""
PAD, UNKNOWN = "[PAD]", "[UNK]"
CANNOT = "the tokenizer (--vocabulary.tokenizer, or tokenizer/tokenizer.json of a run) cannot read a text"
HEAD_SHARE = 0.25
"""Share of the length that `head_tail` takes from the beginning of a long text."""
CHUNK = 1000
T = TypeVar("T")


def train_tokenizer(texts: Iterable[str], kind: str, vocab_size: int) -> Tokenizer:
    """Train a lower-case vocabulary on texts: whole words, or pieces of words (Schuster & Nakajima 2012).

    Tokens seen only once are left out; `[PAD]` is 0 and `[UNK]` is 1. Ties among word pieces fall differently from one
    training to the next (huggingface/tokenizers issue 1794); the cache and the run keep the one that was trained.
    """
    special = [PAD, UNKNOWN]
    if kind == "word":
        tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        trainer = trainers.WordLevelTrainer(
            vocab_size=vocab_size, min_frequency=2, special_tokens=special, show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=vocab_size, min_frequency=2, special_tokens=special, show_progress=False
        )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(name: str) -> Tokenizer:
    """Return a pretrained tokenizer.

    Args:
        name: a folder with `tokenizer.json` (such as a run's `tokenizer`), or an encoder, see `src/resources/hub.py`.

    Raises:
        InputError: there is none of that name, or it has no fast implementation.
    """
    from src.resources import hub

    path = Path(name) / "tokenizer.json"
    try:
        with explain_errors(f"--vocabulary.tokenizer {name}: no tokenizer can be read there"):
            return Tokenizer.from_file(str(path)) if path.is_file() else hub.load("tokenizer", name).backend_tokenizer
    except InputError as error:
        if hint := did_you_mean(name, list(TRAINED)):
            raise InputError(f"--vocabulary.tokenizer {name}: no such tokenizer.{hint}") from error
        raise


@contextlib.contextmanager
def explain_errors(what: str) -> Iterator[None]:
    """While a tokenizer that may be from elsewhere is read or used: say what went wrong.

    Raises:
        InputError: anything did. tokenizers raises bare Exceptions and, where its Rust code panics, a BaseException.
    """
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what} ({str(error).strip()[:200]}).") from error


def special_id(tokenizer: Tokenizer, *names: str) -> int:
    """Return the id of the first of the names that the tokenizer knows, else 0."""
    found = (tokenizer.token_to_id(name) for name in names)
    return next((number for number in found if number is not None), 0)


class Located(NamedTuple):
    """The tokens of a text that a network reads."""

    ids: list[int]
    spans: list[tuple[int, int]]
    """First character and the one behind the last, of each token; (0, 0) for a special one."""
    all_spans: list[tuple[int, int]]
    """Of all tokens of the text, those that were cut off too, without special ones."""


class TextEncoder:
    """Turns texts into token ids with the tokenizer's own special tokens, cut to a length.

    Args:
        tokenizer: trained or loaded.
        prep: `max_length`, the special tokens included, and `truncation`: keeping the head and the tail of a long text
            is from Sun et al. 2019, https://arxiv.org/abs/1905.05583, section 5.3.1.
    """

    def __init__(self, tokenizer: Tokenizer, prep: TextPrep) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer, self.prep = tokenizer, prep
        with explain_errors(CANNOT):
            bare, full = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
            at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), None)
        if at is None:
            raise InputError(f"{CANNOT} (its special tokens change the text).")
        self.before, self.after = full[:at], full[at + len(bare) :]
        self.pad_id = special_id(tokenizer, PAD, "<pad>")
        self.unknown_id = special_id(tokenizer, UNKNOWN, "<unk>")
        room = prep.max_length - len(self.before) - len(self.after)
        if room < 1:
            own = len(full) - len(bare)
            raise InputError(f"--prep.max-length {prep.max_length}: no room beside the tokenizer's own {own} tokens.")
        self.head = round(room * HEAD_SHARE) if prep.truncation == "head_tail" else room
        self.tail = room - self.head

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        with explain_errors(CANNOT):
            found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[*self.before, *(self._cut(encoding.ids) or [self.unknown_id]), *self.after] for encoding in found]

    def located(self, text: str) -> Located:
        """Return the token ids of a text, the same as of a call, and where in the text each stands."""
        with explain_errors(CANNOT):
            found = self.tokenizer.encode(text, add_special_tokens=False)
        nowhere = (0, 0)
        ids = self._cut(found.ids) or [self.unknown_id]
        spans = self._cut(found.offsets) or [nowhere]
        before, after = [nowhere] * len(self.before), [nowhere] * len(self.after)
        return Located([*self.before, *ids, *self.after], [*before, *spans, *after], found.offsets)

    def _cut(self, tokens: list[T]) -> list[T]:
        if len(tokens) <= self.head + self.tail:
            return tokens
        return tokens[: self.head] + tokens[len(tokens) - self.tail :]

    def key(self) -> str:
        """Name all that the result depends on but the texts."""
        return f"{self.prep.max_length} {self.prep.truncation} {self.tokenizer.to_str()}"


@dataclass(frozen=True)
class Encoded:
    """The token ids of many texts, one after another."""

    ids: Path | np.ndarray
    """A file of unsigned integers, to be mapped, or the array itself."""
    dtype: str
    offsets: np.ndarray
    """Where each text starts, and where the last ends."""

    @functools.cached_property
    def mapped(self) -> np.ndarray:
        if isinstance(self.ids, np.ndarray):
            return self.ids
        return np.memmap(self.ids, self.dtype, "r") if self.offsets[-1] else np.empty(0, self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """Send spawned workers the name of the file, not its contents."""
        return {name: value for name, value in self.__dict__.items() if name != "mapped"}

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


def encode(texts: Iterable[str], encoder: TextEncoder) -> Encoded:
    """Encode texts in memory."""
    parts = list(_chunks(texts, encoder))
    return Encoded(
        np.concatenate([np.empty(0, np.uint32), *(ids for ids, _ in parts)]),
        "uint32",
        np.cumsum([0, *(length for _, lengths in parts for length in lengths)]),
    )


def encode_once(texts: Iterable[str], encoder: TextEncoder, key: str) -> Encoded:
    """Encode texts into a file of the cache, unless it is there already; memory does not grow with their number.

    Processes that ask for the same texts at the same time wait for one another. The result appears whole or not at all.

    Args:
        key: names the texts.

    Raises:
        InputError: the cache cannot be written.
    """
    name = hashlib.sha256(f"{key} {encoder.key()}".encode()).hexdigest()[:24]
    dtype = "uint16" if encoder.tokenizer.get_vocab_size() <= 1 << 16 else "uint32"
    folder = cache_dir() / "tokens" / name

    def fill(part: Path) -> Encoded:
        part.mkdir()
        lengths = [np.zeros(1, np.int64)]
        with open(part / "ids.bin", "wb") as file:
            for ids, counts in _chunks(texts, encoder):
                file.write(ids.astype(dtype).tobytes())
                lengths.append(np.array(counts, np.int64))
        offsets = np.cumsum(np.concatenate(lengths))
        np.save(part / "offsets.npy", offsets, allow_pickle=False)
        return Encoded(folder / "ids.bin", dtype, offsets)

    return once(folder, lambda path: _open(path, dtype), fill)


def _open(folder: Path, dtype: str) -> Encoded | None:
    """Map a finished cache; None where there is none or it is damaged."""
    try:
        offsets = np.load(folder / "offsets.npy", allow_pickle=False)
        whole = (folder / "ids.bin").stat().st_size == offsets[-1] * np.dtype(dtype).itemsize
        return Encoded(folder / "ids.bin", dtype, offsets) if whole else None
    except (OSError, ValueError, EOFError, IndexError):
        return None


def _chunks(texts: Iterable[str], encoder: TextEncoder) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Yield the ids of some texts, joined, and the length of each."""
    rest = iter(texts)
    while chunk := list(itertools.islice(rest, CHUNK)):
        found = encoder(chunk)
        yield np.array(list(itertools.chain.from_iterable(found)), np.uint32), list(map(len, found))


def padded(encoded: Encoded, rows: np.ndarray, pad_id: int, length: int | None = None) -> dict[str, np.ndarray]:
    """Return 'tokens', int64 [rows, length], and 'mask', True where a token is.

    Args:
        encoded: has the texts.
        rows: positions of some of them.
        pad_id: fills up the shorter texts.
        length: None for that of the longest.
    """
    starts, ends = encoded.offsets[rows], encoded.offsets[rows + 1]
    lengths = ends - starts
    longest = length or int(lengths.max(initial=1))
    tokens = np.full((len(rows), longest), pad_id, np.int64)
    for row, start, end in zip(tokens, starts, ends, strict=True):
        row[: end - start] = encoded.mapped[start:end]
    return {"tokens": tokens, "mask": np.arange(longest) < lengths[:, None]}
