"""The models for tables: linear ones against scikit-learn's and closed forms, the perceptron piece by piece."""

from __future__ import annotations

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rtdl_num_embeddings import PiecewiseLinearEncoding
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from torch import Tensor
from torch.nn import functional as F

from src.datamodules import Tensors
from src.experiment import DataSpec, InputError, Optim, Perceptron, Target
from src.models import MLP, Linear
from src.models.heads import Head
from src.models.regressions import RIDGE_STRENGTHS
from src.tasks import Regression, TabularClassification
from src.training.trainer import Trainer, quieten

SPEC = DataSpec(numbers=3, categories=(4, 3), target=Target(kind="regression", name="y"))
BINS = ((-1.0, 0.0, 1.0), (0.0, 1.0), (-2.0, -1.0, 0.5, 4.0))


@pytest.fixture(autouse=True)
def quiet() -> None:
    quieten()


def rows(count: int = 50, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return numbers and categories that `SPEC` describes."""
    draw = torch.Generator().manual_seed(seed)
    categories = [torch.randint(0, size, (count,), generator=draw) for size in SPEC.categories]
    return torch.randn(count, 3, generator=draw), torch.stack(categories, 1)


def regression_data(count: int = 200, width: int = 6, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, width)) * rng.uniform(0.1, 10, width) + rng.normal(size=width)
    y = x @ rng.normal(size=width) + 3 + rng.normal(size=count)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def class_data(count: int = 300, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Return features and classes that no line divides."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 4))
    logits = x @ rng.normal(size=(4, classes)) + rng.normal(size=classes)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def trained(task: Any, x: Tensor, y: Tensor, *, epochs: int, batch_size: int) -> Any:
    columns = {"numbers": x, "categories": torch.zeros(len(x), 0, dtype=torch.long), "target": y}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    trainer.fit(task, datamodule=Tensors({"train": columns, "val": columns}, task.spec, batch_size=batch_size))
    return task.model


# --------------------------------------------------------------------------------------------------------------- linear
def test_a_linear_model_starts_at_zero() -> None:
    model = Linear(SPEC, 2)
    assert model.weights_source == "none (zeros)"
    assert all(not parameter.any() for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) == (3 + 4 + 3) * 2 + 2
    assert not model(*rows()).any()
    assert [id(p) for group in model.layer_groups() for p in group] == [id(p) for p in model.parameters()]


def test_categories_are_zeros_and_ones() -> None:
    model = Linear(SPEC, 1)
    numbers = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    features = model.features(numbers, torch.tensor([[0, 2], [3, 1]]))
    assert features.tolist() == [[1, 2, 3, 1, 0, 0, 0, 0, 0, 1], [4, 5, 6, 0, 0, 0, 1, 0, 1, 0]]
    assert features.dtype == torch.float32
    with torch.no_grad():
        model.head.linear.weight.copy_(torch.arange(10.0)[None])
        model.head.linear.bias.fill_(100)
    assert model(numbers, torch.tensor([[0, 2], [3, 1]])).tolist() == [[100 + 8 + 3 + 9], [100 + 17 + 6 + 8]]


def test_pictures_are_flattened() -> None:
    model = Linear(DataSpec(input_shape=(1, 4, 5), classes=("a", "b", "c")), 3)
    images = torch.rand(7, 1, 4, 5)
    torch.nn.init.normal_(model.head.linear.weight)
    torch.testing.assert_close(model(images), F.linear(images.reshape(7, 20), model.head.linear.weight))


def test_a_table_of_categories_alone_has_no_numbers() -> None:
    model = Linear(DataSpec(categories=(3,), input_shape=(1,)), 1)
    assert model(torch.zeros(2, 0), torch.tensor([[0], [2]])).shape == (2, 1)
    assert model.head.linear.in_features == 3


def test_of_several_solutions_it_is_the_one_of_least_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.models.regressions.RIDGE_STRENGTHS", RIDGE_STRENGTHS[:1])
    x, y = regression_data(width=3)
    x = torch.cat([x, x[:, :1], torch.zeros(len(x), 1)], dim=1)
    head = Head(5, 1)
    head.solve(x, y)
    expected = LinearRegression().fit(x[:, :3].numpy(), y.numpy())
    np.testing.assert_allclose(head(x)[:, 0].detach(), expected.predict(x[:, :3].numpy()), rtol=1e-3, atol=1e-2)
    weight = head.linear.weight[0].detach()
    assert weight[0] == pytest.approx(expected.coef_[0] / 2, rel=1e-3), "shared by columns that are alike"
    assert weight[3] == pytest.approx(weight[0].item(), rel=1e-4)
    assert weight[4] == 0
    x, y = regression_data(5, 20)
    head = Head(20, 1)
    head.solve(x, y)
    torch.testing.assert_close(head(x)[:, 0], y, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_a_solved_head_stays_small_where_columns_depend_on_one_another(seed: int) -> None:
    """One-hot columns add up to one; rounding must not make a direction of that, which new categories would meet."""
    rng = np.random.default_rng(seed)
    towns, streets = rng.integers(0, 5, 120), rng.integers(0, 40, 120)
    x = np.hstack([rng.normal(1000, 1, (120, 2)), np.eye(6)[towns + 1], np.eye(41)[streets + 1]])
    y = x[:, 0] + 5 * towns + rng.normal(size=120)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y - y.mean(), dtype=torch.float32)
    head = Head(x.shape[1], 1)
    assert head.solve(x[:90], y[:90]) in RIDGE_STRENGTHS
    assert head.linear.weight.abs().max() < 100
    new = x[90:].clone()
    new[:, 2:8] = torch.eye(6)[0]
    assert (head(new)[:, 0] - head(x[90:])[:, 0]).abs().max() < 100


def by_leaving_one_out(x: np.ndarray, y: np.ndarray, l2: float) -> float:
    """Return the mean squared error on each example of a ridge regression that was fitted to all the others."""
    errors = []
    for out in range(len(x)):
        kept = np.arange(len(x)) != out
        model = Ridge(alpha=l2 * len(x)).fit(x[kept], y[kept]) if l2 else LinearRegression().fit(x[kept], y[kept])
        errors.append(y[out] - model.predict(x[out : out + 1])[0])
    return float(np.mean(np.square(errors)))


def test_a_regressions_head_is_solved_with_the_strength_that_leaving_one_out_prefers() -> None:
    x, y = regression_data(40, 12)
    y = y + 30 * torch.tensor(np.random.default_rng(5).normal(size=40), dtype=torch.float32)
    mean, std = x.mean(0), x.std(0)
    standard = ((x - mean) / std).double().numpy()
    losses = {l2: by_leaving_one_out(standard, y.double().numpy(), l2) for l2 in RIDGE_STRENGTHS}
    best = min(losses, key=lambda l2: losses[l2])
    assert best not in (RIDGE_STRENGTHS[0], RIDGE_STRENGTHS[-1]), "the premise"
    head = Head(12, 1)
    assert head.solve(x, y) == best
    expected = Ridge(alpha=best * 40).fit(standard, y.double().numpy())
    np.testing.assert_allclose(head(x)[:, 0].detach(), expected.predict(standard), rtol=1e-3, atol=1e-2)


def test_all_outputs_of_a_regression_start_alike() -> None:
    x, y = regression_data()
    head = Head(6, 3)
    head.solve(x, y)
    found = head(x)
    torch.testing.assert_close(found[:, 0], found[:, 1])
    torch.testing.assert_close(found[:, 0], found[:, 2])
    expected = LinearRegression().fit(x.numpy(), y.numpy()).predict(x.numpy())
    np.testing.assert_allclose(found[:, 1].detach(), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_count_like_repeated_examples(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.models.regressions.L2_STRENGTHS", (1e-3,))
    x, y = class_data(150, classes)
    counts = torch.arange(1, classes + 1)
    repeated = torch.repeat_interleave(torch.arange(150), counts[y])
    weighted, plain = Head(4, classes), Head(4, classes)
    assert weighted.solve(x, y, counts.float()) == plain.solve(x[repeated], y[repeated])
    torch.testing.assert_close(weighted(x).softmax(1), plain(x).softmax(1), rtol=0, atol=5e-3)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_class_without_training_examples_is_never_likely(classes: int) -> None:
    x, y = class_data(100, classes)
    there = y != classes - 1
    head = Head(4, classes)
    head.solve(x[there], y[there])
    assert head.linear.weight.isfinite().all()
    assert head(x).softmax(1)[:, -1].max() < 0.05


def test_softmax_regression_by_steps_reaches_scikit_learns_solution() -> None:
    x, y = class_data()
    spec = DataSpec(classes=("a", "b", "c"), numbers=4, input_shape=(4,))
    optim = Optim(name="sgd", lr=1.0, momentum=0.9, weight_decay=0.0, schedule="constant")
    model = trained(TabularClassification(Linear(spec, 3), spec, optim), x, y, epochs=150, batch_size=len(x))
    expected = LogisticRegression(C=np.inf, tol=1e-8, max_iter=2000).fit(x.double().numpy(), y.numpy())
    found = model(x, torch.zeros(len(x), 0, dtype=torch.long)).softmax(1).detach()
    np.testing.assert_allclose(found, expected.predict_proba(x.double().numpy()), atol=2e-3)


def test_gradient_descent_reaches_least_squares() -> None:
    x, y = regression_data()
    x, y = (x - x.mean(0)) / x.std(0), y / 10
    spec = DataSpec(numbers=6, target=Target(kind="regression", name="y"))
    optim = Optim(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.0, schedule="constant")
    model = trained(Regression(Linear(spec, 1), spec, optim), x, y, epochs=150, batch_size=len(x))
    expected = LinearRegression().fit(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(model.head.linear.weight[0].detach(), expected.coef_, atol=1e-3)
    np.testing.assert_allclose(model.head.linear.bias.detach(), expected.intercept_, atol=1e-3)


def test_l1_takes_weights_to_zero_that_the_data_do_not_need() -> None:
    x, _ = regression_data(width=4)
    x = (x - x.mean(0)) / x.std(0)
    y = 2 * x[:, 0]
    spec = DataSpec(numbers=4, target=Target(kind="regression", name="y"))
    found: dict[float, Tensor] = {}
    for l1 in (0.0, 0.5):
        optim = Optim(name="sgd", lr=0.05, momentum=0.0, weight_decay=0.0, schedule="linear", l1=l1)
        model = trained(Regression(Linear(spec, 1), spec, optim), x, y + 5, epochs=120, batch_size=len(x))
        found[l1] = model.head.linear.weight[0].detach()
        assert model.head.linear.bias.item() == pytest.approx(5, abs=0.01), "the bias is not penalised"
    assert found[0.0].tolist() == pytest.approx([2, 0, 0, 0], abs=0.01)
    assert found[0.5].tolist() == pytest.approx([2 - 0.5 / 2, 0, 0, 0], abs=0.05), "soft-thresholded by l1 / 2"


# ----------------------------------------------------------------------------------------------------------- perceptron
def perceptron(spec: DataSpec = SPEC, num_outputs: int = 2, **shape: Any) -> MLP:
    torch.manual_seed(0)
    return MLP(spec, num_outputs, Perceptron(**{"width": 16, "dropout": 0.0} | shape)).eval()


SHAPES: list[dict[str, Any]] = [
    {},
    {"residual": True},
    {"depth": 1},
    {"depth": 4, "residual": True, "dropout": 0.3},
    {"bins": 3, "bins_width": 5},
    {"bins": 3, "residual": True, "category_width": 1},
]


def spec_of(shape: dict[str, Any]) -> DataSpec:
    return DataSpec(
        numbers=3, categories=(4, 3), bins=BINS if shape.get("bins") else (), target=Target(kind="regression", name="y")
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_features_have_their_shapes(shape: dict[str, Any]) -> None:
    model = perceptron(spec_of(shape), **shape)
    assert model(*rows(7)).shape == (7, 2)
    assert model.features(*rows(7)).shape == (7, 16)
    torch.testing.assert_close(model(*rows(7)), model.head(model.features(*rows(7))))
    assert model(*rows(0)).shape == (0, 2)
    assert len(model.layers) == shape.get("depth", 2)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_gradient_reaches_every_parameter(shape: dict[str, Any]) -> None:
    model = perceptron(spec_of(shape), **shape).train()
    numbers, categories = rows(400)
    model(numbers, categories).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_do_not_see_one_another(shape: dict[str, Any]) -> None:
    model = perceptron(spec_of(shape), **shape)
    numbers, categories = rows(9)
    torch.testing.assert_close(model(numbers, categories)[3:5], model(numbers[3:5], categories[3:5]))


def test_every_input_counts() -> None:
    for shape in SHAPES:
        model = perceptron(spec_of(shape), **shape)
        numbers, categories = rows(64)
        before = model(numbers, categories)
        for column in range(3):
            moved = numbers.clone()
            moved[:, column] += 0.3
            assert not torch.allclose(model(moved, categories), before)
        for column, size in enumerate(SPEC.categories):
            other = categories.clone()
            other[:, column] = (other[:, column] + 1) % size
            assert not torch.allclose(model(numbers, other), before)


def test_a_category_that_training_had_not_is_neutral() -> None:
    model = perceptron(category_width=8)
    assert [(e.num_embeddings, e.embedding_dim) for e in model.embeddings] == [(4, 4), (3, 3)]  # pyright: ignore
    assert [e.embedding_dim for e in perceptron(category_width=2).embeddings] == [2, 2]  # pyright: ignore
    for embedding in model.embeddings:
        weight: Any = embedding.weight
        assert not weight[0].any()
        assert (weight[1:].abs().sum(1) > 0).all()
    numbers, categories = rows(30)
    assert not categories[:, 0].all(), "the premise"
    seen = categories.clamp_min(1)
    task = Regression(model.train(), SPEC, Optim())
    batch = {"numbers": numbers, "categories": seen}
    task.objective.loss(task(batch), torch.randn(30)).backward()
    for embedding in model.embeddings:
        weight = embedding.weight
        assert not weight.grad[0].any(), "and stays so: no row of training has it"


def test_residual_layers_add_to_what_comes_in() -> None:
    model = perceptron(residual=True, depth=3)
    numbers, categories = rows(5)
    with torch.no_grad():
        for layer in model.layers:
            last: Any = layer
            last[-1].weight.zero_()
            last[-1].bias.zero_()
    embedded = [embedding(categories[:, i]) for i, embedding in enumerate(model.embeddings)]
    stem = model.stem(torch.cat([numbers, *embedded], dim=1))
    torch.testing.assert_close(model.features(numbers, categories), F.layer_norm(stem, (16,)))


def test_dropout_is_for_training_alone() -> None:
    for residual in (False, True):
        model = perceptron(residual=residual, dropout=0.5)
        torch.testing.assert_close(model(*rows(5)), model(*rows(5)), rtol=0, atol=0)
        assert not torch.allclose(model.train()(*rows(5)), model(*rows(5)))


def piecewise(x: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Gorishniy et al. 2022, eq. 1: how far x has come through each bin; the first and the last go on outwards."""
    shares = np.column_stack([(x - low) / (high - low) for low, high in pairwise(edges)])
    shares[:, 1:] = shares[:, 1:].clip(min=0)
    shares[:, :-1] = shares[:, :-1].clip(max=1)
    return shares


def test_binned_numbers_are_encoded_piecewise_linearly() -> None:
    """What the model makes of a number is linear within each bin, and bends at the edges and nowhere else."""
    model = perceptron(spec_of({"bins": 3}), bins=3, bins_width=4)
    assert model.piecewise is not None
    numbers = torch.linspace(-5, 6, 111)[:, None].expand(-1, 3).contiguous()
    with torch.no_grad():
        found = model.piecewise(numbers).numpy()
    assert found.shape == (111, 3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoding = PiecewiseLinearEncoding([torch.tensor(edges) for edges in BINS])(numbers).numpy()
    start = 0
    for column, edges in enumerate(BINS):
        shares = piecewise(numbers[:, 0].numpy(), edges)
        np.testing.assert_allclose(encoding[:, start : start + len(edges) - 1], shares, atol=1e-5)
        start += len(edges) - 1
        design = np.column_stack([numbers[:, 0], shares, np.ones(111)])
        solution, *_ = np.linalg.lstsq(design, found[:, column], rcond=None)
        np.testing.assert_allclose(design @ solution, found[:, column], atol=1e-4)


def test_bins_can_bend_what_a_line_cannot() -> None:
    model = perceptron(spec_of({"bins": 3}), bins=3, bins_width=4)
    parameters: Any = model.piecewise
    with torch.no_grad():
        for parameter in parameters.parameters():
            parameter.normal_()
    numbers = torch.tensor([[-0.5, 0.5, 0.0], [0.0, 0.5, 0.0], [0.5, 0.5, 0.0]])
    found = parameters(numbers)[:, 0]
    assert (found[0] + found[2] - 2 * found[1]).abs().max() > 0.1, "0 is an edge of the first number"


# -------------------------------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize("model", ["linear", "mlp", "binned"])
def test_a_state_dict_comes_back(model: str, tmp_path: Path) -> None:
    def build(weights: str = "none") -> Any:
        if model == "linear":
            return Linear(SPEC, 2, weights=weights)
        spec = spec_of({"bins": model == "binned"})
        return MLP(spec, 2, Perceptron(width=8, bins=3 if model == "binned" else 0), weights=weights)

    first = build()
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    torch.save(first.state_dict(), tmp_path / "plain.pt")
    torch.save({"state_dict": {f"model.{k}": v for k, v in first.state_dict().items()}}, tmp_path / "run.ckpt")
    for name in ("plain.pt", "run.ckpt"):
        again = build(str(tmp_path / name))
        assert again.weights_source == f"file {tmp_path / name}"
        assert torch.equal(again.eval()(*rows()), first.eval()(*rows()))


@pytest.mark.parametrize("kind", [Linear, MLP])
def test_weights_that_do_not_fit_are_refused_by_name(kind: Any, tmp_path: Path) -> None:
    more: tuple[Any, ...] = (Perceptron(width=8),) if kind is MLP else ()
    path = tmp_path / "x.pt"

    def refusal() -> str:
        with pytest.raises(InputError) as error:
            kind(SPEC, 2, *more, weights=str(path))
        return str(error.value)

    assert f"--weights {path}: no such file" in refusal()
    path.write_bytes(b"nothing")
    assert f"--weights {path}: not a state dict of this {kind.__name__}" in refusal()
    torch.save(kind(DataSpec(numbers=9), 2, *more).state_dict(), path)
    assert f"--weights {path}: not a state dict of this {kind.__name__}" in refusal()
    torch.save({"odd": torch.zeros(2)}, path)
    assert "odd" in refusal()


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0), ("depth", 0), ("category_width", 0), ("bins_width", 0), ("dropout", 1.0), ("bins", 1), ("bins", -1)],
)
def test_impossible_shapes_are_refused_by_flag(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--mlp.{field.replace('_', '-')} {value}"):
        Perceptron(**{field: value})  # pyright: ignore[reportArgumentType]
