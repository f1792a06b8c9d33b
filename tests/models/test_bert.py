"""Encoders of the transformers library: its own logits, blindness to padding, what is frozen, dropped and refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from src.experiment import DataSpec, InputError
from src.models import Bert

LAYERS, HIDDEN, VOCAB, POSITIONS = 3, 32, 60, 40
CLASSES = ("a", "b", "c")
Pooling = Literal["mean", "cls", "pooler"]
KINDS = ("bert", "distilbert", "roberta")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders with small encoders of three kinds, as the Hub would have them; dropout 0.1; not to be changed."""
    torch.manual_seed(1)
    library: Any = transformers  # its annotations want every argument spelt out
    small: dict[str, Any] = {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS, "initializer_range": 0.3}
    usual = small | {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    networks: dict[str, Any] = {
        "bert": library.BertModel(library.BertConfig(**usual, intermediate_size=64)),
        "distilbert": library.DistilBertModel(
            library.DistilBertConfig(**small, dim=HIDDEN, n_layers=LAYERS, n_heads=2, hidden_dim=64)
        ),
        "roberta": library.RobertaModel(library.RobertaConfig(**usual, intermediate_size=64, pad_token_id=1)),
    }
    root = tmp_path_factory.mktemp("encoders")
    for kind, network in networks.items():
        network.save_pretrained(root / kind)
    return {kind: str(root / kind) for kind in networks}


def spec_of(*, vocab_size: int = VOCAB, longest: int = 12) -> DataSpec:
    return DataSpec(input_shape=(longest,), vocab_size=vocab_size)


def network(encoder: str, **arguments: Any) -> Bert:
    """Return the pretrained encoder with a head whose weights are large enough to show every difference."""
    defaults: dict[str, Any] = {"weights": "pretrained"}
    model = Bert(encoder, spec_of(), len(CLASSES), **defaults | arguments)
    nn.init.normal_(model.head.linear.weight)
    return model


def joined(texts: list[list[int]], *, extra: int = 0) -> tuple[Tensor, Tensor]:
    """Return the texts as one batch, filled up with tokens at random."""
    longest = max(map(len, texts)) + extra
    tokens = torch.randint(VOCAB, (len(texts), longest))
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text)
    return tokens, torch.arange(longest) < torch.tensor([len(text) for text in texts])[:, None]


def some_texts(count: int = 6) -> list[list[int]]:
    return [
        torch.randint(2, VOCAB, (2 + i,), generator=torch.Generator().manual_seed(i)).tolist() for i in range(count)
    ]


def gradients(model: Bert) -> dict[str, Tensor]:
    """Return the gradient of each parameter that gets one."""
    F.cross_entropy(model(*joined(some_texts())), torch.arange(6) % 3).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


# ------------------------------------------------------------------------------------------------------- what comes out
def test_logits_are_those_of_transformers_own_classifier(encoders: dict[str, str]) -> None:
    theirs = transformers.BertForSequenceClassification.from_pretrained(encoders["bert"], num_labels=3).eval()
    model = network(encoders["bert"], pooling="pooler").eval()
    model.head.linear.load_state_dict(theirs.classifier.state_dict())
    tokens, mask = joined(some_texts())
    expected = theirs(input_ids=tokens, attention_mask=mask.long()).logits
    torch.testing.assert_close(model(tokens, mask), expected)
    assert expected.std(0).min() > 1e-3, "the premise: the logits tell the texts apart"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_mean_or_the_first_of_the_encoders_states(
    encoders: dict[str, str], kind: str, pooling: Pooling
) -> None:
    theirs = transformers.AutoModel.from_pretrained(encoders[kind]).eval()
    model = network(encoders[kind], pooling=pooling).eval()
    texts = some_texts()
    states = [theirs(input_ids=torch.tensor([text])).last_hidden_state[0] for text in texts]
    expected = torch.stack([state.mean(0) if pooling == "mean" else state[0] for state in states])
    batch = joined(texts)
    torch.testing.assert_close(model.features(*batch), expected, rtol=0, atol=1e-5)
    assert model(*batch).shape == (6, 3)
    torch.testing.assert_close(model(*batch), model.head(model.features(*batch)))


@pytest.mark.parametrize(
    ("kind", "pooling"), [*itertools.product(KINDS, ("mean", "cls")), ("bert", "pooler"), ("roberta", "pooler")]
)
def test_neither_padding_nor_its_tokens_nor_batch_mates_change_a_result(
    encoders: dict[str, str], kind: str, pooling: Pooling
) -> None:
    model = network(encoders[kind], pooling=pooling).eval()

    @settings(deadline=None, max_examples=12)
    @given(
        st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 6)
    )
    def check(texts: list[list[int]], extra: int) -> None:
        with torch.no_grad():
            alone = torch.cat([model(*joined([text])) for text in texts])
            together = model(*joined(texts, extra=extra))
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)

    check()


