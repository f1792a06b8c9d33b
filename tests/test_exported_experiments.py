"""Every experiment that is shipped can leave its run: its export answers as it does, by glob."""

from __future__ import annotations

import pytest
from conftest import Tiny
from test_experiments import COMPARED, OTHERS, trained

from experiments.digits import DigitsCNN
from experiments.house_prices import HousePricesLinear
from experiments.imdb_bert import ImdbBert
from src.deploy.export import export
from src.experiment import Experiment
from src.inference import exported

ALWAYS = (DigitsCNN, ImdbBert, HousePricesLinear)
"""Networks that the cells of test_cells.py, which are exported too, do not have."""


@pytest.mark.parametrize(
    "kind",
    [kind if kind in ALWAYS else pytest.param(kind, marks=pytest.mark.slow) for kind in (*COMPARED, *OTHERS)],
    ids=lambda kind: kind.__name__,
)
def test_answers_as_its_run_does(kind: type[Experiment], tiny: Tiny) -> None:
    made = exported.load(export(trained(kind, tiny)))
    checked = made.certificate["parity"]
    assert checked["largest"] <= 1e-5
    assert checked["labels_equal"] == checked["examples"] > 0
    assert checked["sizes"][:3] == [1, 2, 5]
    assert len(checked["lengths"]) >= 3 or made.kind != "text"
