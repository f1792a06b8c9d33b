"""Word vectors to start an embedding from: out of a file, or out of the training texts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from tokenizers import Tokenizer

from src.configs.errors import InputError
from src.configs.labels import is_number
from src.datamodules.texts.tokens import Encoded
from src.resources.cache import cache_dir, once

WINDOW = 10
"""Tokens either side that a token co-occurs with, the nearer the more."""
MOST_TOKENS = 20_000_000
"""Tokens of the training texts that are looked at: enough for words that are met often."""
STD = 0.3


def read_vectors(path: Path, tokenizer: Tokenizer) -> Path:
    """Return an array file [vocab_size, width] of the cache with each token's vector, NaN where `path` has none.

    Args:
        path: a word and its numbers a line, as GloVe, word2vec and fastText write them as text.
        tokenizer: names the tokens.

    Raises:
        InputError: no such file, or a line without a word and as many numbers as the first has.
    """
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise InputError(f"--vocabulary.vectors {path}: cannot be read ({error}).") from None
    content = hashlib.sha256(digest + tokenizer.to_str().encode()).hexdigest()[:24]
    return _kept(content, tokenizer.get_vocab_size(), lambda: _parse(path, tokenizer))


def _parse(path: Path, tokenizer: Tokenizer) -> np.ndarray:
    """Return the vector of each token in a file of vectors, float32 [vocab_size, width]."""
    found = np.empty((tokenizer.get_vocab_size(), 0), np.float32)
    with open(path, "rb") as file:  # line by line: such files have gigabytes, and words with U+0085 in them
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            fields = line.split()
            width = found.shape[1] or len(fields) - 1  # a word may have blanks, as in GloVe's 840B
            start = max(1, len(fields) - width)
            word, numbers = b" ".join(fields[:start]), fields[start:]
            if number == 1 and len(numbers) == 1:
                continue  # word2vec and fastText begin with their counts
            if not found.size:
                found = np.full((len(found), len(numbers)), np.nan, np.float32)
            too_many = start > 1 and is_number(fields[start - 1].decode(errors="replace"))
            if len(numbers) != found.shape[1] or not numbers or too_many:
                raise InputError(
                    f"--vocabulary.vectors {path}, line {number}: {len(fields) - 1} numbers, but {found.shape[1]} "
                    "in the first line."
                )
            try:
                if (token := tokenizer.token_to_id(word.decode(errors="replace"))) is not None:
                    found[token] = [float(value.decode()) for value in numbers]
            except ValueError as error:
                raise InputError(f"--vocabulary.vectors {path}, line {number}: {error}.") from None
    if not found.size:
        raise InputError(f"--vocabulary.vectors {path}: no vectors. Expected a word and its numbers a line.")
    return found


def own_vectors(encoded: Encoded, rows: np.ndarray, vocab_size: int, width: int, *, key: str) -> Path:
    """Return an array file [vocab_size, width] of the cache with vectors from the co-occurrences of tokens.

    The positive pointwise mutual information of tokens near one another, its contexts smoothed, is factorised by a
    truncated SVD, which does as well as word2vec (Levy, Goldberg & Dagan 2015, https://aclanthology.org/Q15-1016).

    Args:
        encoded: token ids of all texts.
        rows: the training texts among them.
        key: names the texts and how they were encoded.
    """

    def factorised() -> np.ndarray:
        counts = count_together(encoded, rows, vocab_size)
        if not counts.nnz:
            raise InputError("--vocabulary.vectors own: no two tokens stand together in these texts. Take none.")
        svd = TruncatedSVD(min(width, vocab_size - 1), n_iter=3, random_state=0)
        found = np.zeros((vocab_size, width), np.float32)
        found[:, : svd.n_components] = svd.fit_transform(mutual_information(counts))
        found[:, : svd.n_components] /= np.sqrt(svd.singular_values_).clip(1e-6)
        found -= found.mean(0)
        return found * (STD / found.std().clip(1e-6))

    return _kept(key, vocab_size, factorised)


def count_together(encoded: Encoded, rows: np.ndarray, vocab_size: int) -> sparse.csr_matrix:
    """Return how often tokens stand within `WINDOW` of one another in a text, one over their distance each time."""
    before = count_before(encoded, rows, vocab_size)
    return before + before.T


def count_before(encoded: Encoded, rows: np.ndarray, vocab_size: int) -> sparse.csr_matrix:
    """Return how often the first token stands before the second, as `count_together` does in either order."""
    rows = np.random.default_rng(0).permutation(rows)  # a table may are in the order of its classes
    rows = rows[encoded.lengths[rows].cumsum() <= MOST_TOKENS]
    lengths = encoded.lengths[rows]
    text, ids = np.repeat(np.arange(len(rows), dtype=np.int32), lengths), np.empty(lengths.sum(), np.int32)
    tokens, ends = np.asarray(encoded.mapped), lengths.cumsum()  # of np.memmap each slice would be a heavy object
    for row, length, end in zip(rows, lengths, ends, strict=True):
        ids[end - length : end] = tokens[encoded.offsets[row] :][:length]
    counts = sparse.csr_matrix((vocab_size, vocab_size), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        together = text[:-distance] == text[distance:]
        pairs = (ids[:-distance][together], ids[distance:][together])
        weight = np.full(len(pairs[0]), 1 / distance, np.float32)
        counts += sparse.coo_matrix((weight, pairs), shape=counts.shape).tocsr()
    return counts


def mutual_information(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Turn counts into the positive pointwise mutual information, the contexts' frequencies raised to 3/4.

    It takes the place of the counts: of 20 million tokens they are up to a gigabyte, and there is no second one.
    """
    total = np.asarray(counts.sum(1)).ravel()
    context = total**0.75 / (total**0.75).sum()
    counts.data /= np.repeat(total, np.diff(counts.indptr))
    counts.data /= context[counts.indices]
    np.log(counts.data, out=counts.data)
    np.maximum(counts.data, 0, out=counts.data)
    counts.eliminate_zeros()
    return counts


def _kept(key: str, vocab_size: int, make: Callable[[], np.ndarray]) -> Path:
    """Return the array file of the cache with vectors [vocab_size, width], made where there is none."""
    target = cache_dir() / "vectors" / f"{key}.npy"

    def read(path: Path) -> Path | None:
        try:
            return path if len(np.load(path, mmap_mode="r", allow_pickle=False)) == vocab_size else None
        except (OSError, ValueError, EOFError, TypeError):
            return None

    def fill(part: Path) -> Path:
        with open(part, "wb") as file:
            np.save(file, make().astype(np.float32), allow_pickle=False)
        return target

    return once(target, read, fill)
