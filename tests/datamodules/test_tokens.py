"""Texts as token ids and their vectors: what the tokenizer learns, how texts are cut, and what the cache keeps."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from src.datamodules.prepared_batches import PreparedBatches
from src.datamodules.texts.given import Given
from src.datamodules.texts.preparation import PreparedTexts
from src.datamodules.texts.token_dataset import Tokens
from src.datamodules.texts.tokens import (
    CHUNK,
    PAD,
    UNKNOWN,
    Encoded,
    TextEncoder,
    encode,
    encode_once,
    load_tokenizer,
    special_id,
    train_tokenizer,
)
from src.datamodules.texts.vectors import STD, count_together, mutual_information, own_vectors, read_vectors
from src.datamodules.texts.vectors import WINDOW as VECTOR_WINDOW
from src.experiment import InputError, TextPrep
from src.resources.cache import cache_dir

WORDS = [f"w{number}" for number in range(40)]
CLS, SEP, FIRST = 2, 3, 4
"""Ids of `bert_like`; word w0 is `FIRST`, w1 the next."""


def plain(words: Sequence[str] = WORDS) -> Tokenizer:
    """A tokenizer without special tokens of its own: [PAD] 0, [UNK] 1, then the words."""
    names = (PAD, UNKNOWN, *words)
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def bert_like(folder: Path) -> Tokenizer:
    """A tokenizer out of a folder, as a pretrained one: [CLS] before each text and [SEP] after, cut and padded."""
    names = (PAD, UNKNOWN, "[CLS]", "[SEP]", *WORDS)
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(pad_id=0, pad_token=PAD)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return load_tokenizer(str(folder))


def encoder(tokenizer: Tokenizer | None = None, **prep: Any) -> TextEncoder:
    return TextEncoder(tokenizer or plain(), TextPrep(**prep))


def texts_of(lengths: Sequence[int]) -> list[str]:
    """Texts of so many words, no two neighbours alike."""
    return [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(length)) for i, length in enumerate(lengths)]


def all_ids(encoded: Encoded) -> list[list[int]]:
    ends = encoded.offsets.tolist()
    return [encoded.mapped[start:end].tolist() for start, end in itertools.pairwise(ends)]


def unread() -> Iterator[str]:
    raise AssertionError("the texts are read again")
    yield ""


# ------------------------------------------------------------------------------------------------- trained tokenizers
def test_word_vocabulary_is_of_the_given_texts_alone() -> None:
    tokenizer = train_tokenizer(["The cat sat.", "the CAT ran, élan!", "The élan sat?"], "word", 100)
    assert set(tokenizer.get_vocab()) == {PAD, UNKNOWN, "the", "cat", "sat", "elan"}, "lower case, none met only once"
    assert [tokenizer.token_to_id(name) for name in (PAD, UNKNOWN)] == [0, 1]
    assert tokenizer.encode("the dog sat, Cat").tokens == ["the", UNKNOWN, "sat", "cat"]


@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_tokens_are_words_and_the_two_signs_of_feeling(kind: str) -> None:
    text = 'Didn\u2019t he say: "it isn\'t" ?! (well-made, 10/10...)'
    tokens = train_tokenizer([text] * 3, kind, 200).encode(text).tokens
    words = ["didn\u2019t", "he", "say", "it", "isn't", "?", "!", "well", "made", "10", "10"]
    assert tokens == words


def test_wordpiece_spells_words_it_has_not_met_and_never_foreign_letters() -> None:
    tokenizer = train_tokenizer(["unhappy happy unkind kind unhappy kindly happily"] * 5, "wordpiece", 60)
    assert UNKNOWN not in tokenizer.encode("unkindly").tokens
    assert tokenizer.encode("kind happy").tokens == ["kind", "happy"]
    assert tokenizer.encode("Жук").tokens == [UNKNOWN]
    assert [tokenizer.token_to_id(name) for name in (PAD, UNKNOWN)] == [0, 1]
    assert tokenizer.decode(tokenizer.encode("unkindly happily").ids) == "unkindly happily"


@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_the_vocabulary_has_at_most_its_size_and_keeps_the_most_frequent(kind: str) -> None:
    counts = {"one": 9, "two": 8, "three": 7, "four": 2}
    tokenizer = train_tokenizer(
        [f"{word} " * count for word, count in counts.items()], kind, 5 if kind == "word" else 30
    )
    assert tokenizer.get_vocab_size() <= (5 if kind == "word" else 30)
    assert {"one", "two", "three"} <= set(tokenizer.get_vocab())
    assert kind == "wordpiece" or "four" not in tokenizer.get_vocab()


def test_training_reads_texts_one_by_one_and_is_repeatable() -> None:
    texts = texts_of(range(1, 60))
    first, second = (train_tokenizer((text for text in texts), "word", 30) for _ in range(2))
    assert first.to_str() == second.to_str()
    assert first.get_vocab_size() == 30


# ---------------------------------------------------------------------------------------------- loading a tokenizer
def test_a_saved_tokenizer_is_loaded_and_encodes_the_same(tmp_path: Path) -> None:
    trained = train_tokenizer(texts_of([30, 30, 30]), "wordpiece", 60)
    trained.save(str(tmp_path / "tokenizer.json"))
    loaded = load_tokenizer(str(tmp_path))
    assert encoder(loaded)(["w1 W20 other"]) == encoder(trained)(["w1 W20 other"])


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0", "model": {"type": "Word"}}'])
def test_a_damaged_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=f"--vocabulary.tokenizer {tmp_path}: no tokenizer can be read there"):
        load_tokenizer(str(tmp_path))


def test_special_ids_are_looked_up_in_order() -> None:
    tokenizer = plain()
    assert special_id(tokenizer, "<unk>", UNKNOWN) == 1
    assert special_id(tokenizer, "<pad>") == 0


# ---------------------------------------------------------------------------------------------------------- the cut
def test_head_keeps_the_beginning(tmp_path: Path) -> None:
    cut = encoder(bert_like(tmp_path), max_length=10, truncation="head")
    assert cut(texts_of([20])) == [[CLS, *range(FIRST, FIRST + 8), SEP]]


def test_head_tail_keeps_a_quarter_from_the_head_and_the_rest_from_the_tail(tmp_path: Path) -> None:
    cut = encoder(bert_like(tmp_path), max_length=10, truncation="head_tail")
    assert cut(texts_of([20])) == [[CLS, FIRST, FIRST + 1, *range(FIRST + 14, FIRST + 20), SEP]]


def test_a_tokenizer_without_special_tokens_leaves_all_the_room_to_the_text() -> None:
    assert encoder(max_length=8, truncation="head")(texts_of([20])) == [list(range(2, 10))]
    assert encoder(max_length=8, truncation="head_tail")(texts_of([20])) == [[2, 3, *range(16, 22)]]


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(0, 40), st.sampled_from(["head", "head_tail"]))
def test_no_text_is_longer_than_asked_and_shorter_ones_stay_whole(room: int, length: int, truncation: str) -> None:
    whole = list(range(2, 2 + length)) or [1]
    [ids] = encoder(max_length=room, truncation=truncation)([" ".join(WORDS[:length])])
    assert len(ids) == min(room, len(whole))
    assert ids == whole or length > room
    head = next((i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), len(ids))
    assert ids == whole[:head] + whole[len(whole) - (len(ids) - head) :], "a beginning and an end"


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_the_unknown_token(text: str, tmp_path: Path) -> None:
    assert encoder()([text]) == [[1]]
    assert encoder(bert_like(tmp_path))([text, "w0"]) == [[CLS, 1, SEP], [CLS, FIRST, SEP]]


def test_the_tokenizers_own_cut_and_padding_are_turned_off(tmp_path: Path) -> None:
    loaded = bert_like(tmp_path)
    assert len(loaded.encode(" ".join(WORDS[:9])).ids) == 5
    assert [len(ids) for ids in encoder(loaded, max_length=20)(texts_of([1, 9]))] == [3, 11]


def test_a_mistyped_kind_of_tokenizer_is_named_by_its_flag() -> None:
    with pytest.raises(InputError, match=r"--vocabulary.tokenizer wrdpiece: .*Did you mean wordpiece\?"):
        load_tokenizer("wrdpiece")


def test_a_budget_of_tokens_and_one_length_are_refused() -> None:
    with pytest.raises(InputError, match=r"--prep.max-tokens 100: give --batch-size"):
        TextPrep(max_tokens=100, padding="max_length")


@pytest.mark.parametrize("max_length", [1, 2])
def test_a_length_without_room_for_a_token_is_refused(max_length: int, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=f"--prep.max-length {max_length}: no room beside the tokenizer's own 2 tokens"
    ):
        encoder(bert_like(tmp_path), max_length=max_length)
    assert encoder(bert_like(tmp_path), max_length=3)(["w5 w6"]) in ([[CLS, FIRST + 5, SEP]], [[CLS, FIRST + 6, SEP]])


def test_the_key_names_all_that_the_ids_depend_on(tmp_path: Path) -> None:
    encoders = [
        encoder(max_length=8, truncation="head"),
        encoder(max_length=9, truncation="head"),
        encoder(max_length=8, truncation="head_tail"),
        encoder(plain(WORDS[::-1]), max_length=8, truncation="head"),
        encoder(bert_like(tmp_path), max_length=8, truncation="head"),
    ]
    assert len({each.key() for each in encoders}) == len(encoders)
    assert encoder(max_length=8, truncation="head").key() == encoders[0].key()


# ----------------------------------------------------------------------------------------------- encoded, and the cache
LENGTHS = [number % 13 for number in range(2 * CHUNK + 7)]


@pytest.mark.parametrize("lengths", [LENGTHS, [], [0], [3]], ids=["several chunks", "none", "an empty one", "one"])
def test_in_memory_and_in_the_cache_the_ids_are_those_of_the_encoder(lengths: list[int]) -> None:
    texts = texts_of(lengths)
    expected = encoder(max_length=8)(texts) if texts else []
    memory = encode(iter(texts), encoder(max_length=8))
    cached = encode_once(iter(texts), encoder(max_length=8), "key")
    for encoded in (memory, cached):
        assert all_ids(encoded) == expected
        assert encoded.lengths.tolist() == [len(ids) for ids in expected]
        assert len(encoded) == len(texts)


def test_what_is_cached_is_not_read_again() -> None:
    first = encode_once(texts_of(LENGTHS), encoder(), "key")
    again = encode_once(unread(), encoder(), "key")
    assert again.ids == first.ids
    assert all_ids(again) == all_ids(first)


def test_colleagues_may_read_what_is_cached() -> None:
    cached = encode_once(["w1"], encoder(), "key").ids
    assert isinstance(cached, Path)
    (cache_dir() / "made").mkdir()
    assert cached.parent.stat().st_mode == (cache_dir() / "made").stat().st_mode


def test_other_texts_another_tokenizer_or_another_cut_are_cached_apart(tmp_path: Path) -> None:
    calls = [
        ("key", encoder(max_length=8)),
        ("other", encoder(max_length=8)),
        ("key", encoder(max_length=7)),
        ("key", encoder(bert_like(tmp_path), max_length=8)),
    ]
    found = [encode_once(texts_of([i + 1, 30]), made, key) for i, (key, made) in enumerate(calls)]
    assert [all_ids(each) for each in found] == [made(texts_of([i + 1, 30])) for i, (_, made) in enumerate(calls)]


@pytest.mark.parametrize("vocabulary", [100, 70_000])
def test_ids_take_two_bytes_where_that_is_enough(vocabulary: int) -> None:
    words = [f"x{number}" for number in range(vocabulary)]
    encoded = encode_once([f"x0 x{vocabulary - 1}"], encoder(plain(words)), "key")
    assert all_ids(encoded) == [[2, vocabulary + 1]]
    assert isinstance(encoded.ids, Path)
    assert encoded.ids.stat().st_size == 2 * (2 if vocabulary == 100 else 4)


@pytest.mark.parametrize("name", ["ids.bin", "offsets.npy"])
@pytest.mark.parametrize("damage", ["cut short", "empty", "gone"])
def test_a_damaged_cache_is_made_anew(name: str, damage: str) -> None:
    made = encode_once(texts_of(LENGTHS), encoder(), "key")
    expected = all_ids(made)
    assert isinstance(made.ids, Path)
    path = made.ids.parent / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-2] if damage == "cut short" else b"")
    assert all_ids(encode_once(texts_of(LENGTHS), encoder(), "key")) == expected
    assert path.read_bytes() == content


def left_behind() -> list[str]:
    """What the cache has but locks."""
    return [path.name for path in (cache_dir() / "tokens").rglob("*") if path.suffix != ".lock"]


def test_texts_that_break_off_leave_nothing_behind() -> None:
    def broken() -> Iterator[str]:
        yield from texts_of(LENGTHS)
        raise InputError("reviews.csv, line 2008: broken quoting")

    with pytest.raises(InputError, match=r"^reviews.csv, line 2008"):
        encode_once(broken(), encoder(), "key")
    assert left_behind() == []
    assert all_ids(encode_once(texts_of([3]), encoder(), "key")) == [[2, 3, 4]], "nor a lock that is held"


@pytest.mark.parametrize("words", [1, 30], ids=["the offsets do not fit", "the ids do not fit"])
def test_a_full_disk_is_said_and_leaves_nothing_behind(words: int) -> None:
    resource = pytest.importorskip("resource")
    texts = texts_of([words] * (2 * CHUNK))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(texts) + 1000, before[1]))  # no file may grow beyond
    try:
        with pytest.raises(InputError, match=r"cannot be kept \(.+\)\. Free some space, or set LEYDEN_CACHE"):
            encode_once(texts, encoder(), "key")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert left_behind() == []
    assert len(encode_once(texts, encoder(), "key")) == len(texts)


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LEYDEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=f"{tmp_path}/file.*cannot be kept .*LEYDEN_CACHE"):
        encode_once(["w1"], encoder(), "key")


def test_of_two_that_want_the_same_texts_one_waits_for_the_other() -> None:
    started, reads = threading.Barrier(2), []

    def texts() -> Iterator[str]:
        reads.append(1)
        time.sleep(0.2)  # long enough for the other to come and find the lock
        yield from texts_of([5, 6])

    def ask(_: int) -> list[list[int]]:
        started.wait()
        return all_ids(encode_once(texts(), encoder(), "key"))

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert first == second == [[*range(2, 7)], [*range(3, 9)]]
    assert len(reads) == 1


def test_workers_are_sent_the_files_name_and_not_the_ids() -> None:
    cached = encode_once(texts_of([20_000]), encoder(max_length=20_000), "key")
    assert len(cached.mapped) == 20_000
    sent = pickle.dumps(cached)
    assert len(sent) < 2000
    assert all_ids(pickle.loads(sent)) == all_ids(cached)


# -------------------------------------------------------------------------------------------------------------- batches
def batches_of(lengths: Sequence[int], make: Callable[..., Encoded] = encode, **arguments: Any) -> Tokens:
    """Batches of texts of so many tokens, the last text first; the target is the number of tokens."""
    made = make(texts_of(lengths), encoder(), **({"key": "key"} if make is encode_once else {}))
    rows = np.arange(len(lengths))[::-1].copy()
    return Tokens(made, rows, torch.tensor(lengths).flip(0), **{"pad_id": 99} | arguments)


@pytest.mark.parametrize("make", [encode, encode_once])
def test_a_batch_is_padded_to_its_longest(make: Callable[..., Encoded]) -> None:
    batch = batches_of([1, 9, 2, 3], make)[[3, 1]]
    assert batch["tokens"].tolist() == [[2, 99], [4, 5]]
    assert batch["mask"].tolist() == [[True, False], [True, True]]
    assert batch["target"].tolist() == [1, 2]
    assert batch["index"].tolist() == [3, 1], "as asked for, not in the table's order"
    types = {name: value.dtype for name, value in batch.items()}
    assert types == {"tokens": torch.int64, "mask": torch.bool, "target": torch.int64, "index": torch.int64}


def test_a_batch_is_padded_to_a_length_that_is_asked_for() -> None:
    data = batches_of([1, 3], pad_to=5)
    for keys in ([0], [1], [0, 1]):
        assert data[keys]["tokens"].shape == data[keys]["mask"].shape == (len(keys), 5)
    assert data[[1]]["tokens"].tolist() == [[2, 99, 99, 99, 99]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 1000), st.data())
def test_every_text_is_where_the_mask_is_whatever_the_epoch(
    lengths: list[int], epoch: int, data: st.DataObject
) -> None:
    indices = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=8))
    made = batches_of(lengths)
    batch = made[[epoch * len(made) + index for index in indices]]
    texts = encoder()(texts_of(lengths))[::-1]
    assert len(made) == len(lengths)
    assert batch["index"].tolist() == indices
    assert batch["tokens"].shape[1] == max(len(texts[index]) for index in indices)
    for tokens, mask, index in zip(batch["tokens"], batch["mask"], indices, strict=True):
        assert tokens[mask].tolist() == texts[index]
        assert (tokens[~mask] == 99).all()
        assert mask.sum() == len(texts[index])


def test_a_pickled_data_set_gives_the_same_batches() -> None:
    data = batches_of([4, 1, 7], encode_once)
    expected: dict[str, Tensor] = data[[2, 0]]
    found: dict[str, Tensor] = pickle.loads(pickle.dumps(data))[[2, 0]]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_inputs_leave_out_those_with_an_error_and_say_why() -> None:
    encoded = encode(["w0 w1", "", "w2"], encoder())
    given = Given(encoded, ["0", "1", "2"], "id", ["", "", ""], {1: "empty text"})
    inputs = PreparedBatches(PreparedTexts(given, [], pad_id=0))
    assert len(inputs) == 3
    batch = inputs[[2, 1, 0]]
    assert batch["index"].tolist() == [2, 0]
    assert batch["tokens"].tolist() == [[4, 0], [2, 3]]
    assert batch["error"] == {1: "empty text"}
    assert inputs[[0, 2]]["error"] == {}
    nothing = inputs[[1]]
    assert nothing["error"] == {1: "empty text"}
    assert len(nothing["tokens"]) == len(nothing["index"]) == 0


# ------------------------------------------------------------------------------------------------- vectors from a file
GLOVE = "w0 0.5 -1 2\nother 9 9 9\n\x85 9 9 9\nw3 1e-3 0 .25\n\n"


def vectors_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "vectors.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("head", ["", "3 3\n"], ids=["GloVe", "word2vec"])
@pytest.mark.parametrize("end", ["\n", " \n", "\r\n"])
def test_words_get_their_vectors_and_all_others_nan(head: str, end: str, tmp_path: Path) -> None:
    path = vectors_file(tmp_path, (head + GLOVE).replace("\n", end))
    found = np.load(read_vectors(path, plain()), allow_pickle=False)
    assert found.dtype == np.float32
    assert found.shape == (len(WORDS) + 2, 3)
    expected = {2: [0.5, -1, 2], 5: [0.001, 0, 0.25]}
    assert np.flatnonzero(~np.isnan(found).any(1)).tolist() == list(expected)
    for token, vector in expected.items():
        np.testing.assert_allclose(found[token], vector)
    assert np.isnan(np.delete(found, list(expected), 0)).all()


def test_read_vectors_are_cached_for_each_file_and_vocabulary(tmp_path: Path) -> None:
    path = vectors_file(tmp_path, GLOVE)
    first = read_vectors(path, plain())
    assert first.is_relative_to(cache_dir())
    written = first.stat().st_mtime_ns
    assert read_vectors(path, plain()) == first
    assert first.stat().st_mtime_ns == written, "not made again"
    other = read_vectors(path, plain(WORDS[::-1]))
    assert np.flatnonzero(~np.isnan(np.load(other)).any(1)).tolist() == [38, 41]
    changed = read_vectors(vectors_file(tmp_path, GLOVE.replace("w3", "w4")), plain())
    assert np.flatnonzero(~np.isnan(np.load(changed)).any(1)).tolist() == [2, 6]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("w0 1 2 3\nw1 1 2\n", r", line 2: 2 numbers, but 3 in the first line\."),
        ("2 3\nw0 1 2 3\nw1 1 2 3 4\n", r", line 3: 4 numbers, but 3 in the first line\."),
        ("other 1 2\nw1 1 two\n", r", line 2: could not convert string to float: 'two'\."),
        ("w0\nw1\n", r", line 1: 0 numbers"),
        ("", ": no vectors"),
        ("3 3\n", ": no vectors"),
    ],
    ids=["too few", "too many", "no number", "words alone", "empty", "a head alone"],
)
def test_a_file_that_has_no_vectors_is_refused(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = vectors_file(tmp_path, content)
    for _ in range(2):
        with pytest.raises(InputError, match=f"--vocabulary.vectors {path}{message}"):
            read_vectors(path, plain())


def test_words_with_blanks_or_without_an_encoding_are_words(tmp_path: Path) -> None:
    path = vectors_file(tmp_path, b"w0 1 2\n. . . 3 4\nat name@domain.com 5 6\nw\xe9 7 8\nw2 9 10\n")
    found = np.load(read_vectors(path, plain()))
    there = np.flatnonzero(~np.isnan(found).any(1))
    assert found[there].tolist() == [[1, 2], [9, 10]]


def test_a_missing_file_of_vectors_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"--vocabulary.vectors {tmp_path}/none.txt: cannot be read"):
        read_vectors(tmp_path / "none.txt", plain())


# --------------------------------------------------------------------------------------------------- vectors of its own
ROOMS = {"pet": WORDS[:4], "car": WORDS[4:8]}
"""Words that stand for one another: no two of them are in one text."""
CONTEXTS = {"pet": WORDS[10:22], "car": WORDS[22:34]}


def film_texts(count: int = 400) -> list[str]:
    """Texts of one word of a room among words of the room's contexts."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        room = ("pet", "car")[number % 2]
        words = rng.choice(CONTEXTS[room], 8).tolist()
        words.insert(4, str(rng.choice(ROOMS[room])))
        found.append(" ".join(words))
    return found


