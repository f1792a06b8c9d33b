"""Ablations: which variants there are, their paired differences, the tables, and what bad input says."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Script, own_home
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from experiments.cats_dogs_finetune import CatsDogsFinetune
from experiments.digits import DigitsCNN
from experiments.tables import TableClassification
from src import cli
from src.configs.flags import flags
from src.configs.neutral import from_text, neutral
from src.experiment import Augment, Experiment, InputError, Optim
from src.inference.batch import predict
from src.runs import records
from src.runs.compare.groups import compare
from src.runs.compare.runs import find
from src.studies.ablation.ablate import ablate
from src.studies.ablation.design import Ablation, command, label, run_name
from src.studies.ablation.files import as_csv, as_latex, as_markdown, cells, notes
from src.studies.ablation.results import figures_of, holm, rows_of
from src.training.options import RunOptions

pytestmark = pytest.mark.usefixtures("quiet")

FACTORS = ("optim.warmup", "mlp.dropout", "optim.name=sgd")


def recipe(houses: Path, **fields: Any) -> TableClassification:
    return TableClassification(data_dir=houses, target="size", max_epochs=1, batch_size=16, **fields)


@pytest.fixture(scope="module")
def ablated(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished, tested ablation of two factors over three seeds; not to be changed."""
    with own_home(tmp_path_factory.mktemp("ablated")):
        return ablate(Ablation(recipe(houses), ("optim.warmup", "optim.name=sgd")), RunOptions(test=True))


# ------------------------------------------------------------------------------------------------------------- design
@pytest.mark.parametrize(
    ("experiment", "name", "value"),
    [
        (CatsDogsFinetune(), "augment.flip", False),
        (CatsDogsFinetune(augment=Augment(mixup=0.2)), "augment.mixup", 0.0),
        (CatsDogsFinetune(), "patience", None),
        (CatsDogsFinetune(averaging="ema"), "averaging", "none"),
        (CatsDogsFinetune(), "weights", "none"),
        (CatsDogsFinetune(optim=Optim(layer_decay=0.5)), "optim.layer_decay", 1.0),
        (DigitsCNN(), "shift", 0),
        (DigitsCNN(accumulate=4), "accumulate", 1),
    ],
)
def test_a_field_is_without_effect(experiment: Experiment, name: str, value: object) -> None:
    found = neutral(experiment, name)
    assert (found, type(found)) == (value, type(value))


def test_a_value_is_read_as_the_field_has_it() -> None:
    experiment = CatsDogsFinetune()
    texts = {"optim.lr": "1e-4", "augment.crop": "(1, 1)", "augment.flip": "false", "patience": "None", "backbone": "7"}
    found = {name: from_text(experiment, name, text) for name, text in texts.items()}
    expected = {"optim.lr": 1e-4, "augment.crop": (1, 1), "augment.flip": False, "patience": None, "backbone": "7"}
    assert found == expected


