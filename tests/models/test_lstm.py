"""The recurrent network: equal to the equations and to torch's packed sequences, blind to padding, and exportable."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from src.experiment import DataSpec, InputError, Recurrent
from src.models import LSTM

CLASSES = 3
SPEC = DataSpec(input_shape=(12,), vocab_size=30, pad_id=0, unknown_id=1)
WIDTH, HIDDEN = 5, 4
POOLINGS = [("last",), ("mean",), ("max",), ("attention",), ("last", "mean", "max", "attention")]
Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def network(hidden: int = HIDDEN, width: int = WIDTH, **shape: Any) -> LSTM:
    """Return a network with larger weights than it starts with, so that whatever matters shows in the result."""
    model = LSTM(SPEC, CLASSES, width, Recurrent(hidden=hidden, **shape))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty_like(parameter).normal_(std=0.7))
    return model


def joined(texts: list[list[int]], *, extra: int = 0, filler: int | None = 0) -> tuple[Tensor, Tensor]:
    """Return the texts as one batch, filled up with `filler`, or with tokens at random where that is None."""
    longest = max(map(len, texts)) + extra
    tokens = torch.randint(SPEC.vocab_size, (len(texts), longest)) if filler is None else torch.full((1, 1), filler)
    tokens = tokens.expand(len(texts), longest).clone()
    mask = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text)
        mask[row, : len(text)] = True
    return tokens, mask


def some_texts(count: int = 6, longest: int = 9) -> list[list[int]]:
    """Return texts of different lengths, one token the shortest."""
    rng = np.random.default_rng(2)
    return [rng.integers(2, SPEC.vocab_size, 1 + i * (longest - 1) // (count - 1)).tolist() for i in range(count)]


# ------------------------------------------------------------------------------------------------------- what comes out
@pytest.mark.parametrize("pooling", POOLINGS, ids="+".join)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_a_row_a_text_and_all_poolings_of_all_directions_side_by_side(
    pooling: tuple[str, ...], layers: int, bidirectional: bool
) -> None:
    model = network(pooling=pooling, layers=layers, bidirectional=bidirectional).eval()
    batch = joined(some_texts())
    features = model.features(*batch)
    assert features.shape == (6, HIDDEN * (1 + bidirectional) * len(pooling))
    assert model(*batch).shape == (6, 3)
    torch.testing.assert_close(model(*batch), model.head(features))


@functools.cache
def reader(pooling: tuple[str, ...], layers: int, bidirectional: bool) -> LSTM:
    return network(pooling=pooling, layers=layers, bidirectional=bidirectional).eval()


@settings(deadline=None, max_examples=60)
@given(
    st.builds(reader, st.sampled_from(POOLINGS), st.sampled_from([1, 2]), st.booleans()),
    st.lists(st.lists(st.integers(0, SPEC.vocab_size - 1), min_size=1, max_size=9), min_size=1, max_size=5),
    st.integers(0, 6),
    st.randoms(use_true_random=False),
)
def test_neither_padding_nor_its_tokens_nor_batch_mates_nor_their_order_change_a_result(
    model: LSTM, texts: list[list[int]], extra: int, random: Any
) -> None:
    order = random.sample(range(len(texts)), len(texts))
    with torch.no_grad():
        alone = torch.cat([model(*joined([texts[i]])) for i in order])
        together = model(*joined([texts[i] for i in order], extra=extra, filler=None))
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", POOLINGS, ids="+".join)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_the_order_of_the_words_matters(pooling: tuple[str, ...], bidirectional: bool) -> None:
    model = network(pooling=pooling, bidirectional=bidirectional).eval()
    text = [3, 7, 20, 11]
    there, back = model(*joined([text])), model(*joined([text[::-1]]))
    assert (there - back).abs().max() > 1e-3


# -------------------------------------------------------------------------------------------------------- the equations
def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def states_by_hand(inputs: Array, w_ih: Array, w_hh: Array, b_ih: Array, b_hh: Array) -> Array:
    """Return the states [steps, hidden]; input gate, forget gate (Gers et al. 2000), candidate, output gate."""
    hidden = w_hh.shape[1]
    h, c, states = np.zeros(hidden), np.zeros(hidden), []
    for x in inputs:
        gates = w_ih @ x + b_ih + w_hh @ h + b_hh
        i, f, g, o = (gates[k * hidden : (k + 1) * hidden] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def weights_of(module: nn.Module) -> list[Array]:
    return [parameter.detach().double().numpy() for parameter in module.parameters()]


@pytest.mark.parametrize("hidden", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_states_and_poolings_are_those_of_the_equations(hidden: int, layers: int) -> None:
    model = network(hidden, width=3, layers=layers, pooling=("last", "mean", "max", "attention")).eval()
    text = [4, 9, 9, 2]
    states = there = back = model.embedding.weight.detach().double().numpy()[text]
    for layer in range(layers):
        forwards, backwards = (weights_of(module) for module in list(model.readers)[2 * layer : 2 * layer + 2])
        there = states_by_hand(states, *forwards)
        back = states_by_hand(states[::-1], *backwards)[::-1]  # begins with the text's own last token, not the padding
        states = np.concatenate([there, back], 1)
    assert model.attention is not None
    weight, *bias = weights_of(model.attention)
    scores = np.exp(states @ weight[0] + sum(bias))
    pooled = [
        np.concatenate([there[-1], back[0]]),
        states.mean(0),
        states.max(0),
        (scores / scores.sum()) @ states,
    ]
    found = model.features(*joined([text, [5] * 7]))[0]
    torch.testing.assert_close(found.double(), torch.tensor(np.concatenate(pooled)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one way", "both ways"])
def test_whole_batches_are_as_in_torchs_packed_sequences(layers: int, bidirectional: bool) -> None:
    model = network(layers=layers, bidirectional=bidirectional, pooling=("last", "mean", "max")).eval()
    theirs = nn.LSTM(WIDTH, HIDDEN, layers, batch_first=True, bidirectional=bidirectional)
    ends = [f"_l{layer}{end}" for layer in range(layers) for end in ("", "_reverse")[: 1 + bidirectional]]
    state = {
        f"{name}{end}": getattr(module, f"{name}_l0")
        for end, module in zip(ends, model.readers, strict=True)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    theirs.load_state_dict(state)
    tokens, mask = joined(some_texts())
    lengths = mask.sum(1)
    packed, (last, _) = theirs(
        pack_padded_sequence(model.embedding(tokens), lengths, batch_first=True, enforce_sorted=False)
    )
    states = pad_packed_sequence(packed, batch_first=True)[0]
    top = torch.cat(list(last[-1 - bidirectional :]), -1)
    mean = states.sum(1) / lengths[:, None]  # torch pads with zeros
    most = torch.stack([text[:length].amax(0) for text, length in zip(states, lengths, strict=True)])
    torch.testing.assert_close(model.features(tokens, mask), torch.cat([top, mean, most], -1), rtol=0, atol=1e-5)


# --------------------------------------------------------------------------------------------------------- the training
@pytest.mark.parametrize("pooling", POOLINGS, ids="+".join)
def test_gradient_reaches_every_parameter(pooling: tuple[str, ...]) -> None:
    model = network(layers=2, pooling=pooling)
    F.cross_entropy(model(*joined(some_texts())), torch.arange(6) % 3).backward()
    # Rounding leaves 1e-9 where the true gradient is zero.
    dead = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6]
    assert not dead


@pytest.mark.parametrize("pooling", POOLINGS, ids="+".join)
def test_learns_one_batch_by_heart(pooling: tuple[str, ...]) -> None:
    model = LSTM(SPEC, CLASSES, WIDTH, Recurrent(hidden=8, pooling=pooling))  # pyright: ignore[reportArgumentType]
    batch, targets = joined(some_texts()), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(model(*batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("pooling", [("mean",), ("attention",)], ids="+".join)
def test_layer_groups_hold_each_parameter_once_from_the_embedding_to_the_head(
    layers: int, pooling: tuple[str, ...]
) -> None:
    model = network(layers=layers, pooling=pooling)
    groups = [[id(p) for p in group] for group in model.layer_groups()]
    grouped = list(itertools.chain.from_iterable(groups))
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}
    assert len(groups) == 1 + layers
    assert groups[0] == [id(model.embedding.weight)]
    assert {id(p) for p in model.head.parameters()} < set(groups[-1])
    depth = {number: depth for depth, group in enumerate(groups) for number in group}
    assert [depth[id(next(module.parameters()))] for module in model.readers] == sorted([*range(1, layers + 1)] * 2)


# --------------------------------------------------------------------------------------------------------- the dropouts
DROPOUTS = ("word_dropout", "embedding_dropout", "recurrent_dropout", "dropout")


@pytest.mark.parametrize("name", DROPOUTS)
def test_each_dropout_acts_in_training_only(name: str) -> None:
    shape: dict[str, Any] = {"layers": 2, name: 0.5}
    plain, model = network(layers=2), network(**shape)
    model.load_state_dict(plain.state_dict())
    batch = joined(some_texts())
    assert not torch.equal(model(*batch), model(*batch))
    torch.testing.assert_close(plain(*batch), plain.eval()(*batch))
    model.eval()
    torch.testing.assert_close(model(*batch), plain(*batch))


def seen_by(module: nn.Module, model: LSTM, tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the first argument of `module` while the model reads a batch."""
    found: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: found.append(arguments[0].detach().clone()))
    model.features(tokens, mask)
    handle.remove()
    return found[0]


