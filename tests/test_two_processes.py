"""What two processes join: the states of metrics in a checkpoint, and the predictions of an evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import two_processes
from sklearn.metrics import roc_auc_score
from torchmetrics import Metric, MetricCollection, PearsonCorrCoef

from src.configs.errors import InputError
from src.tasks.epoch_so_far import hand_out, joined, require_joinable


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes has found."""
    folder = tmp_path_factory.mktemp("two")
    for process in two_processes.start([two_processes.__file__, folder]):
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_states_are_joined_as_each_is_declared(found: list[dict[str, Any]]) -> None:
    for process in found:
        states = process["states"]
        assert {name: float(states[name]) for name in two_processes.STATES} == {
            "sum": 15.0,
            "mean": 7.5,
            "max": 7.0,
            "min": 1.0,
        }
        assert torch.cat(states["cat"]).tolist() == [1.0, 2.0, 5.0, 7.0]


def test_metrics_go_on_as_if_never_stopped(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert torch.equal(process["resumed"], process["alone"])
        assert process["alone"].tolist() == [22.0, 11.0, 7.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0]


def test_the_first_process_alone_has_all_predictions(found: list[dict[str, Any]]) -> None:
    first, second = (process["gathered"] for process in found)
    assert first["index"].tolist() == [0, 1, 2, 3, 4]
    assert first["prob"].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]
    assert second == {}
    assert [process["nothing"] for process in found] == [{}, {}]


def test_ranks_of_a_process_that_merges_and_one_that_does_not(found: list[dict[str, Any]]) -> None:
    assert [bool(process["merged"]) for process in found] == [True, False], "the premise"
    prob, target = (torch.cat(parts) for parts in zip(*map(two_processes.scores, range(2)), strict=True))
    expected = roc_auc_score(target, prob, multi_class="ovr", average="macro")
    assert [float(process["auroc"]) for process in found] == pytest.approx([expected] * 2, abs=1e-3)


def test_one_process_scores_alone_what_is_there(found: list[dict[str, Any]]) -> None:
    """As the first process does with an ensemble's average; it would wait for the others for ever."""
    assert float(found[0]["scored"]) == 0.5


class Nested(Metric):
    """A metric that has another."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = two_processes.metric()

    def update(self, value: torch.Tensor) -> None:
        self.inner.update(value)

    def compute(self) -> torch.Tensor:
        return self.inner.compute()


def test_one_process_keeps_states_of_any_kind() -> None:
    alone = MetricCollection({"nested": Nested(), "pearson": PearsonCorrCoef()}, compute_groups=False)
    resumed = MetricCollection({"nested": Nested(), "pearson": PearsonCorrCoef()}, compute_groups=False)
    numbers = torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(0))

    def count(metrics: MetricCollection, batch: torch.Tensor) -> None:
        metrics["nested"].update(batch[0, 0])
        metrics["pearson"].update(batch[0], batch[1])

    for batch in numbers[:2]:
        count(alone, batch)
    hand_out(joined(alone), resumed, first=True)
    for metrics in (alone, resumed):
        count(metrics, numbers[2])
    for name, value in alone.compute().items():
        assert torch.equal(resumed.compute()[name], value), name


def test_what_cannot_be_joined_is_refused_before_training() -> None:
    metrics = MetricCollection({"pearson": PearsonCorrCoef()})
    require_joinable(metrics, processes=1)
    with pytest.raises(InputError, match=r"pearson: PearsonCorrCoef joins its state 'mean_x' over processes in a way"):
        require_joinable(metrics, processes=2)
