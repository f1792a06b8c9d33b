"""Models that are fitted once: a run of them is a run like any other."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import own_home
from kills import Mortal, alike, differences

import leyden
from experiments.neighbours import TableNeighbours
from experiments.tables_boosting import TableBoosting, TableBoostingMultiLabel
from experiments.texts_tf_idf import TextsTfIdf
from src.cli import commands
from src.cli.parser import RunFlags
from src.configs.errors import InputError
from src.deploy.export import export
from src.experiment import Optim
from src.inference.batch import predict
from src.resources.weights_files import load_weights
from src.runs import records

pytestmark = pytest.mark.usefixtures("quiet")


class Number(Mortal, TableBoosting):
    """The price of a house."""

    target = "price"


class Labels(Mortal, TableBoostingMultiLabel):
    """What a house has."""

    target = ("extras",)


class NearLabel(Mortal, TableNeighbours):
    """The size of a house."""

    target = "size"


class TextLabel(Mortal, TextsTfIdf):
    """Whether a review is good."""


BOOSTED = (Number, Labels)


def trained(experiment: Mortal, **flags: object) -> Path:
    assert commands.run_all([experiment], RunFlags(**flags)) == 0  # pyright: ignore[reportArgumentType]
    return max(records.runs_dir().glob(f"{type(experiment).__name__}/*"))


@pytest.fixture(scope="module", params=[Number, Labels, NearLabel, TextLabel], ids=lambda kind: kind.__name__)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Mortal, Path]:
    """An experiment and its run, with the baselines; not to be changed."""
    data = request.getfixturevalue({Labels: "tagged", TextLabel: "texts"}.get(request.param, "houses"))
    experiment = request.param(data_dir=data, accelerator="cpu", batch_size=8, averaging="ema")
    with own_home(tmp_path_factory.mktemp("fitted")):
        return experiment, trained(experiment, baselines=True, test=True)


def test_it_scores_as_the_baseline_and_the_epoch_changes_nothing(done: tuple[Mortal, Path]) -> None:
    record = records.load(done[1])
    for name, value in record["baselines"]["gradient boosting"].items() if type(done[0]) in BOOSTED else ():
        assert record["metrics"][name] == pytest.approx(value, rel=2e-2, abs=2e-2), name
    assert record["best"]["step"] == 0
    start, end = (load_weights(done[1] / "checkpoints" / name)["state_dict"] for name in ("best.ckpt", "last.ckpt"))
    assert alike(start, end), "averaged, too"


def test_a_stopped_run_goes_on_with_its_trees(done: tuple[Mortal, Path]) -> None:
    dying = dataclasses.replace(done[0], dies_at=5, by=signal.SIGTERM)
    assert commands.run_all([dying], RunFlags(baselines=True, checkpoint_every="2")) == 143
    run = max(records.runs_dir().glob(f"{type(dying).__name__}/*"))
    assert trained(done[0], resume=run) == trained(done[0], resume=run, test=True) == run
    assert differences(run, done[1]) == []


def test_it_predicts_and_exports_as_any_network(done: tuple[Mortal, Path]) -> None:
    experiment, run = done
    assert experiment.data_dir is not None
    folder = export(run)
    own, exported = (predict(place, [experiment.data_dir]).text.splitlines() for place in (run, folder))
    assert len(own) == len(exported) == 1 + len(pd.read_csv(experiment.data_dir))
    for one, other in zip(own[1:], exported[1:], strict=True):
        for cell, same in zip(one.split(","), other.split(","), strict=True):
            assert cell == same or float(cell) == pytest.approx(float(same), rel=1e-4, abs=1e-6)


def test_it_is_explained_and_gradients_are_refused(done: tuple[Mortal, Path]) -> None:
    run, table = leyden.load(done[1]), pd.read_csv(str(done[0].data_dir)).head(2)
    found = run.explain(table, budget=2.0)
    assert np.abs(found[0].values).max() > 0
    texts = type(done[0]) is TextLabel
    if not texts:
        assert found.checks.completeness is not None
        assert found.checks.completeness < 1e-3
    way_out = "Choose occlusion or lime" if texts else "Take --method kernel-shap"
    with pytest.raises(InputError, match=rf"--method integrated-gradients: .*{way_out}\."):
        run.explain(table, method="integrated-gradients")


def test_trees_refuse_half_precision_and_a_penalty_on_weights(houses: Path) -> None:
    with pytest.raises(InputError, match="--precision: trees compare numbers in float32"):
        commands.run(Number(data_dir=houses, accelerator="cpu", precision="bf16-true"))
    with pytest.raises(InputError, match=r"--optim\.l1: trees have no weights"):
        Number(optim=Optim(l1=0.1))