def test_each_variants_flags_make_it_again(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    full = CatsDogsFinetune(data_dir=tmp_path / "my data", label_smoothing=0.1, logger=("csv",), patience=3)
    asked = Ablation(full, ("augment.flip", "label_smoothing", "augment.crop=(1, 1)", "patience"), pairs=True)
    assert len(asked.variants()) == 1 + 4 + 6
    for variant in asked.variants().values():
        words = shlex.split(command(variant, seed=7))
        assert words[:2] == ["python", "scripts/run.py"]
        (again,) = cli.parse(words[2:]).experiments
        assert again == dataclasses.replace(variant, seed=7)
    assert "--augment.no-flip" in flags(asked.variants()["augment.flip",])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--without shft", r"no such field\. Did you mean shift"),
        ("--without optim.warmpu", r"optim\.warmpu.*Did you mean warmup"),
        ("--without optim", r"several fields.*optim\.warmup"),
        ("--without optim.name", r"no value of it means none.*--without optim\.name=VALUE"),
        ("--without batch_size", r"--batch-size 0: at least 1.*--without batch_size=VALUE"),
        ("--without flip", r"is False in DigitsCNN as it is, so there is nothing to leave out"),
        ("--without shift=2", "nothing to leave out"),
        ("--without optim.lr=fast", r"optim\.lr='fast': expected float"),
        ("--without shift shift", "named twice"),
        ("--without seed", "all runs need the same seed"),
        ("--without monitor=val/loss", "all runs need the same monitor"),
        ("--seeds 0 1", "name the fields to leave out"),
        ("--without shift --seed 3", "--seeds 0 1 2"),
        ("--without shift --seeds 1 1", "name different ones"),
        ("--without shift --seeds -1", "cannot be negative"),
        ("--without shift --pairs", "two fields or more"),
        ("--without averaging=swa max_epochs=3 --averaging ema --pairs", r"with averaging=swa and max_epochs=3:.*swa"),
        ("--resume nowhere", "no run"),
    ],
)
def test_what_cannot_be_ablated_is_refused(words: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        cli.parse_ablate(["experiments/digits.py", *words.split()])


# ------------------------------------------------------------------------------------------------------------ results
def made(*values: float, loss: float = 0.0) -> Mapping[int, Mapping[str, float]]:
    return {seed: {"val/acc": value, "wall_s": 10.0 + seed + loss} for seed, value in enumerate(values)}


def record_of(*seeds: int) -> dict[str, Any]:
    data = {"source": "a & b", "stand_in": True, "sizes": {"val": 30}}
    asked = {"seeds": [*seeds], "failed": {"full-seed-9": "no_disk"}}
    return {
        "experiment": "experiments.x.Cats",
        "data": data,
        "ablation": asked,
        "best": {"name": "val/acc", "mode": "max"},
    }


COMMANDS = {(): "python full", ("a",): "python a", ("b_c=1",): "python b", ("a", "b_c=1"): "python a b"}


def test_differences_are_paired_and_corrected() -> None:
    full, one, two = (0.5, 0.7, 0.9, 0.6), (0.41, 0.59, 0.8, 0.5), (0.52, 0.66, 0.93, 0.62)
    both = (0.4, 0.5, 0.75, 0.47)
    found = {(): made(*full), ("a",): made(*one, loss=2), ("b_c=1",): made(*two), ("a", "b_c=1"): made(*both)}
    rows = rows_of(found, COMMANDS)
    assert [row.without for row in rows] == list(COMMANDS)
    accs = [row.figures["val/acc"] for row in rows]
    assert accs[0].difference is None
    tests = [stats.ttest_rel(other, full) for other in (one, two, both)]
    assert [acc.p for acc in accs[1:]] == pytest.approx([test.pvalue for test in tests])
    interval: Any = tests[0].confidence_interval(0.95)
    assert accs[1].difference is not None
    assert accs[1].difference[3:] == pytest.approx(tuple(interval))
    assert [acc.p_holm for acc in accs[1:]] == pytest.approx(holm([test.pvalue for test in tests]))
    beyond = accs[3].beyond
    assert beyond is not None
    assert beyond.mean == pytest.approx(np.mean(np.array(both) - one - two + full))
    cost = rows[1].figures["wall_s"]
    assert (cost.difference and cost.difference.mean, cost.p) == (pytest.approx(2), None)


def test_figures_are_those_that_a_record_has(tmp_path: Path) -> None:
    record = {"experiment": "x.Y", "fields": {}, "state": "done", "wall_s": 2.5, "metrics": {"val/acc": 0.8}}
    record |= {"best": {"name": "val/acc", "value": 0.9}, "peak_memory": {"process": 10**9, "gpu": 3 * 10**9}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert figures_of(tmp_path) == {"val/acc": 0.9, "wall_s": 2.5, "gpu_memory_gb": 3}, "all runs share the process"
    (tmp_path / "run.json").write_text(json.dumps(record | {"state": "failed"}))
    assert figures_of(tmp_path) == {}


def test_holm_is_that_of_r() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # p.adjust(p, "holm")
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


@pytest.mark.parametrize(("seeds", "said"), [(1, "One seed"), (2, "Two seeds"), (3, "the same with each seed")])
def test_no_interval_is_invented(seeds: int, said: str) -> None:
    values = (0.5, 0.625, 0.75)[:seeds]
    rows = rows_of({(): made(*values), ("a",): made(*(float(value + np.float32(1 / 3)) for value in values))}, COMMANDS)
    found = rows[1].figures["val/acc"]
    assert found.difference is not None
    assert (found.difference.low, found.difference.high, found.p, found.p_holm) == (None,) * 4
    assert said in " ".join(notes(record_of(*range(seeds)), rows))
    shown = dict(zip(*cells(rows)[::2], strict=True))
    assert "[" not in shown.get("difference", shown.get("difference [95 % interval]", ""))


def test_a_variant_without_a_finished_run_has_a_row_of_dashes() -> None:
    rows = rows_of({(): made(0.5, 0.6, 0.7), ("a",): {}, ("b_c=1",): made(0.5, 0.4)}, COMMANDS)
    assert cells(rows)[2] == ["without a", "0", *["-"] * 4]
    text = as_markdown(record_of(0, 1, 2), rows)
    assert "Not all seeds are done: without a; with b_c=1." in text
    assert "failed: `full-seed-9`: no_disk" in text


def test_tables_are_ready_for_a_paper() -> None:
    found = {(): made(0.5, 0.6, 0.8), ("a",): made(0.4, 0.55, 0.7), ("b_c=1",): made(0.5, 0.61, 0.79)}
    rows = rows_of(found, COMMANDS)
    text = as_latex(record_of(0, 1, 2), rows)
    assert text.count("{") == text.count("}")
    assert "a \\& b (on STAND-IN data)" in text
    body = re.findall(r"^    (.*) \\\\$", text, flags=re.MULTILINE)
    assert len(body) == 4
    assert len({line.replace(r"\&", "").count("&") for line in body}) == 1
    assert body[3].startswith(r"with \texttt{b\_c=1} & 3 & 0.6333 $\pm$ 0.1464 & $+0.0000$ [$-0.0248$, $+0.0248$] &")
    assert "% python b" in text
    lines = [line for line in as_markdown(record_of(0, 1, 2), rows).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 5
    (full, *_, last) = csv.DictReader(as_csv(rows).splitlines())
    assert float(last["val/acc_difference_mean"]) == pytest.approx(0, abs=1e-9)
    assert (full["val/acc_difference_mean"], last["command"], last["recipe"]) == ("", "python b", "with b_c=1")


# --------------------------------------------------------------------------------------------------------------- runs
def test_the_parent_says_what_the_runs_gave(ablated: Path) -> None:
    record = records.load(ablated)
    assert (record["state"], record["reason"], record["tests_read"]) == ("done", "9 of 9 runs done", 1)
    assert not record["ablation"]["failed"]
    full, warmup, sgd = record["ablation"]["rows"]
    runs = {
        (name, seed): records.load(ablated / f"{name}-seed-{seed}")
        for name in ("full", "without-optim.name")
        for seed in range(3)
    }
    values = {key: run["best"]["value"] for key, run in runs.items()}
    apart = [values["without-optim.name", seed] - values["full", seed] for seed in range(3)]
    assert sgd["figures"]["val/loss"]["difference"]["mean"] == pytest.approx(np.mean(apart))
    assert np.std(apart) > 0, "the premise"
    assert runs["without-optim.name", 2]["fields"]["optim"]["name"] == "sgd"
    assert runs["without-optim.name", 2]["seed"] == 2
    tests = [runs["without-optim.name", seed]["metrics"]["test/loss"] for seed in range(3)]
    assert sgd["figures"]["test/loss"]["values"]["mean"] == pytest.approx(np.mean(tests))
    assert full["figures"]["wall_s"]["values"]["mean"] > 0
    assert {"p", "p_holm"} <= warmup["figures"]["val/loss"].keys()
    (row,) = (
        row
        for row in csv.DictReader((ablated / "ablation.csv").read_text().splitlines())
        if row["recipe"] == "with optim.name=sgd"
    )
    assert float(row["val/loss_difference_mean"]) == pytest.approx(np.mean(apart))
    assert "with optim.name=sgd" in (ablated / "ablation.md").read_text()
    assert r"\toprule" in (ablated / "ablation.tex").read_text()
    assert "ablation/text_summary" in EventAccumulator(str(ablated)).Reload().Tags()["tensors"]


def test_its_runs_are_plain_runs_and_itself_is_none(ablated: Path, houses: Path) -> None:
    assert predict(ablated / "full-seed-1", [houses]).text.count("\n") == 121
    with pytest.raises(InputError, match=r"an ablation, which has no weights.* Name one of its runs: .*full-seed-0"):
        predict(ablated, [houses])
    runs, skipped = find([ablated.parent, ablated])
    assert not skipped
    (block,) = compare(runs)
    assert sorted(len(group.runs) for group in block.groups) == [1, 3, 3, 3], "its own row is no fourth run of a recipe"
    assert "ablation" in block.columns
    with pytest.raises(InputError, match="the ablation is done"):
        ablate(Ablation.of(cli.parser.experiment_of(ablated), records.load(ablated)), RunOptions(resume=ablated))


def test_a_row_is_run_alone(ablated: Path, script: Script) -> None:
    words = shlex.split(records.load(ablated)["ablation"]["rows"][2]["command"])
    done = script("run.py", *words[2:])
    assert done.returncode == 0, done.stderr
    (run,) = records.runs_dir().glob("TableClassification/*")
    child = records.load(ablated / "without-optim.name-seed-0")
    assert records.load(run)["best"] == child["best"], "the same run"


def test_a_run_that_fails_is_shown_and_a_killed_ablation_goes_on(
    houses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "weights.pt"
    words = ["experiments/tables.py:TableClassification", *flags(recipe(houses)), "--seeds", "0", "--without"]
    asked, own = cli.parse_ablate([*words, "optim.warmup", f"weights={missing}"])
    assert cli.ablate(asked, own) == 1
    (run,) = records.runs_dir().glob("*/*")
    record = records.load(run)
    assert (record["state"], record["reason"]) == ("done", "2 of 3 runs done")
    assert str(missing) in record["ablation"]["failed"]["without-weights-seed-0"]
    assert records.load(run / "without-weights-seed-0")["state"] == "failed"
    assert "failed     without-weights-seed-0" in capsys.readouterr().out
    assert "One seed" in (run / "ablation.md").read_text()

    # as kill -9 leaves it: no child after the first has begun, and the process that was at work is gone
    (run / "without-optim.warmup-seed-0" / "run.json").unlink()
    gone = records.load(run) | {"state": "running", "pid": 2**22 + 1, "pid_started": 1.0}
    gone["ablation"] = {name: gone["ablation"][name] for name in ("without", "values", "seeds", "pairs")}
    (run / "run.json").write_text(json.dumps(gone))
    before = (run / "full-seed-0" / "metrics.csv").read_bytes()
    asked, own = cli.parse_ablate(["--resume", str(run)])
    assert cli.ablate(asked, own) == 1
    assert (run / "full-seed-0" / "metrics.csv").read_bytes() == before, "what is done stays"
    assert records.load(run)["reason"] == "2 of 3 runs done"
    with pytest.raises(InputError, match="the ablation's own fields and seeds"):
        cli.parse_ablate(["--resume", str(run), "--max-epochs", "5"])
    with pytest.raises(InputError, match="no ablation"):
        cli.parse_ablate(["--resume", str(run / "full-seed-0")])


def test_nothing_is_compared_where_the_full_recipe_fails(houses: Path) -> None:
    with pytest.raises(InputError, match="the full recipe fails with each seed"):
        ablate(Ablation(recipe(houses, weights="nowhere.pt"), ("optim.warmup",), seeds=(0,)))
    (run,) = records.runs_dir().glob("*/*")
    assert records.load(run)["state"] == "failed"


def test_names() -> None:
    assert run_name(("augment.flip", "optim.name=sgd"), 3) == "without-augment.flip+optim.name-seed-3"
    assert label(("a", "b=1", "c", "d=2")) == "without a and c, with b=1 and d=2"
