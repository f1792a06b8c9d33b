"""Texts: cached features and layer-wise rates for both networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
import transformers
from lightning.pytorch import Trainer
from torch import Tensor, nn

from src.datamodules import Tensors
from src.experiment import DataSpec, Optim, Recurrent
from src.models import LSTM, Bert
from src.tasks import Task, TextClassification
from src.tasks.optim import build_optimizer, decayed
from src.tasks.task import Batch, HasLayerGroups
from src.training.trainer import quieten

SPEC = DataSpec(classes=("a", "b", "c"), input_shape=(9,), vocab_size=30, unknown_id=1)
COUNT, LENGTH = 6, 9
NETWORKS = ("LSTM", "Bert")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the config of an encoder of two layers."""
    folder = tmp_path_factory.mktemp("encoder")
    small: dict[str, Any] = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1}
    config: Any = transformers.BertConfig
    config(**small, intermediate_size=8, max_position_embeddings=LENGTH).save_pretrained(folder)
    return str(folder)


def network(name: str, encoder: str, *, frozen: int = 0) -> tuple[nn.Module, int]:
    """Return a network without dropout and the width of its features."""
    if name == "LSTM":
        return LSTM(SPEC, 3, 5, Recurrent(hidden=4, layers=2)), 16
    return Bert(encoder, SPEC, 3, frozen=frozen), 8


def batch_of() -> Batch:
    tokens = torch.randint(2, SPEC.vocab_size, (COUNT, LENGTH))
    mask = torch.arange(LENGTH) < torch.tensor([1, 2, 5, 7, 8, 9])[:, None]
    return {"tokens": tokens, "mask": mask, "target": torch.arange(COUNT) % 3, "index": torch.arange(COUNT)}


def optimizer_of(task: Task, data: Batch) -> torch.optim.Optimizer:
    """Return the optimiser that a training of one epoch used."""
    columns = {name: value for name, value in data.items() if name != "index"}
    quieten()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, datamodule=Tensors({"train": columns, "val": columns}, SPEC, batch_size=COUNT))
    (optimizer,) = trainer.optimizers
    return optimizer


# ------------------------------------------------------------------------------------------- tokens and cached features
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_from_tokens_and_from_kept_features_are_the_same(name: str, encoder: str) -> None:
    model, width = network(name, encoder)
    task, batch = TextClassification(model, SPEC, Optim()).eval(), batch_of()
    features = task.features(batch)
    assert features.shape == (COUNT, width)
    logits = task(batch)
    assert logits.shape == (COUNT, 3)
    assert torch.equal(logits, model(batch["tokens"], batch["mask"]))
    torch.testing.assert_close(task({"features": features}), logits)


