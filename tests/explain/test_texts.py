"""Explanations of texts: parts are words as written, methods keep their promises, and a planted word is found."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from conftest import Tiny, own_home
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from experiments.texts import (
    TextsBert,
    TextsBertMultiLabel,
    TextsBertRegression,
    TextsLstm,
    TextsMultiLabel,
    TextsRegression,
)
from src.datamodules import DataModule
from src.datamodules.texts.text_files import STDIN
from src.datamodules.texts.tokens import TextEncoder, train_tokenizer
from src.experiment import Experiment, InputError, Recurrent, TextPrep, Vocabulary
from src.explain.perturbation import lime, occlusion
from src.explain.subject import Subject
from src.explain.text_gradients import along_line, integrated_gradients
from src.explain.texts import TextExample, attention_rollout, read
from src.inference.predictor import load_run, predict
from src.resources.hub import PACKAGED_ENCODER
from src.tasks import Task
from src.training import runner

pytestmark = pytest.mark.usefixtures("quiet")

SAMPLE = "Didn\u2019t he say: \u201cA well-made film,\u201d 3.14 times? Caf\u00e9 \U0001f600 unbelievably \u2026 GOOD!"
PARTS = ["Didn\u2019t", "he", "say", "well-made", "film", "3.14", "times", "Caf\u00e9", "unbelievably", "GOOD"]
"""Words among the parts, whatever the tokenizer."""


# ---------------------------------------------------------------------------------------------------------- tokenizers
def whole_words() -> Tokenizer:
    return train_tokenizer([SAMPLE] * 3, "word", 100)


def word_pieces() -> Tokenizer:
    return train_tokenizer([SAMPLE] * 3, "wordpiece", 60)


def bert() -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator([SAMPLE] * 3, trainers.WordPieceTrainer(vocab_size=70, special_tokens=special))
    ends = [(name, special.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def byte_pairs() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [SAMPLE] * 3, trainers.BpeTrainer(vocab_size=290, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    return tokenizer


def sentence_pieces() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        [SAMPLE] * 3, trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>", "<mask>"], unk_token="<unk>")
    )
    return tokenizer


MAKERS = [whole_words, word_pieces, bert, byte_pairs, sentence_pieces]
HIDES = {whole_words: "[UNK]", word_pieces: "[UNK]", bert: "[MASK]", byte_pairs: "<mask>", sentence_pieces: "<mask>"}


def example_of(tokenizer: Tokenizer, text: str, hide: str = "[UNK]", **prep: Any) -> TextExample:
    hide_id = tokenizer.token_to_id(hide)
    assert hide_id is not None
    return TextExample("0", text, TextEncoder(tokenizer, TextPrep(**prep)).located(text), hide_id)


@pytest.mark.parametrize("maker", MAKERS)
def test_parts_are_the_words_that_the_user_wrote(maker: Callable[[], Tokenizer]) -> None:
    names = example_of(maker(), SAMPLE, HIDES[maker]).names
    assert [name for name in names if name in PARTS] == PARTS, names


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("truncation", ["head", "head_tail"])
@pytest.mark.parametrize("text", [SAMPLE, SAMPLE * 5, "", "\u2026"])
def test_an_example_has_the_tokens_that_the_network_reads(
    maker: Callable[[], Tokenizer], truncation: Any, text: str
) -> None:
    encoder = TextEncoder(maker(), TextPrep(max_length=30, truncation=truncation))
    located = encoder.located(text)
    assert located.ids == encoder([text])[0]
    assert len(located.spans) == len(located.ids) <= 30


@pytest.mark.parametrize("maker", MAKERS)
def test_a_hidden_word_leaves_the_length_and_all_other_tokens(maker: Callable[[], Tokenizer]) -> None:
    tokenizer = maker()
    example = example_of(tokenizer, SAMPLE, HIDES[maker])
    (tokens, mask), length = example.tensors, example.tensors[0].shape[1]
    word = example.names.index("unbelievably")
    kept = np.ones((3, len(example)), bool)
    kept[1, word] = False
    kept[2] = False
    found, found_mask = example.hidden(kept)
    assert found.shape == found_mask.shape == (3, length)
    assert found_mask.all()
    assert mask.all()
    assert torch.equal(found[0], tokens[0])
    changed = (found[1] != tokens[0]).nonzero()[:, 0]
    pieces = tokenizer.encode(" unbelievably", add_special_tokens=False).tokens
    assert (found[1][changed] == tokenizer.token_to_id(HIDES[maker])).all()
    assert 1 <= len(changed) <= len(pieces)
    assert (example.part_of[changed] == word).all()
    own = {tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "<s>", "</s>")}
    special = torch.tensor([token in own for token in tokens[0].tolist()])
    assert torch.equal(found[2][special], tokens[0][special]), "special tokens stay"
    left = {tokenizer.id_to_token(token) for token in found[2][~special].tolist()}
    assert left - {"\u0120", "\u2581"} == {HIDES[maker]}, "a space may be a token, and stays"


def test_words_that_share_a_token_are_one_part() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "film,": 1, "so": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert example_of(tokenizer, "A film, so!").names == ("A", "film,", "so!")


def test_scripts_without_spaces_are_cut_by_character() -> None:
    assert example_of(bert(), "\u7535\u5f71 GOOD").names == ("\u7535", "\u5f71", "GOOD")


def test_of_a_long_text_the_words_that_are_read_are_parts() -> None:
    text = " ".join(f"w{number}" for number in range(10_000))
    example = example_of(train_tokenizer([text] * 2, "word", 20_000), text, max_length=64)
    assert example.names == tuple(f"w{number}" for number in [*range(16), *range(9952, 10_000)])
    assert example.unread == 10_000 - 64


# --------------------------------------------------------------------------------------------------------- experiments
SHORT: dict[str, Any] = {"prep": TextPrep(max_length=16)}


def parts(experiment: Experiment) -> tuple[DataModule, Task]:
    """Return an experiment's data module and its task with random weights."""
    datamodule: Any = experiment.datamodule()
    datamodule.setup("fit")
    torch.manual_seed(0)
    task: Any = experiment.task(datamodule.spec)
    for parameter in task.model.head.parameters():  # of a random network it is near 0, and so were all scores
        nn.init.normal_(parameter)
    return datamodule, task


