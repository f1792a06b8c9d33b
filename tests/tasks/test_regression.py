"""Regression: losses as they are defined, metrics as scikit-learn has them, and all of it in the target's own units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Trainer
from scipy.stats import norm, spearmanr
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)
from torch import Tensor, nn
from torchmetrics import Metric

from src.configs import shown
from src.datamodules import Tensors
from src.datamodules.targets import Targets
from src.experiment import DataSpec, InputError, Optim, Target
from src.models import Linear
from src.tasks import OUTPUTS, Regression, Task, objectives
from src.tasks.inputs import TableInput
from src.tasks.objectives.regression import Loss
from src.tasks.task import Batch
from src.training.trainer import quieten

LOSSES: tuple[Loss, ...] = ("mse", "mae", "huber", "quantile", "gaussian")
TARGETS = {
    "none": Target(kind="regression", name="y"),
    "standard": Target(kind="regression", name="y", mean=180_000.0, std=80_000.0),
    "log": Target(kind="regression", name="y", log=True, mean=12.0, std=0.4),
}


class Given(Task):
    """Takes its outputs from the batch: the scores of known predictions."""

    def forward(self, batch: Batch) -> Tensor:
        return batch["outputs"] + 0 * self.model.get_parameter("weight").sum()


def given_task(target: Target = TARGETS["none"], **arguments: Any) -> Given:
    return Given(nn.Linear(1, 1), objectives.Regression(DataSpec(numbers=1, target=target), **arguments), TableInput())


def objective_of(target: Target = TARGETS["none"], **arguments: Any) -> objectives.Regression:
    return objectives.Regression(DataSpec(numbers=1, target=target), **arguments)


@pytest.fixture(autouse=True)
def quiet() -> None:
    quieten()


def known(target: Target, loss: Loss = "mse", count: int = 103) -> dict[str, Tensor]:
    """Return outputs as the model gives them and targets in their own units, about as far apart as the scale says."""
    rng = np.random.default_rng(3)
    true = rng.normal(size=count)
    outputs = true[:, None] + rng.normal(0, 0.5, (count, OUTPUTS[loss])) + [-0.5, 0.1, 0.6][: OUTPUTS[loss]]
    values = true * target.std + target.mean
    return {
        "outputs": torch.tensor(outputs, dtype=torch.float32),
        "target": torch.tensor(np.exp(values) if target.log else values, dtype=torch.float64),
    }


def in_own_units(outputs: Tensor, target: Target) -> np.ndarray:
    found = outputs.double().numpy() * target.std + target.mean
    return np.exp(found) if target.log else found


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    found: Any = spearmanr(one, other)
    return found.statistic


def trainer() -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def scores(task: Task, columns: dict[str, Tensor], stage: str = "val") -> dict[str, float]:
    """Return the metrics of a validation or test in batches of 10, the last one shorter."""
    data = Tensors({"train": columns, "val": columns, "test": columns}, task.spec, batch_size=10)
    run = trainer()
    (found,) = (run.validate if stage == "val" else run.test)(task, datamodule=data, verbose=False)
    return dict(found)


# --------------------------------------------------------------------------------------------------------------- losses
def loss_of(loss: Loss, outputs: np.ndarray, target: np.ndarray, interval: float) -> float:
    """Return the loss by its definition, in double precision."""
    first, error = outputs[:, 0], target - outputs[:, 0]
    rest = (1 - interval) / 2
    match loss:
        case "mse":
            return mean_squared_error(target, first)
        case "mae":
            return mean_absolute_error(target, first)
        case "huber":
            return float(np.where(abs(error) < 1, error**2 / 2, abs(error) - 0.5).mean())
        case "gaussian":
            density = norm.logpdf(target, first, np.exp(outputs[:, 1] / 2))
            return float(-density.mean() - math.log(2 * math.pi) / 2)
        case "quantile":
            shares = (rest, 0.5, 1 - rest)
            return float(
                np.mean(
                    [mean_pinball_loss(target, outputs[:, i], alpha=float(share)) for i, share in enumerate(shares)]
                )
            )


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(LOSSES),
    st.lists(st.tuples(*[st.floats(-4, 4, width=32)] * 4), min_size=1, max_size=20),
    st.floats(0.05, 0.95),
)
def test_each_loss_is_what_it_is_defined_as(loss: Loss, rows: list[tuple[float, ...]], interval: float) -> None:
    quieten()
    table = np.array(rows, np.float32)
    outputs, target = table[:, : OUTPUTS[loss]], table[:, 3]
    found = objective_of(loss=loss, interval=interval).scaled_loss(torch.from_numpy(outputs), torch.from_numpy(target))
    expected = loss_of(loss, outputs.astype(float), target.astype(float), interval)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_huber_is_torchs() -> None:
    columns = known(TARGETS["none"])
    found = objective_of(loss="huber").scaled_loss(3 * columns["outputs"], columns["target"])
    torch.testing.assert_close(found, nn.HuberLoss()(3 * columns["outputs"][:, 0], columns["target"]))


def test_no_loss_mistakes_a_column_for_a_row() -> None:
    for loss in LOSSES:
        outputs, target = torch.zeros(2, OUTPUTS[loss]), torch.tensor([1.0, -1.0])
        swapped = objective_of(loss=loss).scaled_loss(outputs, target.flip(0))
        torch.testing.assert_close(objective_of(loss=loss).scaled_loss(outputs, target), swapped)
        assert objective_of(loss=loss).scaled_loss(outputs, target).shape == ()


def test_the_quantiles_that_cost_least_are_the_targets_own() -> None:
    target = torch.tensor(np.random.default_rng(0).exponential(size=2000), dtype=torch.float32)
    outputs = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    task = objective_of(loss="quantile", interval=0.8)
    for _ in range(400):
        optimizer.zero_grad()
        task.scaled_loss(outputs.expand(2000, 3), target).backward()
        optimizer.step()
    np.testing.assert_allclose(outputs[0].detach(), np.quantile(target, (0.1, 0.5, 0.9)), atol=0.06)


def test_the_normal_distribution_that_costs_least_is_the_targets_own() -> None:
    target = torch.tensor(np.random.default_rng(0).normal(2, 3, 2000), dtype=torch.float32)
    outputs = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    task = objective_of(loss="gaussian")
    for _ in range(400):
        optimizer.zero_grad()
        task.scaled_loss(outputs.expand(2000, 2), target).backward()
        optimizer.step()
    assert outputs[0, 0].item() == pytest.approx(target.mean().item(), abs=0.02)
    assert math.exp(outputs[0, 1].item() / 2) == pytest.approx(target.std().item(), abs=0.02)


# ---------------------------------------------------------------------------------------------------------------- units
@pytest.mark.parametrize("scale", TARGETS)
def test_targets_are_scaled_and_predictions_restored(scale: str) -> None:
    target = TARGETS[scale]
    task, columns = objective_of(target), known(target)
    scaled = task.scaled(columns["target"])
    expected = columns["target"].double().log() if target.log else columns["target"].double()
    torch.testing.assert_close(scaled, ((expected - target.mean) / target.std).float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(task.unscaled(scaled), columns["target"], rtol=1e-4, atol=1e-3)
    if scale == "standard":
        assert task.unscaled(torch.tensor([0.0, 1.0])).tolist() == [180_000, 260_000]
        assert task.scaled(torch.tensor([180_000.0, 100_000.0])).tolist() == [0, -1]
    if scale == "log":
        assert task.unscaled(torch.tensor([0.0])).item() == pytest.approx(math.exp(12), rel=1e-5)


@pytest.mark.parametrize("scale", TARGETS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("stage", ["val", "test"])
def test_metrics_are_those_of_scikit_learn_in_the_targets_units(stage: str, loss: Loss, scale: str) -> None:
    target = TARGETS[scale]
    columns = known(target, loss)
    true, outputs = columns["target"].double().numpy(), columns["outputs"].double().numpy()
    middle = np.sort(outputs, 1)[:, 1] if loss == "quantile" else outputs[:, 0]
    prediction = in_own_units(torch.tensor(middle), target)
    scaled = np.log(true) if target.log else true
    expected = {
        "loss": loss_of(loss, outputs, (scaled - target.mean) / target.std, 0.8),
        "rmse": root_mean_squared_error(true, prediction),
        "mae": mean_absolute_error(true, prediction),
        "r2": r2_score(true, prediction),
        "spearman": rank_correlation(true, prediction),
    }
    if loss == "quantile":
        low, high = (in_own_units(torch.tensor(np.sort(outputs, 1)[:, i]), target) for i in (0, 2))
        expected["coverage"] = ((low <= true) & (true <= high)).mean()
    if loss == "gaussian":
        ends = norm.interval(0.8, outputs[:, 0], np.exp(outputs[:, 1] / 2))
        low, high = (in_own_units(torch.tensor(end), target) for end in ends)
        expected["coverage"] = ((low <= true) & (true <= high)).mean()
    assert 0.1 < expected.get("coverage", 0.5) < 1, "the premise"
    found = scores(given_task(target, loss=loss, interval=0.8), columns, stage)
    assert found == pytest.approx({f"{stage}/{name}": value for name, value in expected.items()}, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("mean", "std"), [(1998, 11), (288, 5), (1e5, 1), (1e6, 100), (0, 1e-6), (3e9, 1e9), (1.7e9, 0.5)]
)
def test_metrics_are_right_wherever_the_target_lies(mean: float, std: float) -> None:
    """A year of 1998 +- 11, a temperature in kelvins: sums of squares in single precision would be far off."""
    columns = known(Target(kind="regression", name="y", mean=mean, std=std), count=1000)
    task = given_task(Target(kind="regression", name="y", mean=mean, std=std))
    true = columns["target"].double().numpy()
    objective: Any = task.objective
    prediction = objective.unscaled(columns["outputs"][:, 0]).double().numpy()
    found = scores(task, columns)
    assert found["val/r2"] == pytest.approx(r2_score(true, prediction), abs=1e-4)
    assert found["val/rmse"] == pytest.approx(root_mean_squared_error(true, prediction), rel=1e-4)
    assert found["val/spearman"] == pytest.approx(rank_correlation(true, prediction), abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-1e12, 1e12),
    st.floats(-2, 6).map(lambda power: 10**power),
    st.floats(0, 4).map(lambda power: 10**power),
    st.sampled_from(LOSSES),
    st.integers(0, 2**32 - 1),
)
def test_saved_predictions_have_the_scores_of_the_numbers_as_written(
    offset: float, spread: float, tail: float, loss: Loss, seed: int
) -> None:
    """Wherever the targets lie, and where the training's deviation is that of a far value that the split has not."""
    quieten()
    rng = np.random.default_rng(seed)
    true = (offset + spread * rng.normal(size=40)).tolist()
    objective = objective_of(
        Target(kind="regression", name="y", mean=offset + spread * tail, std=spread * tail), loss=loss
    )
    target = Targets("regression", "y", np.array(true)).encode(range(40), ())
    outputs = objective.scaled(target)[:, None] + torch.from_numpy(rng.normal(0, 0.3, (40, OUTPUTS[loss]))).float()
    predicted = {name: values.numpy() for name, values in objective.predictions(outputs).items()}
    columns = {"target": objective.target_column(target.numpy()), **objective.columns(predicted)}
    assert columns["target"] == true
    rows = pd.DataFrame({name: [str(value) for value in values] for name, values in columns.items()})
    read, again = objective.read(rows)
    assert again.tolist() == true
    assert all(np.array_equal(read[name], values) for name, values in predicted.items())
    found = objective.score(read, again)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(true, predicted["prediction"]), rel=1e-6)
    assert found["mae"] == pytest.approx(mean_absolute_error(true, predicted["prediction"]), rel=1e-6)
    assert found["r2"] == pytest.approx(r2_score(true, predicted["prediction"]), rel=1e-3, abs=1e-4)
    assert found["spearman"] == pytest.approx(rank_correlation(true, predicted["prediction"]), abs=1e-4)


