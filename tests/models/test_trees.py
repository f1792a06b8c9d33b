"""Boosted trees as tensors: scikit-learn's own scores, from a checkpoint too, whatever is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from torch import Tensor

from src.configs.table import Boosting
from src.experiment import DataSpec, InputError
from src.models import BoostedTrees
from src.tasks.objectives import SingleLabel

SPEC = DataSpec(numbers=5, missing=(2, 0), categories=(6, 300), class_counts=(1,))
"""Three numbers and two indicators; a category, and one with more values than scikit-learn takes as one."""
SMALL = Boosting(iterations=20, leaves=8, min_leaf=5)


def rows(count: int, seed: int, *, unknown: bool = False) -> tuple[Tensor, Tensor, pd.DataFrame]:
    """Return numbers and categories as the network takes them, and as scikit-learn does."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(count, 3)).astype(np.float32)
    absent = rng.random((count, 2)) < 0.2
    town, street = rng.integers(1 - unknown, 6, count), rng.integers(1 - unknown, 300, count)
    frame = pd.DataFrame(numbers.astype(float), columns=pd.Index(["a", "b", "c"]))
    frame.loc[absent[:, 0], "c"] = frame.loc[absent[:, 1], "a"] = np.nan
    frame["town"] = pd.Categorical.from_codes(town - 1, dtype=pd.CategoricalDtype(list("vwxyz")))  # -1 is none of them
    frame["street"] = street
    codes = torch.from_numpy(np.stack([town, street], 1))
    return torch.from_numpy(np.hstack([numbers, absent]).astype(np.float32)), codes, frame


def effect(frame: pd.DataFrame) -> np.ndarray:
    """Return what the targets depend on: each kind of column, and that one is missing."""
    numbers = frame["a"].fillna(2).to_numpy() - 2 * frame["b"].to_numpy() * frame["c"].isna().to_numpy()
    return numbers + np.array([0, 3, -1, 2, 0, 1])[frame["town"].cat.codes] + frame["street"].to_numpy() / 100


def fitted(
    target: Tensor, inputs: tuple[Tensor, Tensor], outputs: int, weights: Tensor | None = None, **fields: Any
) -> BoostedTrees:
    network = BoostedTrees(SPEC, outputs, SMALL, **fields)
    network.head.fit(network.features(*inputs), target, weights)
    return network.eval()


def reference(kind: Any, **fields: Any) -> Any:
    return kind(categorical_features="from_dtype", max_iter=20, max_leaf_nodes=8, min_samples_leaf=5, **fields)


@torch.no_grad()
def restored(network: BoostedTrees, outputs: int, *inputs: Tensor) -> np.ndarray:
    """Return the outputs of another network with the state of this one, which had no trees or others."""
    other = BoostedTrees(SPEC, outputs, Boosting())
    other.load_state_dict(network.state_dict())
    found = other.eval()(*inputs)
    assert torch.equal(found, network(*inputs))
    assert torch.cat([other(*(part[at : at + 1] for part in inputs)) for at in range(5)]).equal(found[:5])
    return found.double().numpy()


def test_a_number_is_scikit_learns_with_missing_cells_and_categories_that_training_had_not() -> None:
    *train, plain = rows(600, 0)
    *new, unseen = rows(400, 1, unknown=True)
    target = torch.from_numpy(effect(plain)).float()
    model = reference(HistGradientBoostingRegressor).fit(plain, target.numpy())
    found = restored(fitted(target, (train[0], train[1]), 1), 1, *new)
    np.testing.assert_allclose(found[:, 0], model.predict(unseen), rtol=1e-5, atol=1e-5)
    assert np.corrcoef(found[:, 0], effect(unseen))[0, 1] > 0.8, "the premise: the trees split all kinds of columns"


def test_quantiles_and_absolute_errors_are_scikit_learns_and_other_losses_are_refused() -> None:
    *train, plain = rows(300, 0)
    target = torch.from_numpy(effect(plain)).float()
    found = restored(fitted(target, (train[0], train[1]), 3, loss="quantile", interval=0.6), 3, *train)
    for column, quantile in enumerate((0.2, 0.5, 0.8)):
        model = reference(HistGradientBoostingRegressor, loss="quantile", quantile=quantile).fit(plain, target.numpy())
        np.testing.assert_allclose(found[:, column], model.predict(plain), rtol=1e-5, atol=1e-5)
    model = reference(HistGradientBoostingRegressor, loss="absolute_error").fit(plain, target.numpy())
    found = restored(fitted(target, (train[0], train[1]), 1, loss="mae"), 1, *train)
    np.testing.assert_allclose(found[:, 0], model.predict(plain), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="--loss huber: boosted trees minimise mse, mae, quantile"):
        BoostedTrees(SPEC, 1, SMALL, loss="huber")