def test_hidden_words_become_the_unknown_one() -> None:
    model = network(word_dropout=0.3)
    tokens, mask = torch.randint(2, SPEC.vocab_size, (50, 40)), torch.ones(50, 40, dtype=torch.bool)
    seen = seen_by(model.embedding, model, tokens, mask)
    hidden = seen != tokens
    assert (seen[hidden] == SPEC.unknown_id).all()
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.05)
    assert hidden.any(0).all(), "anywhere in a text"
    assert len({tuple(row.tolist()) for row in hidden}) == 50, "drawn for each text"


def test_embedding_dropout_takes_a_column_from_a_whole_text_and_scales_the_rest() -> None:
    model = network(width=40, embedding_dropout=0.25)
    tokens, mask = torch.randint(2, SPEC.vocab_size, (50, 7)), torch.ones(50, 7, dtype=torch.bool)
    first = next(iter(model.readers))
    share = seen_by(first, model, tokens, mask) / model.embedding(tokens)
    assert torch.isclose(share, torch.tensor(0.0)).logical_or(torch.isclose(share, torch.tensor(1 / 0.75))).all()
    torch.testing.assert_close(share, share[:, :1].expand_as(share), msg="not the same for all words of a text")
    assert (share == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert len({tuple(row.tolist()) for row in share[:, 0]}) == 50, "drawn for each text"


def test_recurrent_dropout_takes_recurrent_weights_the_same_ones_for_a_whole_batch() -> None:
    model = network(1, bidirectional=False, pooling=("last",), recurrent_dropout=0.5)
    text = [4, 9, 22, 2]
    inputs = model.embedding.weight.detach().double().numpy()[text]
    w_ih, w_hh, *biases = weights_of(next(iter(model.readers)))
    possible = [
        states_by_hand(inputs, w_ih, w_hh * 2 * np.array(kept)[:, None], *biases)[-1, 0]
        for kept in itertools.product([0, 1], repeat=4)
    ]
    met: set[int] = set()
    for _ in range(200):
        first, second = model.features(*joined([text, text])).flatten().tolist()
        assert first == second
        nearest = int(np.abs(np.array(possible) - first).argmin())
        assert first == pytest.approx(possible[nearest], abs=1e-5)
        met.add(nearest)
    assert len(met) >= 12, "of the 16 ways to drop 4 weights"


def test_dropout_is_between_the_features_and_the_head() -> None:
    model, batch = network(dropout=0.5), joined(some_texts())
    assert torch.equal(model.features(*batch), model.features(*batch))
    assert not torch.equal(model(*batch), model(*batch))


@pytest.mark.parametrize(("dtype", "within"), [(torch.bfloat16, 0.1), (torch.float64, 1e-5)], ids=str)
@pytest.mark.parametrize("pooling", POOLINGS, ids="+".join)
def test_weights_may_be_of_another_precision(pooling: tuple[str, ...], dtype: torch.dtype, within: float) -> None:
    model, (tokens, mask) = network(pooling=pooling).eval(), joined(some_texts())
    single = model(tokens, mask)
    assert torch.allclose(model.to(dtype)(tokens, mask).float(), single, atol=within, rtol=within)


def test_recurrent_dropout_works_in_bfloat16() -> None:
    model = network(layers=2, pooling=POOLINGS[-1], recurrent_dropout=0.3)
    batch = joined(some_texts())
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(*batch)
        loss = F.cross_entropy(logits, torch.arange(6) % 3)
    loss.backward()
    assert logits.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(*batch)
    torch.testing.assert_close(mixed, model(*batch), rtol=0, atol=0.1)


# -------------------------------------------------------------------------------------------------------- first weights
def vectors_at(path: Path, width: int = WIDTH) -> tuple[str, Array]:
    """Save vectors for all tokens but 0, 1 and 7; return the file and the array."""
    vectors = np.random.default_rng(0).normal(size=(SPEC.vocab_size, width)).astype(np.float32)
    vectors[[0, 1, 7]] = np.nan
    np.save(path, vectors)
    return str(path), vectors


def test_the_embedding_starts_from_the_vectors_that_there_are(tmp_path: Path) -> None:
    file, vectors = vectors_at(tmp_path / "vectors.npy")
    spec = DataSpec(vocab_size=SPEC.vocab_size, unknown_id=1, vectors=file)
    embedding = LSTM(spec, CLASSES, WIDTH, Recurrent()).embedding
    assert embedding.weight.requires_grad
    weight = embedding.weight.detach()
    there = torch.tensor(~np.isnan(vectors).any(1))
    assert torch.equal(weight[there], torch.tensor(vectors)[there])
    assert weight[~there].isfinite().all()
    assert (weight[~there] != 0).all(), "the others are random"
    assert (torch.tensor([0, 1, 7]) == (~there).nonzero().flatten()).all()


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    file, _ = vectors_at(tmp_path / "vectors.npy", width=7)
    spec = DataSpec(vocab_size=SPEC.vocab_size, vectors=file)
    with pytest.raises(InputError, match=r"--vocabulary.width 5: the vectors have 7 numbers each"):
        LSTM(spec, CLASSES, WIDTH, Recurrent())


@pytest.mark.parametrize("kind", ["plain.pt", "run.ckpt"])
def test_starts_from_a_file(kind: str, tmp_path: Path) -> None:
    shape, path = Recurrent(hidden=HIDDEN, layers=2, pooling=("attention",)), tmp_path / kind
    saved = LSTM(SPEC, CLASSES, WIDTH, shape)
    state = saved.state_dict()
    run = {"state_dict": {f"model.{name}": value for name, value in state.items()} | {"metrics.seen": torch.zeros(1)}}
    torch.save(run if kind == "run.ckpt" else state, path)
    model = LSTM(SPEC, CLASSES, WIDTH, shape, weights=str(path))
    assert model.weights_source == f"file {path}"
    batch = joined(some_texts())
    assert torch.equal(model.eval()(*batch), saved.eval()(*batch))
    other = LSTM(SPEC, CLASSES, WIDTH, shape)
    assert other.weights_source == "none (random)"
    assert not torch.equal(other.eval()(*batch), saved(*batch))


def test_a_file_of_another_shape_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(LSTM(SPEC, CLASSES, WIDTH, Recurrent(hidden=HIDDEN)).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(InputError, match=rf"--weights {tmp_path}/weights.pt: .*readers.0.weight_ih_l0"):
        LSTM(SPEC, CLASSES, WIDTH, Recurrent(hidden=HIDDEN + 1), weights=str(tmp_path / "weights.pt"))


# --------------------------------------------------------------------------------------------------------------- export
@pytest.mark.filterwarnings("ignore:The tensor attributes? .*_flat_weights")  # nn.LSTM's own list of its parameters
@pytest.mark.parametrize("layers", [1, 2])
def test_exports_for_any_number_of_texts_padded_to_one_length(layers: int) -> None:
    """torch.export fixes the length (its LSTM knows no other way), which does no harm: padding changes no result."""
    model = network(layers=layers, pooling=POOLINGS[-1], recurrent_dropout=0.2, word_dropout=0.2).eval()
    (longest,) = SPEC.input_shape
    texts = {0: torch.export.Dim("texts")}
    example = joined(some_texts(6, 9), extra=longest - 9)
    exported = torch.export.export(model, example, dynamic_shapes={"tokens": texts, "mask": texts})
    assert not [node for node in exported.graph.nodes if "pack" in str(node.target)]
    for count, most in ((3, 5), (9, longest)):
        batch = some_texts(count, most)
        found = exported.module()(*joined(batch, extra=longest - most, filler=None))
        torch.testing.assert_close(found, model(*joined(batch)), rtol=0, atol=1e-5)