# ------------------------------------------------------------------------------------------------------- what is frozen
def lowest(names: set[str], frozen: int, kind: str = "bert") -> set[str]:
    """Return the names of the embedding's parameters and those of so many of the lowest layers."""
    stack = "transformer" if kind == "distilbert" else "encoder"
    places = ["embeddings", *(f"{stack}.layer.{i}" for i in range(frozen))] if frozen else []
    return {name for name in names if name.startswith(tuple(f"encoder.{place}." for place in places))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", range(LAYERS + 1))
def test_the_embedding_and_the_lowest_layers_stand_still_and_the_rest_learns(
    encoders: dict[str, str], kind: str, frozen: int
) -> None:
    model = network(encoders[kind], frozen=frozen)
    names = {name for name, _ in model.named_parameters() if "pooler" not in name}
    still = lowest(names, frozen, kind)
    assert frozen == 0 or len(still) > 10 * frozen
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == names - still
    assert still.isdisjoint(gradients(model))
    assert {name for name in learning if name.endswith("weight")} <= set(gradients(model))


@pytest.mark.parametrize("kind", KINDS)
def test_minus_one_freezes_everything_but_the_head(encoders: dict[str, str], kind: str) -> None:
    model = network(encoders[kind], frozen=-1)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        "head.linear.weight",
        "head.linear.bias",
    }


@pytest.mark.parametrize("frozen", [0, LAYERS, -1])
def test_the_pooler_learns_where_it_is_used_and_not_frozen(encoders: dict[str, str], frozen: int) -> None:
    for pooling in ("mean", "cls", "pooler"):
        pooler = network(encoders["bert"], pooling=pooling, frozen=frozen).encoder.pooler
        learns = [p.requires_grad for p in pooler.parameters()]
        assert learns == [pooling == "pooler" and frozen != -1] * 2, pooling


@pytest.mark.parametrize("frozen", [LAYERS + 1, -2])
def test_more_layers_than_there_are_cannot_be_frozen(encoders: dict[str, str], frozen: int) -> None:
    with pytest.raises(InputError, match=rf"--frozen {frozen}: .*bert has 3 layers; -1 freezes them all"):
        network(encoders["bert"], frozen=frozen)


def test_after_train_what_is_frozen_is_in_evaluation_mode_and_the_rest_is_not(encoders: dict[str, str]) -> None:
    model = network(encoders["bert"], frozen=2, dropout=0.5)
    for _ in range(2):
        layers = list(model.encoder.encoder.layer)
        assert not any(m.training for part in (model.encoder.embeddings, *layers[:2]) for m in part.modules())
        assert all(m.training for part in (layers[2], model.head) for m in part.modules())
        model.eval()
        assert not any(module.training for module in model.modules())
        model.train()


@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_encoder_drops_nothing_but_the_head_does(encoders: dict[str, str], kind: str) -> None:
    model, batch = network(encoders[kind], frozen=-1, dropout=0.5), joined(some_texts())
    assert model.train() is model
    assert torch.equal(model.features(*batch), model.features(*batch))
    assert not torch.equal(model(*batch), model(*batch))


# -------------------------------------------------------------------------------------------------------------- dropout
@pytest.mark.parametrize("kind", KINDS)
def test_dropout_sets_all_the_encoders_rates(encoders: dict[str, str], kind: str) -> None:
    batch = joined(some_texts())
    still, lively = (network(encoders[kind], dropout=rate).train() for rate in (0.0, 0.5))
    torch.testing.assert_close(still(*batch), still(*batch), rtol=0, atol=0)
    assert not torch.equal(lively.features(*batch), lively.features(*batch))
    assert not torch.equal(lively.head(torch.ones(2, HIDDEN)), lively.head(torch.ones(2, HIDDEN)))
    rates = [module.p for module in lively.modules() if isinstance(module, nn.Dropout)]
    assert len(rates) > 2 * LAYERS
    assert set(rates) == {0.5}
    trained = still(*batch)
    torch.testing.assert_close(trained, still.eval()(*batch))
    torch.testing.assert_close(lively.eval().features(*batch), still.features(*batch))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frozen", [0, 1])
def test_gradient_checkpointing_computes_layers_twice_and_the_same_gradients(
    encoders: dict[str, str], kind: str, frozen: int
) -> None:
    found, calls = [], []
    for checkpointing in (False, True):
        torch.manual_seed(5)
        model = network(encoders[kind], frozen=frozen, gradient_checkpointing=checkpointing)
        count: list[int] = []
        top = model.layer_groups()[LAYERS][0]
        owner = next(m for m in model.modules() if any(p is top for p in m.parameters(recurse=False)))
        owner.register_forward_hook(lambda *_, count=count: count.append(1))
        found.append(gradients(model))
        calls.append(len(count))
    assert calls == [1, 2]
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)


# --------------------------------------------------------------------------------------------------------- the training
@pytest.mark.parametrize("kind", KINDS)
def test_layer_groups_hold_each_parameter_once_from_the_embedding_to_the_head(
    encoders: dict[str, str], kind: str
) -> None:
    model = network(encoders[kind])
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [[names[id(p)] for p in group] for group in model.layer_groups()]
    assert sorted(itertools.chain.from_iterable(groups)) == sorted(names.values())
    assert len(groups) == LAYERS + 2
    assert all(name.startswith("encoder.embeddings.") for name in groups[0])
    for i, group in enumerate(groups[1:-1]):
        assert group
        assert all(f".layer.{i}." in name for name in group)
    assert {name for name in groups[-1] if "pooler" not in name} == {"head.linear.weight", "head.linear.bias"}