def lstm(kind: type[Experiment], tiny: Tiny) -> Experiment:
    small: dict[str, Any] = {"vocabulary": Vocabulary(size=100, width=8), "lstm": Recurrent(hidden=4)}
    return kind(**SHORT, **small, **tiny(kind))


KINDS = [TextsLstm, TextsMultiLabel, TextsRegression, TextsBert, TextsBertMultiLabel, TextsBertRegression]
TEXTS = ["The film was a superb plot, and great!", "weak", "a dull the film film was awful " * 4]


@pytest.mark.parametrize("maker", MAKERS)
def test_the_tokenizers_own_token_hides(maker: Callable[[], Tokenizer], tiny: Tiny, tmp_path: Path) -> None:
    tokenizer = maker()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    fields: dict[str, Any] = tiny(TextsLstm) | SHORT | {"vocabulary": Vocabulary(tokenizer=str(tmp_path), width=8)}
    datamodule, task = parts(TextsLstm(**fields))
    (example,), _, _ = read(datamodule, task.spec, ["film"])
    hidden = example.hidden(np.zeros((1, len(example)), bool))[0][0].numpy()[example.part_of >= 0]
    assert {tokenizer.id_to_token(token) for token in hidden.tolist()} == {HIDES[maker]}


def subject_of(kind: type[Experiment], tiny: Tiny) -> tuple[Subject, list[TextExample], list[int]]:
    bert_like = "Bert" in kind.__name__
    datamodule, task = parts(kind(**SHORT, **tiny(kind)) if bert_like else lstm(kind, tiny))
    examples, errors, _ = read(datamodule, task.spec, TEXTS)
    assert not errors
    subject = Subject(task)
    return subject, examples, subject.likeliest(examples)


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_explains_every_objective(kind: type[Experiment], tiny: Tiny) -> None:
    subject, examples, targets = subject_of(kind, tiny)
    found = integrated_gradients(subject, examples, targets)
    for attribution, example in zip(found, examples, strict=True):
        assert attribution.values.shape == (len(example),)
        assert attribution.sums_to is not None
        assert attribution.values.sum() == pytest.approx(attribution.sums_to, rel=0.01, abs=1e-6)
    assert any(attribution.sums_to for attribution in found)
    for method in (occlusion, lime):
        for attribution, example in zip(method(subject, examples, targets), examples, strict=True):
            assert attribution.values.shape == (len(example),)
            assert np.isfinite(attribution.values).all()