def test_of_a_batch_with_features_the_head_alone_is_computed(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TextClassification(network("Bert", encoder)[0], SPEC, Optim()).eval()
    expected = task.head(torch.ones(2, 8))
    monkeypatch.setattr(Bert, "features", None)
    assert torch.equal(task(batch_of() | {"features": torch.ones(2, 8)}), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_predictions_have_index_probabilities_and_errors(name: str, encoder: str) -> None:
    task, batch = TextClassification(network(name, encoder)[0], SPEC, Optim()).eval(), batch_of()
    whole: dict[str, Any] = {**batch, "error": {9: "empty text"}}
    with torch.no_grad():
        out = task.predict_step(whole, 0)
    torch.testing.assert_close(out["prob"], task(batch).softmax(-1))
    assert torch.equal(out["index"], batch["index"])
    assert out["error"] == {9: "empty text"}
    none: dict[str, Any] = {column: value[:0] for column, value in batch.items()}
    assert task.predict_step({**none, "error": {0: "empty text"}}, 0)["prob"].shape == (0, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_on_kept_features_moves_the_head_alone(name: str, encoder: str) -> None:
    model, _ = network(name, encoder)
    task = TextClassification(model, SPEC, Optim(lr=0.1, schedule="constant"), cached_features="probe")
    batch = batch_of()
    kept = {"features": task.eval().features(batch).detach(), "target": batch["target"]}
    assert task.start_from_features({"train": kept, "val": kept}).startswith("solved on cached features [6, ")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = optimizer_of(task.train(), kept | {"index": batch["index"]})
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == set(rates(optimizer, model)) == {"head.linear.weight", "head.linear.bias"}


# --------------------------------------------------------------------------------------------------- layer-wise rates
def rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, float]:
    """Return the first rate of each trained parameter."""
    names = {id(p): name for name, p in model.named_parameters()}
    found: dict[str, float] = {}
    for group in optimizer.param_groups:
        found |= {names[id(p)]: group.get("initial_lr", group["lr"]) for p in group["params"]}
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_decay_lowers_the_rate_from_the_head_to_the_embedding(name: str, encoder: str) -> None:
    model, _ = network(name, encoder)
    optim = Optim(lr=0.8, layer_decay=0.5)
    found = rates(build_optimizer(cast(HasLayerGroups, model).layer_groups(), optim, model), model)
    assert set(found) == {key for key, p in model.named_parameters() if p.requires_grad}
    if name == "LSTM":  # the upper layer is of the head's group
        expected = {
            "embedding.": 0.2,
            "readers.0": 0.4,
            "readers.1": 0.4,
            "readers.2": 0.8,
            "readers.3": 0.8,
            "head": 0.8,
        }
    else:
        layers = {f"encoder.encoder.layer.{i}.": rate for i, rate in enumerate((0.2, 0.4))}
        expected = {"encoder.embeddings.": 0.1, **layers, "head": 0.8}
    for prefix, rate in expected.items():
        own = {key: value for key, value in found.items() if key.startswith(prefix)}
        assert own
        assert set(own.values()) == {rate}, prefix
    assert len(found) == sum(any(key.startswith(prefix) for prefix in expected) for key in found)


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_wise_rates_reach_the_training(name: str, encoder: str) -> None:
    model, _ = network(name, encoder)
    optim = Optim(lr=0.8, layer_decay=0.5)
    optimizer = optimizer_of(TextClassification(model, SPEC, optim), batch_of())
    assert rates(optimizer, model) == rates(
        build_optimizer(cast(HasLayerGroups, model).layer_groups(), optim, model), model
    )


def test_what_is_frozen_is_not_in_the_optimiser(encoder: str) -> None:
    model, _ = network("Bert", encoder, frozen=1)
    optimizer = build_optimizer(cast(HasLayerGroups, model).layer_groups(), Optim(lr=0.8, layer_decay=0.5), model)
    found = rates(optimizer, model)
    assert {key.split(".")[-1] for key in found if key.startswith("head")} == {"weight", "bias"}
    assert all(key.startswith(("head.", "encoder.encoder.layer.1.")) for key in found)
    assert {value for key, value in found.items() if key.startswith("encoder")} == {0.4}


def test_norms_and_biases_are_not_decayed(encoder: str) -> None:
    model, _ = network("Bert", encoder)
    optimizer = build_optimizer(cast(HasLayerGroups, model).layer_groups(), Optim(weight_decay=0.3), model)
    for group in optimizer.param_groups:
        parameters: list[Tensor] = group["params"]
        assert {p.ndim > 1 for p in parameters} == {group["weight_decay"] == 0.3}


def test_biases_of_relative_positions_are_not_decayed(tmp_path: Path) -> None:
    """They are a matrix; transformers' own Trainer spares them by their name."""
    config = transformers.MPNetConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config.save_pretrained(tmp_path)
    model = Bert(str(tmp_path), DataSpec(input_shape=(8,), vocab_size=20), 2)
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1}
    shrunk = {id(p) for p in decayed(model)}
    spared = {name for name, p in model.named_parameters() if name in matrices and id(p) not in shrunk}
    assert spared == {"encoder.encoder.relative_attention_bias.weight"}