@pytest.mark.parametrize("kind", KINDS)
def test_learns_one_batch_by_heart(encoders: dict[str, str], kind: str) -> None:
    model, batch, targets = Bert(encoders[kind], spec_of(), len(CLASSES)), joined(some_texts()), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = F.cross_entropy(model(*batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# -------------------------------------------------------------------------------------------------------- first weights
def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_weights_are_the_folders_and_none_are_others(encoders: dict[str, str], kind: str) -> None:
    folder = encoders[kind]
    stored = load_file(Path(folder) / "model.safetensors")
    model = network(folder)
    assert equal(model.encoder.state_dict(), stored)
    assert model.weights_source == f"folder {folder}"
    random = Bert(folder, spec_of(), len(CLASSES))
    assert random.weights_source == "none (random)"
    state = random.encoder.state_dict()
    assert state.keys() == stored.keys()
    matrices = [name for name in stored if stored[name].ndim > 1]
    assert not any(torch.equal(state[name], stored[name]) for name in matrices)


def test_random_weights_need_the_config_only(encoders: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((Path(encoders["bert"]) / "config.json").read_text())
    assert Bert(str(tmp_path), spec_of(), len(CLASSES))(*joined(some_texts())).shape == (6, 3)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("dtype", "torch_dtype"):
        (tmp_path / "config.json").write_text(json.dumps(config | {name: "float16"}))
        assert {p.dtype for p in Bert(str(tmp_path), spec_of(), len(CLASSES)).parameters()} == {torch.float32}
    with pytest.raises(InputError, match=rf"--encoder {tmp_path}: no model can be loaded"):
        network(str(tmp_path))


@pytest.mark.parametrize("kind", ["plain.pt", "plain.safetensors", "run.ckpt"])
def test_starts_from_a_file_whatever_its_classifier(encoders: dict[str, str], kind: str, tmp_path: Path) -> None:
    stored, path = load_file(Path(encoders["bert"]) / "model.safetensors"), tmp_path / kind
    match kind:
        case "plain.pt":
            torch.save(stored | {"classifier.weight": torch.zeros(7, HIDDEN)}, path)
        case "plain.safetensors":
            path = Path(encoders["bert"]) / "model.safetensors"
        case _:
            run = Bert(encoders["bert"], DataSpec(input_shape=(9,)), 7, weights="pretrained")
            torch.save({"state_dict": {f"model.{name}": value for name, value in run.state_dict().items()}}, path)
    model = Bert(encoders["bert"], spec_of(), len(CLASSES), weights=str(path))
    assert equal(model.encoder.state_dict(), stored)
    assert model.weights_source == f"file {path}"


def test_a_file_of_another_encoder_is_refused_by_name(encoders: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--weights .*distilbert/model.safetensors: not a state dict of this Bert"):
        Bert(encoders["bert"], spec_of(), len(CLASSES), weights=f"{encoders['distilbert']}/model.safetensors")
    with pytest.raises(InputError, match=rf"--weights {tmp_path}/none.pt: no such file"):
        Bert(encoders["bert"], spec_of(), len(CLASSES), weights=str(tmp_path / "none.pt"))


# ------------------------------------------------------------------------------------------------------ what is refused
def test_a_tokenizer_with_more_tokens_than_the_encoder_is_refused(encoders: dict[str, str]) -> None:
    Bert(encoders["bert"], spec_of(vocab_size=VOCAB), len(CLASSES))
    with pytest.raises(InputError, match=r"--encoder .*bert: it knows 60 tokens, but the tokenizer has 61"):
        Bert(encoders["bert"], spec_of(vocab_size=VOCAB + 1), len(CLASSES))


@pytest.mark.parametrize(
    ("kind", "longest"), [("bert", POSITIONS), ("distilbert", POSITIONS), ("roberta", POSITIONS - 2)]
)
def test_texts_longer_than_the_encoder_reads_are_refused(encoders: dict[str, str], kind: str, longest: int) -> None:
    """RoBERTa counts positions from its padding token's id plus one."""
    model = Bert(encoders[kind], spec_of(longest=longest), len(CLASSES))
    assert model(*joined([[5] * longest])).shape == (1, 3)
    message = rf"--prep.max-length {longest + 1}: --encoder .*{kind} reads at most {longest} tokens"
    with pytest.raises(InputError, match=message):
        Bert(encoders[kind], spec_of(longest=longest + 1), len(CLASSES))


def test_an_encoder_without_a_pooler_is_refused(encoders: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"--pooling pooler: .*distilbert has none. Take mean or cls"):
        network(encoders["distilbert"], pooling="pooler")


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5, float("nan")])
def test_a_dropout_is_a_share(encoders: dict[str, str], dropout: float) -> None:
    with pytest.raises(InputError, match="--dropout"):
        network(encoders["bert"], dropout=dropout)