def test_an_apple_gpu_has_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the metrics are in float32, of differences taken before; nothing moves a float64 to it."""
    target = Target(kind="regression", name="y", mean=1.7e9, std=2)
    exact = scores(given_task(target, loss="gaussian"), known(target, "gaussian"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    task = given_task(target, loss="gaussian")
    kept = [state for metric in task.modules() if isinstance(metric, Metric) for state in metric.metric_state.values()]
    assert {state.dtype for state in kept if isinstance(state, Tensor)} <= {torch.float32, torch.int64}
    assert scores(task, known(target, "gaussian")) == pytest.approx(exact, rel=1e-5)
    batch = {"target": torch.tensor([1.7e9 + 1], dtype=torch.float64), "source": "x"}
    moved = Tensors({"train": known(target)}, task.spec).transfer_batch_to_device(batch, torch.device("mps"), 0)
    assert moved == batch
    assert moved["target"].dtype == torch.float64


def test_the_worst_mistakes_tell_target_and_prediction_apart() -> None:
    target, prediction = np.array([1.7e9, 12.5, 3.0]), np.array([1.7e9 + 3.25, 14.0, 3.0])
    found = objective_of().mistakes({"prediction": prediction}, target, 2)
    assert found.titles == ["y 1700000000, predicted 1700000003.25", "y 12.5, predicted 14"]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_what_is_shown_differs_where_the_numbers_do(target: float, prediction: float) -> None:
    one, two = shown.apart(target, prediction)
    assert (one == two) == (target == prediction)
    assert (shown.metric(target) in ("0.0000", "-0.0000")) == (target == 0)


def test_metrics_start_anew_at_each_validation() -> None:
    task, columns = given_task(loss="quantile"), known(TARGETS["none"], "quantile")
    first = scores(task, columns)
    scores(task, columns | {"target": columns["target"] * 7})
    assert scores(task, columns) == first


def test_a_validation_of_one_row_is_no_crash() -> None:
    columns = {"outputs": torch.tensor([[1.0]]), "target": torch.tensor([3.0])}
    found = scores(given_task(), columns)
    assert found["val/rmse"] == found["val/mae"] == 2
    assert found["val/loss"] == 4
    assert math.isnan(found["val/r2"])


def test_predictions_that_are_all_alike_are_no_crash() -> None:
    columns = known(TARGETS["none"])
    columns["outputs"] = torch.zeros_like(columns["outputs"])
    found = scores(given_task(), columns)
    true = columns["target"].numpy()
    assert found["val/r2"] == pytest.approx(r2_score(true, 0 * true), abs=1e-4)
    assert not abs(found["val/spearman"]) > 1e-6, "there is no order"


def test_coverage_is_for_losses_with_an_interval() -> None:
    for loss in LOSSES:
        assert ("val/coverage" in scores(given_task(loss=loss), known(TARGETS["none"], loss))) == (
            loss in ("quantile", "gaussian")
        )


# ---------------------------------------------------------------------------------------------------------- predictions
@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(*[st.floats(-3, 3, width=32)] * 3), min_size=1, max_size=10), st.sampled_from(list(TARGETS)))
def test_quantiles_never_cross(rows: list[tuple[float, ...]], scale: str) -> None:
    quieten()
    outputs = torch.tensor(rows)
    found = objective_of(TARGETS[scale], loss="quantile").predictions(outputs)
    assert (found["lower"] <= found["prediction"]).all()
    assert (found["prediction"] <= found["upper"]).all()
    middle = in_own_units(outputs.sort(1).values[:, 1], TARGETS[scale])
    np.testing.assert_allclose(found["prediction"], middle, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("interval", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("scale", TARGETS)
def test_a_normal_distributions_interval_is_scipys(scale: str, interval: float) -> None:
    outputs = torch.tensor([[0.3, 0.0], [-1.0, -1.2], [0.0, 0.7]])
    task = objective_of(TARGETS[scale], loss="gaussian", interval=interval)
    ends = norm.interval(interval, outputs[:, 0].numpy(), np.exp(outputs[:, 1].numpy() / 2))
    found = task.predictions(outputs)
    for name, end in zip(("lower", "upper"), ends, strict=True):
        np.testing.assert_allclose(found[name], in_own_units(torch.tensor(end), TARGETS[scale]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["prediction"], in_own_units(outputs[:, 0], TARGETS[scale]), rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_returns_what_predictions_are_made_of(loss: Loss) -> None:
    columns = known(TARGETS["standard"], loss, count=7)
    task, seen = given_task(TARGETS["standard"], loss=loss), []
    step = task.test_step
    task.test_step = lambda batch, batch_idx: seen.append(step(batch, batch_idx)) or seen[-1]
    scores(task, columns, "test")
    (out,) = seen
    names = ("prediction", "lower", "upper") if OUTPUTS[loss] > 1 else ("prediction",)
    assert set(out) == {"loss", "target", "index", *names}
    assert torch.equal(out["target"], columns["target"]), "in their own units"
    assert out["index"].tolist() == list(range(7))
    for name, values in task.objective.predictions(columns["outputs"]).items():
        torch.testing.assert_close(out[name], values)
    predicted = task.predict_step({**columns, "index": out["index"], "error": {9: "bad"}}, 0)
    assert set(predicted) == {"index", "error", *names}
    assert predicted["error"] == {9: "bad"}
    torch.testing.assert_close(predicted["prediction"], out["prediction"])


@pytest.mark.parametrize("interval", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_an_impossible_interval_is_refused(interval: float) -> None:
    with pytest.raises(InputError, match=f"--interval {interval}: a share between 0 and 1"):
        objective_of(loss="quantile", interval=interval)


# --------------------------------------------------------------------------------------------------------- solved start
@pytest.mark.parametrize("scale", TARGETS)
def test_a_solved_start_predicts_as_least_squares_on_the_scaled_target(scale: str) -> None:
    target = TARGETS[scale]
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(200, 3))
    scaled = numbers @ (0.5, -0.3, 0.1) + rng.normal(0, 0.1, 200)
    spec = DataSpec(numbers=3, target=target)
    task = Regression(Linear(spec, 1), spec, Optim(), cached_features="start")
    values = in_own_units(torch.tensor(scaled), target)
    columns = {
        "numbers": torch.tensor(numbers, dtype=torch.float32),
        "categories": torch.zeros(200, 0, dtype=torch.long),
        "target": torch.tensor(values, dtype=torch.float32),
    }
    kept = {"features": task.features(columns), "target": columns["target"]}
    line = task.start_from_features({"train": kept, "val": kept})
    assert "solved in closed form on [200, 3], L2 0.0" in line
    expected = LinearRegression().fit(numbers, scaled).predict(numbers)
    found = scores(task, columns)
    prediction = in_own_units(torch.tensor(expected), target)
    assert found["val/rmse"] == pytest.approx(root_mean_squared_error(values, prediction), rel=1e-3)
    torch.testing.assert_close(task(kept), task(columns))


def test_of_a_frozen_model_the_head_alone_is_trained() -> None:
    spec = DataSpec(numbers=3, target=Target(kind="regression", name="y"))
    task = Regression(Linear(spec, 1), spec, Optim(), cached_features="probe")
    assert all(parameter.requires_grad for parameter in task.head.parameters())
    assert task.cached_features == "probe"