def log_odds(network: Any, target: int, *inputs: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of a class's probability over that of all others, [examples]."""
    prob = network(*inputs).softmax(1)[:, target]
    return prob.log() - (1 - prob).log()


def test_integrated_gradients_are_captums_for_a_recurrent_network(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.explain.line.INCOMPLETE", 1)  # captum halves no piece of the line
    subject, examples, targets = subject_of(TextsLstm, tiny)
    network: Any = subject.network
    found = integrated_gradients(subject, examples, targets)
    for attribution, example, target in zip(found, examples, targets, strict=True):
        tokens, mask = example.tensors
        captum = LayerIntegratedGradients(partial(log_odds, network, target), network.embedding)
        own: Any = captum.attribute(tokens, torch.ones_like(tokens), additional_forward_args=(mask,), n_steps=32)
        words = np.bincount(example.part_of, own[0].sum(-1).detach().numpy())
        np.testing.assert_allclose(attribution.values, words, atol=1e-6)


def test_integrated_gradients_are_captums_for_an_encoder(tiny: Tiny) -> None:
    subject, examples, targets = subject_of(TextsBert, tiny)
    network: Any = subject.network
    found = integrated_gradients(subject, examples, targets)
    layer = network.encoder.get_input_embeddings()

    def of_vectors(vectors: torch.Tensor) -> torch.Tensor:
        return network.head(network.encoder(inputs_embeds=vectors).last_hidden_state.mean(1))

    for attribution, example, target in zip(found, examples, targets, strict=True):
        tokens = example.tensors[0]
        bare = tokens.clone()
        bare[:, 1:-1] = 1
        captum = IntegratedGradients(partial(log_odds, of_vectors, target))
        own: Any = captum.attribute(layer(tokens), layer(bare), n_steps=32)
        words = np.bincount(example.part_of[1:-1], own[0].sum(-1).detach().numpy()[1:-1])
        np.testing.assert_allclose(attribution.values, words, atol=1e-6)


def test_values_add_up_where_the_gradient_jumps() -> None:
    generator = torch.Generator().manual_seed(4)
    start, end = torch.randn(2, 1, 12, 16, generator=generator)
    points = 0

    def score(vectors: torch.Tensor) -> torch.Tensor:
        nonlocal points
        points += len(vectors)
        return vectors.amax(1).sum(1)  # a maximum over the tokens

    values, difference = along_line(score, start, end)
    assert points < 1000
    assert difference == pytest.approx(float(score(end) - score(start)))
    assert values.sum() == pytest.approx(difference, rel=0.01)
    captum = IntegratedGradients(score)
    even = captum.attribute(end, start, n_steps=128)
    assert abs(float(even.sum()) - difference) > 0.01 * abs(difference), "as many even steps miss it"
    many = captum.attribute(end, start, n_steps=4096, method="riemann_middle")
    np.testing.assert_allclose(values, many[0].sum(-1), atol=0.02)


def test_attention_is_rolled_out_and_the_encoder_left_as_it_was(tiny: Tiny) -> None:
    subject, examples, targets = subject_of(TextsBert, tiny)
    network: Any = subject.network
    example = examples[0]
    before, way = subject.outputs(example.tensors), network.encoder.config._attn_implementation
    (found, *_) = attention_rollout(subject, examples, targets)
    assert network.encoder.config._attn_implementation == way != "eager"
    assert torch.equal(subject.outputs(example.tensors), before)
    reference = transformers.BertModel(network.encoder.config).eval()
    reference.load_state_dict(network.encoder.state_dict())
    reference.set_attn_implementation("eager")
    with torch.no_grad():
        layers: Any = reference(example.tensors[0], output_attentions=True).attentions
    size = example.tensors[0].shape[1]
    first, second = (layer[0].mean(0).double() / 2 + torch.eye(size) / 2 for layer in layers)
    tokens = (second @ first).mean(0).numpy()
    assert tokens.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.values, np.bincount(example.part_of[1:-1], tokens[1:-1]), rtol=1e-5)


def test_a_network_without_attention_is_told_what_fits(tiny: Tiny) -> None:
    subject, examples, targets = subject_of(TextsLstm, tiny)
    with pytest.raises(InputError, match=r"LSTM is no encoder.* integrated-gradients, occlusion or lime"):
        attention_rollout(subject, examples, targets)


def test_a_network_without_token_vectors_is_told_what_fits(tiny: Tiny) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(100, 2)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.head(nn.functional.one_hot(tokens, 100).float().mean(1))

    subject, examples, targets = subject_of(TextsLstm, tiny)
    subject.task.model = Counts()
    with pytest.raises(InputError, match=r"Counts has no nn.Embedding.* occlusion or lime"):
        integrated_gradients(subject, examples, targets)


def test_a_text_of_ten_thousand_words_is_explained_by_those_that_are_read(tiny: Tiny) -> None:
    datamodule, task = parts(lstm(TextsLstm, tiny))
    examples, errors, notes = read(datamodule, task.spec, ["superb film " * 5000, "the film"])
    assert [len(example) for example in examples] == [16, 2]
    assert not errors
    assert "1 of 2 texts are longer than the 16 tokens" in notes[-1]
    assert "text 0: 9984 of 10000 words and signs were not read" in notes[-1]
    subject = Subject(task)
    asked = list[int]()
    subject.task.model.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    occlusion(subject, examples[:1], [0])
    assert sum(asked) == 17


def test_texts_are_read_from_stdin_once(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    datamodule, task = parts(lstm(TextsLstm, tiny))
    (tmp_path / "in.txt").write_text("the film\n\nawful\n")
    with open(tmp_path / "in.txt", encoding="utf-8") as lines:
        monkeypatch.setattr("sys.stdin", lines)
        examples, errors, _ = read(datamodule, task.spec, [STDIN])
    assert [(example.id, example.names) for example in examples] == [("0", ("the", "film")), ("2", ("awful",))]
    assert errors == {"1": "empty text"}


def test_what_texts_came_with_is_kept(tiny: Tiny) -> None:
    datamodule, task = parts(lstm(TextsRegression, tiny))
    frame = pd.DataFrame({"text": ["a film", "a plot"], "stars": ["3,50", ""]})
    examples, _, _ = read(datamodule, task.spec, [frame])
    assert [example.expected for example in examples] == ["3.5", ""]


# -------------------------------------------------------------------------------------------------------- planted word
PLANTED = "Umbrella"
OTHERS = [f"word{number}" for number in range(60)]


def texts_with(word: str, count: int, seed: int) -> list[str]:
    """Return texts of 5 to 40 words, each with one word planted anywhere in it."""
    rng = random.Random(seed)
    found = list[str]()
    for _ in range(count):
        words = rng.choices(OTHERS, k=rng.randint(5, 40))
        words.insert(rng.randint(0, len(words)), word)
        found.append(" ".join(words))
    return found


def train(kind: type[Experiment], home: Path, count: int, **fields: Any) -> Path:
    """Train on texts of two classes, one of which has the planted word."""
    rows = [(text, "wet") for text in texts_with(PLANTED, count, 0)]
    rows += [(text, "dry") for text in texts_with("", count, 1)]
    with open(home / "texts.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    fields |= {"data_dir": home / "texts.csv", "precision": "32-true", "accelerator": "cpu"}
    with own_home(home):
        return runner.run(kind(**fields))


SMALL: dict[str, Any] = {
    "vocabulary": Vocabulary(size=200, width=16),
    "lstm": Recurrent(hidden=8, word_dropout=0.2),
    "max_epochs": 12,
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an LSTM on texts with a planted word; not to be changed."""
    return train(TextsLstm, tmp_path_factory.mktemp("planted"), 150, **SMALL)


def ready(run: Path) -> tuple[DataModule, Subject]:
    experiment, _, task = load_run(run)
    datamodule: Any = experiment.datamodule()
    datamodule.restore(run)
    return datamodule, Subject(task)


def share_found(run: Path, method: Any, count: int) -> float:
    """Return the share of fresh texts of which the planted word has the greatest value for the predicted class."""
    datamodule, subject = ready(run)
    examples, _, _ = read(datamodule, subject.spec, texts_with(PLANTED, count, 2))
    found = method(subject, examples, subject.likeliest(examples))
    first = [pair[0].names[pair[1].values.argmax()] for pair in zip(examples, found, strict=True)]
    return first.count(PLANTED) / count


@pytest.mark.parametrize("method", [integrated_gradients, occlusion, lime])
def test_the_planted_word_is_ranked_first(planted: Path, method: Any) -> None:
    assert share_found(planted, method, 40) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("method", [integrated_gradients, occlusion])
def test_the_planted_word_is_ranked_first_in_two_hundred_texts(planted: Path, method: Any) -> None:
    assert share_found(planted, method, 200) >= 0.95


@pytest.mark.slow
def test_a_pretrained_encoder_shows_the_planted_word(tmp_path: Path) -> None:
    run = train(TextsBert, tmp_path, 300, encoder=PACKAGED_ENCODER, batch_size=16, max_epochs=2)
    assert share_found(run, integrated_gradients, 200) >= 0.95
    assert share_found(run, occlusion, 200) >= 0.95


def test_examples_have_the_ids_of_the_predictions(planted: Path, tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"text": ["a <b>word1</b>", "", "\u2026", PLANTED], "id": ["x", "y", "z", "w"], "label": "dry"}
    )
    (tmp_path / "lines.txt").write_text("word1\nword2\n")
    datamodule, subject = ready(planted)
    for inputs in ([table], [tmp_path / "lines.txt"], [tmp_path / "lines.txt", table], ["word1 word2"]):
        examples, errors, _ = read(datamodule, subject.spec, inputs)
        ids = [*predict(planted, inputs, accelerator="cpu").ids]
        assert sorted([*errors, *(example.id for example in examples)]) == sorted(ids)
        assert [id for id in ids if id not in errors] == [example.id for example in examples]
    examples, errors, _ = read(datamodule, subject.spec, [table])
    assert errors == {"y": "empty text", "z": "no word that the tokenizer knows how to read"}
    assert [example.expected for example in examples] == ["dry", "dry"]