def vectors_of(texts: Sequence[str], rows: np.ndarray | None = None, *, width: int = 8, key: str = "key") -> np.ndarray:
    encoded = encode(texts, encoder())
    rows = np.arange(len(texts)) if rows is None else rows
    return np.load(own_vectors(encoded, rows, len(WORDS) + 2, width, key=key), allow_pickle=False)


def test_words_that_share_contexts_are_nearer_than_words_that_do_not() -> None:
    vectors = vectors_of(film_texts())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    pet, car = ([2 + WORDS.index(word) for word in ROOMS[room]] for room in ("pet", "car"))
    near = np.concatenate([cosine[np.ix_(room, room)][~np.eye(4, dtype=bool)] for room in (pet, car)])
    assert near.min() > cosine[np.ix_(pet, car)].max() + 0.5


@pytest.mark.parametrize("width", [4, 100])
def test_own_vectors_have_the_width_that_is_asked_for_and_a_fixed_spread(width: int) -> None:
    vectors = vectors_of(film_texts(), width=width)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(WORDS) + 2, width)
    np.testing.assert_allclose(vectors.std(), STD, rtol=1e-3)
    np.testing.assert_allclose(vectors.mean(0), 0, atol=1e-5)


def test_own_vectors_are_the_same_each_time_and_of_the_training_texts_alone() -> None:
    texts = film_texts()
    vectors = vectors_of(texts, key="a")
    np.testing.assert_array_equal(vectors, vectors_of(texts, key="b"))
    held_out = [" ".join(WORDS[::-1])] * 50
    rows = np.arange(len(texts)) + len(held_out)
    np.testing.assert_array_equal(vectors, vectors_of(held_out + texts, rows, key="c"))
    assert not np.array_equal(vectors, vectors_of(held_out + texts, key="d"))