@pytest.mark.parametrize("there", [(0, 2), (0, 1, 3)], ids=["two", "many"])
@pytest.mark.parametrize("weighted", [False, True])
def test_classes_are_scikit_learns_and_one_that_training_had_not_is_unlikely(
    there: tuple[int, ...], weighted: bool
) -> None:
    *train, plain = rows(600, 0)
    *new, unseen = rows(300, 1, unknown=True)
    ranks = effect(plain).argsort().argsort()
    target = torch.tensor(there)[torch.from_numpy(ranks * len(there) // len(ranks))]
    weights = torch.tensor([3.0, 0.5, 1.0, 2.0]) if weighted else None
    model = reference(HistGradientBoostingClassifier)
    model.fit(plain, target.numpy(), sample_weight=None if weights is None else weights[target].numpy())
    found = restored(fitted(target, (train[0], train[1]), 4, weights), 4, *new)
    raw = found[:, there] if len(there) > 2 else found[:, 2] - found[:, 0]
    np.testing.assert_allclose(raw, model.decision_function(unseen), rtol=1e-5, atol=1e-5)
    prob = torch.from_numpy(found).softmax(1).numpy()
    np.testing.assert_allclose(prob[:, there], model.predict_proba(unseen), atol=0.02)
    absent = [position for position in range(4) if position not in there]
    assert 0 < prob[:, absent].max() < 0.02
    alone = fitted(torch.zeros(600, dtype=torch.int64), (train[0], train[1]), 2)(*new).softmax(1)
    torch.testing.assert_close(alone[:, 1], torch.full((300,), 0.5 / 600.5))


def test_labels_are_scikit_learns_each_by_itself_with_as_many_trees_as_it_needs() -> None:
    *train, plain = rows(12_000, 0)  # so many that some are held out, and each label stops when it gains nothing
    score = effect(plain)
    alone = score == score.max()
    target = np.stack([score > 0, np.ones(12_000), plain["a"] > 0, np.zeros(12_000), alone], 1).astype(np.float32)
    network = BoostedTrees(SPEC, 5, Boosting(iterations=60, learning_rate=0.5), seed=3)
    network.head.fit(network.features(train[0], train[1]), torch.from_numpy(target))
    found = restored(network.eval(), 5, *train)
    sizes = []
    for column in (0, 2):
        model = HistGradientBoostingClassifier(
            categorical_features="from_dtype", max_iter=60, learning_rate=0.5, random_state=3
        ).fit(plain, target[:, column])
        np.testing.assert_allclose(found[:, column], model.decision_function(plain), rtol=1e-4, atol=1e-4)
        sizes.append(model.n_iter_)
    assert len({*sizes, 60}) == 3, "the premise: both stop early, and not at once"
    prob = torch.from_numpy(found).sigmoid()
    torch.testing.assert_close(prob[:, 3], torch.full((12_000,), 0.5 / 12_000).double())
    torch.testing.assert_close(prob[:, 1], 1 - prob[:, 3])


def test_logit_adjustment_takes_the_prior_from_the_bias() -> None:
    *train, plain = rows(200, 0)
    target = (torch.from_numpy(effect(plain)) > 3).long()
    objective = SingleLabel(DataSpec(classes=("low", "high"), class_counts=(150, 50)))
    objective.set_imbalance_strategy("logit_adjust")
    network = BoostedTrees(SPEC, 2, SMALL)
    features = network.features(train[0], train[1])
    line = objective.solve_head(network.head, {"features": features, "target": target})
    assert line == "20 trees, boosted on 200 rows of 5 columns"
    found = network(train[0], train[1]) - fitted(target, (train[0], train[1]), 2)(train[0], train[1])
    torch.testing.assert_close(found, -torch.tensor([0.75, 0.25]).log().expand(200, -1))


def test_it_has_a_gradient_for_leaves_and_refuses_what_it_cannot_take() -> None:
    *train, plain = rows(100, 0)
    target = torch.from_numpy(effect(plain)).float()
    network = BoostedTrees(SPEC, 1, SMALL)
    assert not network(train[0], train[1]).any(), "it has no trees yet"
    network = fitted(target, (train[0], train[1]), 1)
    network(train[0], train[1]).sum().backward()
    leaves = network.head.values
    assert leaves.grad is not None
    assert leaves.grad.sum() == 20 * 100, "each row ends in a leaf of each tree"
    assert [id(p) for group in network.layer_groups() for p in group] == [id(p) for p in network.parameters()]
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.flag_of"):
        BoostedTrees(DataSpec(numbers=4), 1, SMALL).load_state_dict(network.state_dict())
    with pytest.raises(InputError, match="not all finite"):
        network.head.fit(torch.full((100, 7), torch.nan), target)
    with pytest.raises(InputError, match="--precision: trees compare numbers in float32"):
        network.bfloat16().head.fit(network.features(train[0], train[1]), target)