def test_own_vectors_look_at_so_many_tokens_from_all_over_the_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = film_texts(100)
    everything = vectors_of(texts, key="a")
    monkeypatch.setattr("src.datamodules.texts.vectors.MOST_TOKENS", 9 * 40)
    some = vectors_of(texts, key="b")
    np.testing.assert_array_equal(vectors_of(texts, key="c"), some)
    assert not np.array_equal(some, everything)
    assert not np.array_equal(some, vectors_of(texts[:40], key="d")), "not simply the first"


def test_own_vectors_are_cached_by_their_key() -> None:
    vectors = vectors_of(film_texts(), key="a")
    np.testing.assert_array_equal(vectors_of(film_texts(20), key="a"), vectors)
    assert not np.array_equal(vectors_of(film_texts(20), key="b"), vectors)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=14), min_size=1, max_size=5), st.data())
def test_tokens_are_counted_with_those_near_them_in_their_own_text(found: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(found) - 1), unique=True, min_size=1).map(sorted))
    expected = np.zeros((5, 5))
    for ids in (found[row] for row in rows):
        for i, a in enumerate(ids):
            for j, b in enumerate(ids):
                if 0 < abs(i - j) <= VECTOR_WINDOW:
                    expected[a, b] += 1 / abs(i - j)
    encoded = Encoded(np.concatenate(found), "int64", np.cumsum([0, *map(len, found)]))
    np.testing.assert_allclose(count_together(encoded, np.array(rows), 5).toarray(), expected, rtol=1e-5)


def test_mutual_information_is_that_of_the_formula() -> None:
    counts = np.random.default_rng(0).integers(0, 5, (6, 6)) + np.eye(6)
    counts += counts.T
    joint, word = counts / counts.sum(), counts.sum(1) / counts.sum()
    context = counts.sum(0) ** 0.75 / (counts.sum(0) ** 0.75).sum()
    with np.errstate(divide="ignore"):
        expected = np.log(joint / np.outer(word, context)).clip(0)
    assert 0 < (expected > 0).sum() < expected.size
    np.testing.assert_allclose(mutual_information(sparse.csr_matrix(counts)).toarray(), expected, atol=1e-6)
