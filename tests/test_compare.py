"""compare.py: which runs form a group, what their estimates are, what is shown of them, and what it warns of."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Script
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import FIELDS, make_run, make_seeds, record_of, write_labels
from scipy import stats

from src.configs.spec import Target
from src.experiment import DataSpec, InputError
from src.runs import state
from src.runs.compare import command, files, runs, table
from src.runs.compare.caution import cautions
from src.runs.compare.groups import SHARES, Block, Estimate, compare, differing, estimate
from src.runs.compare.groups import settings as settings_of
from src.runs.compare.runs import KINDS, Run, find
from src.tasks.objectives import default_objective

CATS, DOGS = "experiments.cats.Cats", "experiments.cats.Dogs"


def only(blocks: list[Block]) -> Block:
    assert len(blocks) == 1
    return blocks[0]


# ---------------------------------------------------------------------------------------------------------- estimates
def test_estimate_by_hand() -> None:
    """0.8, 0.9, 1.0: mean 0.9, sd 0.1; t with 2 degrees of freedom is 4.3027, so half of it is 0.2484."""
    found = estimate([0.8, 0.9, 1.0])
    assert (found.n, found.mean, found.sd) == (3, pytest.approx(0.9), pytest.approx(0.1))
    assert (found.low, found.high) == (pytest.approx(0.6516, abs=1e-4), pytest.approx(1.1484, abs=1e-4))


def test_a_single_run_has_no_interval() -> None:
    assert estimate([0.9]) == Estimate(1, 0.9, None, None, None)


@pytest.mark.parametrize("share", [False, True])
def test_of_two_runs_there_are_the_values_and_no_interval(share: bool) -> None:
    found = estimate([0.9, 0.8], share=share)
    assert (found.n, found.mean, found.sd) == (2, pytest.approx(0.85), pytest.approx(np.std([0.8, 0.9], ddof=1)))
    assert (found.low, found.high, found.pair) == (None, None, (pytest.approx(0.8), pytest.approx(0.9)))
    assert estimate([0.9]).pair is None
    assert estimate([0.9, 0.8, 0.7]).pair is None


def test_the_interval_of_shares_by_hand() -> None:
    """0.8, 0.9, 1.0: half of it is 0.2484 / (0.9 * 0.1) = 2.7602 on the logit scale, around log 9 = 2.1972."""
    found = estimate([0.8, 0.9, 1.0], share=True)
    assert (found.mean, found.sd) == (pytest.approx(0.9), pytest.approx(0.1))
    assert found.low == pytest.approx(1 / (1 + math.exp(2.7602 - 2.1972)), abs=1e-4)
    assert found.high == pytest.approx(1 / (1 + math.exp(-2.7602 - 2.1972)), abs=1e-4)


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1 - 1e-16, 5e-324]), min_size=3, max_size=12))
@settings(deadline=None)
def test_intervals_of_shares_are_shares(values: list[float]) -> None:
    found = estimate(values, share=True)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.mean <= found.high <= 1


def test_intervals_of_like_shares_are_students() -> None:
    values = [0.50, 0.501, 0.499, 0.5005]
    plain, logit = estimate(values), estimate(values, share=True)
    assert (logit.low, logit.high) == (pytest.approx(plain.low, abs=1e-6), pytest.approx(plain.high, abs=1e-6))


def test_a_metric_of_that_name_beyond_1_is_no_share() -> None:
    assert estimate([80.0, 90.0, 100.0], share=True) == estimate([80.0, 90.0, 100.0])


@pytest.mark.usefixtures("quiet")
def test_shares_are_the_metrics_that_lie_between_0_and_1() -> None:
    target = {"single_label": 3, "multi_label": 3, "regression": 0}
    found: dict[str, bool] = {"coverage": True}  # the mean of what lies within
    for kind, count in target.items():
        spec = DataSpec(classes=tuple("abc"[:count]), target=Target(kind=kind))  # pyright: ignore[reportArgumentType]
        for name, metric in default_objective(spec).metrics().items():
            found[name] = (metric.plot_lower_bound, metric.plot_upper_bound) == (0, 1)
    assert {name for name, bounded in found.items() if bounded} == set(SHARES)


def test_a_group_knows_which_of_its_metrics_are_shares(tmp_path: Path) -> None:
    found = [
        make_run(tmp_path / str(seed), record_of(seed, metrics={"val/acc": value, "val/rmse": value}))
        for seed, value in enumerate((0.97, 0.99, 1.0))
    ]
    estimates = only(compare(found)).groups[0].estimates
    assert estimates["val/acc"] == estimate([0.97, 0.99, 1.0], share=True)
    assert estimates["best val/acc"].high is not None
    assert estimates["best val/acc"].high <= 1
    assert estimates["val/rmse"] == estimate([0.97, 0.99, 1.0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=12))
@settings(deadline=None)
def test_estimate_is_scipys(values: list[float]) -> None:
    found = estimate(values)
    scale = max(map(abs, values)) + 1
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9 * scale)
    if np.std(values) > 1e-6 * scale:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert (found.low, found.high) == (pytest.approx(low, rel=1e-6), pytest.approx(high, rel=1e-6))
        assert found.sd == pytest.approx(stats.tstd(values))


# ------------------------------------------------------------------------------------------------------------- groups
def test_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path: Path) -> None:
    found = make_seeds(tmp_path / "a", [0.8, 0.9, 1.0]) + make_seeds(tmp_path / "b", [0.5], fields={"batch_size": 16})
    block = only(compare(found))
    assert [len(group.runs) for group in block.groups] == [3, 1]
    assert block.groups[0].estimates["best val/acc"] == estimate([0.8, 0.9, 1.0], share=True)
    assert block.columns == ["batch_size"]
    assert [block.label(group) for group in block.groups] == ["Cats, batch_size 32", "Cats, batch_size 16"]


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"fields": {"optim": {"name": "adamw", "lr": 0.1}}}, "optim.lr"),
        ({"fields": {"extra": 1}}, "extra"),
        ({"weights": {"source": "none (random)"}}, "weights_source"),
        ({"precision": "bf16-mixed"}, "precision_used"),
        ({"data": {"source": "folder /elsewhere"}}, "data"),
        ({"folds": 5}, "folds"),
    ],
)
def test_whatever_else_differs_makes_another_group(tmp_path: Path, changes: dict[str, Any], column: str) -> None:
    found = make_seeds(tmp_path / "a", [0.8]) + make_seeds(tmp_path / "b", [0.9], **changes)
    block = only(compare(found))
    assert len(block.groups) == 2
    assert block.columns == [column]


def test_runs_from_before_a_field_was_there_stay_in_their_group(tmp_path: Path) -> None:
    found = make_seeds(tmp_path / "old", [0.8, 0.9])
    new = {"monitor": "val/acc", "mode": "max", "logger": ["wandb"], "target_kind": None}
    found += make_seeds(tmp_path / "new", [0.7], fields=new)
    assert [len(group.runs) for group in only(compare(found)).groups] == [3]
    found += make_seeds(tmp_path / "f1", [0.7], monitor="val/f1", fields={"monitor": "val/f1", "mode": "max"})
    block = only(compare(found))
    assert sorted(len(group.runs) for group in block.groups) == [1, 3]
    assert block.columns == ["monitor"]


@pytest.mark.parametrize(
    "data", [{"fingerprint": "beef"}, {"split": "stratified 70/15/15"}, {"sizes": {"train": 70, "val": 9, "test": 15}}]
)
def test_other_data_or_another_split_is_another_table(tmp_path: Path, data: dict[str, Any]) -> None:
    found = make_seeds(tmp_path / "a", [0.8]) + make_seeds(tmp_path / "b", [0.9], data=data)
    blocks = compare(found)
    assert len(blocks) == 2
    assert all(block.columns == [] for block in blocks)


def test_fewer_training_examples_of_the_same_data_stay_in_the_table(tmp_path: Path) -> None:
    few = {"sizes": {"train": 7, "val": 15, "test": 15}}
    found = make_seeds(tmp_path / "a", [0.8]) + make_seeds(tmp_path / "b", [0.9], data=few, fields={"labelled": 7})
    assert only(compare(found)).columns == ["labelled"]


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([16, 32]), st.sampled_from([CATS, DOGS])), max_size=12))
@settings(deadline=None)
def test_each_run_is_in_one_group_of_its_own_settings(chosen: list[tuple[int, int, str]]) -> None:
    found = [
        Run(Path(f"run-{i}"), record_of(seed, experiment=name, fields={"batch_size": size}), "done")
        for i, (seed, size, name) in enumerate(chosen)
    ]
    blocks = compare(found)
    groups = [group for block in blocks for group in block.groups]
    assert sorted(run.path for group in groups for run in group.runs) == sorted(run.path for run in found)
    assert len(groups) == len({(size, name) for _, size, name in chosen})
    for group in groups:
        assert all(settings_of(run) == group.settings for run in group.runs)
        assert group.estimates["best val/acc"].n == len({run.seed for run in group.runs})


def test_only_finished_runs_count(tmp_path: Path) -> None:
    found = make_seeds(tmp_path, [0.8, 0.9])
    for seed, ended in ((2, "failed"), (3, "interrupted"), (4, "running")):
        found.append(make_run(tmp_path / ended, record_of(seed, 0.1, state=ended)))
    group = only(compare(found)).groups[0]
    assert group.states == {"done": 2, "failed": 1, "interrupted": 1, "running": 1}
    assert group.estimates["val/acc"] == estimate([0.8, 0.9])


def test_a_group_without_finished_runs_is_shown_last_without_numbers(tmp_path: Path) -> None:
    failed = make_run(tmp_path / "f", record_of(0, 0.99, state="failed", fields={"batch_size": 8}))
    block = only(compare([failed, *make_seeds(tmp_path / "a", [0.8])]))
    assert block.groups[1].best is None
    assert block.groups[1].estimates == {}


def test_a_run_that_failed_before_its_data_is_counted_where_it_would_have_been(tmp_path: Path) -> None:
    early = record_of(7, state="failed")
    for name in ("data", "weights", "best", "metrics", "precision"):
        del early[name]
    alone = early | {"experiment": DOGS}
    found = [*make_seeds(tmp_path, [0.8]), make_run(tmp_path / "e", early), make_run(tmp_path / "x", alone)]
    first, second = compare(found)
    assert first.groups[0].states == {"done": 1, "failed": 1}
    assert (second.data, second.groups[0].name) == ({}, "Dogs")


def test_the_same_seed_again_is_no_more_evidence(tmp_path: Path) -> None:
    found = make_seeds(tmp_path, [0.8, 0.9])
    found.append(make_run(tmp_path / "again", record_of(0, 0.7, started="2026-11-23T00:00:00Z")))
    blocks = compare(found)
    assert only(blocks).groups[0].estimates["best val/acc"] == estimate([0.7, 0.9])
    assert any("only its newest run counts: Cats seed 0" in line for line in cautions(blocks))


def test_best_first_whichever_way_is_better(tmp_path: Path) -> None:
    for monitor, wanted in (("val/acc", 0.9), ("val/rmse", 0.1), ("val/loss", 0.1)):
        found = [
            make_run(tmp_path / monitor / str(value), record_of(0, value, monitor=monitor, fields={"batch_size": size}))
            for size, value in ((1, 0.5), (2, 0.9), (3, 0.1))
        ]
        best = only(compare(found)).groups[0].best
        assert best
        assert best.best["value"] == wanted


@pytest.mark.parametrize(("mode", "wanted"), [("min", 0.1), ("max", 0.9)])
def test_the_record_says_which_way_is_better(tmp_path: Path, mode: str, wanted: float) -> None:
    """Of a metric of any name, such as perplexity, and against what its name would say."""
    for monitor in ("val/perplexity", "val/loss", "val/acc"):
        folder = tmp_path / monitor
        found = [
            make_run(folder / f"{value}", record_of(seed, best={"name": monitor, "mode": mode, "value": value}))
            for seed, value in enumerate((0.5, 0.9, 0.1))
        ]
        best = only(compare(found)).groups[0].best
        assert best
        assert best.best["value"] == wanted, monitor
        for run in found:
            run.record["fields"] = run.record["fields"] | {"batch_size": run.seed}
        groups = only(compare(found)).groups
        assert [group.runs[0].best["value"] for group in groups] == sorted((0.1, 0.5, 0.9), reverse=mode == "max")


def test_best_run_of_a_group(tmp_path: Path) -> None:
    block = only(compare(make_seeds(tmp_path, [0.5, 0.9, 0.7])))
    assert block.groups[0].best
    assert block.groups[0].best.seed == 1


def test_experiments_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = make_seeds(tmp_path / "a", [0.8]) + make_seeds(tmp_path / "b", [0.9], experiment="experiments.other.Cats")
    block = only(compare(found))
    assert [block.title(group) for group in block.groups] == ["experiments.other.Cats", "experiments.cats.Cats"]


def test_metrics_of_test_stand_only_where_it_was_read(tmp_path: Path) -> None:
    found = make_seeds(tmp_path / "a", [0.8])
    assert only(compare(found)).main_metrics == ["best val/acc"]
    metrics = {"val/acc": 0.8, "test/acc": 0.7, "test/f1": 0.6}
    block = only(compare([*found, make_run(tmp_path / "b", record_of(1, metrics=metrics))]))
    assert block.main_metrics == ["best val/acc", "test/acc"]
    assert "test/f1" in block.metrics
    assert block.groups[0].estimates["test/acc"].n == 1


def test_differing() -> None:
    assert differing([{"a": 1, "b": [1]}, {"a": 1, "b": [2], "experiment": "x"}, {"a": 1}]) == ["b"]
    assert differing([{"a": 1}]) == differing([]) == []


# ----------------------------------------------------------------------------------------------------- finding, reading
def test_runs_are_found_below_folders_and_by_name_once(tmp_path: Path) -> None:
    make_seeds(tmp_path / "runs/A", [0.8, 0.9])
    make_seeds(tmp_path / "runs/B/deep", [0.7])
    (tmp_path / "runs/report.html").touch()
    found, skipped = find([tmp_path / "runs", tmp_path / "runs/A/run-0", tmp_path / "runs/report.html"])
    assert sorted(str(run.path.relative_to(tmp_path)) for run in found) == [
        "runs/A/run-0",
        "runs/A/run-1",
        "runs/B/deep/run-0",
    ]
    assert skipped == []


def test_folds_belong_to_their_parent_unless_named(tmp_path: Path) -> None:
    parent = make_run(tmp_path / "runs/A/x", record_of(folds=2))
    child = make_run(parent.path / "fold-1", record_of())
    assert [run.path for run in find([tmp_path / "runs"])[0]] == [parent.path]
    assert [run.path for run in find([child.path])[0]] == [child.path]


def with_entry(record: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return the record with another entry of a dotted name."""
    first, _, rest = name.partition(".")
    return record | {first: with_entry(record[first], rest, value) if rest else value}


@pytest.mark.parametrize(
    "text",
    [
        '{"experiment": "a.B", "fie',
        "[]",
        "{}",
        json.dumps(record_of() | {"fields": 3}),
        json.dumps(record_of() | {"metrics": {"val/acc": "high"}}),
        json.dumps(record_of() | {"best": {"name": "val/acc"}}),
        json.dumps(record_of() | {"best": {"name": "val/acc", "value": 0.5, "mode": "least"}}),
        json.dumps(record_of() | {"best": {"name": None, "value": 0.5}}),
        json.dumps(record_of() | {"data": {"source": "x"}}),
        "\xff",
        '{"experiment": "a.B", "fields": {}, "state": "done", "git": ' + '{"a":' * 400 + "1" + "}" * 401,
        "[" * 200_000,
        *(
            json.dumps(with_entry(record_of(), name, value))
            for name, kind in KINDS.items()
            for value in (None, [], {}, "x", 3)
            if not isinstance(value, kind)
        ),
    ],
)
def test_a_damaged_record_is_named_and_hides_no_other(tmp_path: Path, text: str) -> None:
    make_seeds(tmp_path / "runs", [0.8])
    (tmp_path / "runs/broken").mkdir()
    (tmp_path / "runs/broken/run.json").write_text(text, encoding="latin-1")
    found, skipped = find([tmp_path / "runs"])
    assert len(found) == 1
    assert len(skipped) == 1
    assert "runs/broken/run.json: damaged record" in skipped[0]


def test_an_entry_of_a_kind_that_is_not_checked_hides_no_other(tmp_path: Path) -> None:
    make_seeds(tmp_path / "runs", [0.8])
    odd = (None, [], "x", 3, True, float("inf"), [[]], {"a": {}}, "\x00\ud800")
    for number, (name, value) in enumerate(itertools.product(record_of(), odd)):
        folder = tmp_path / "runs" / f"odd-{number}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(record_of() | {name: value}), encoding="utf-8")
    found, skipped = find([tmp_path / "runs"])
    assert len(found) + len(skipped) == 1 + len(record_of()) * len(odd)
    places = [tmp_path / name for name in ("groups.csv", "groups.json", "page.html")]
    assert command.write([tmp_path / "runs"], csv=places[0], json=places[1], html=places[2]) == 0
    assert all(place.stat().st_size for place in places)


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run found"):
        find([tmp_path])
    with pytest.raises(InputError, match="gone: not there"):
        find([tmp_path / "gone"])


def test_a_died_run_is_shown_with_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_seeds(tmp_path / "runs", [0.8])
    gone = make_run(tmp_path / "runs/gone", record_of(1, state="running", reason="")).path
    monkeypatch.setattr(state, "state_of", lambda run, record: "died" if run == gone else record["state"])
    command.write([tmp_path / "runs"], csv=None, json=None, html=None)
    out = capsys.readouterr().out
    assert "1 done, 1 died" in out
    assert re.search(r"died +\S+/runs/gone +last at epoch 3, step 30", out)


def test_a_failed_run_is_shown_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "bad", record_of(state="failed", reason="InputError: no such file"))
    command.write([tmp_path], csv=None, json=None, html=None)
    assert re.search(r"failed +\S+/bad +InputError: no such file; last at", capsys.readouterr().out)


# ----------------------------------------------------------------------------------------------------------- terminal
def shown(found: list[Run], capsys: pytest.CaptureFixture[str]) -> str:
    blocks = compare(found)
    table.show(blocks, cautions(blocks), [])
    return capsys.readouterr().out


def test_table_shows_only_columns_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = make_seeds(tmp_path / "a", [0.8, 0.9]) + make_seeds(tmp_path / "b", [0.5], fields={"batch_size": 16})
    out = shown(found, capsys)
    header = next(line for line in out.splitlines() if line.strip().startswith("experiment"))
    assert header.split() == ["experiment", "batch_size", "runs", "n", "best", "val/acc"]
    assert "0.8500 ± 0.0707  (0.8000, 0.9000)" in out
    assert "WARNING" not in out


def test_stand_in_data_cannot_be_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(make_seeds(tmp_path, [0.8], data={"stand_in": True, "source": "drawn"}), capsys)
    assert "STAND-IN  drawn" in out
    assert "best val/acc (STAND-IN)" in out
    assert "WARNING  STAND-IN data (drawn)" in out
    assert "STAND-IN" not in shown(make_seeds(tmp_path / "real", [0.8]), capsys)


def test_brackets_of_the_user_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        *make_seeds(tmp_path / "a", [0.8], fields={"note": "[red]x[/red]"}),
        *make_seeds(tmp_path / "b", [0.8], fields={"note": ["[/]"]}),
    ]
    out = shown(found, capsys)
    assert "[red]x[/red]" in out
    assert "[/]" in out


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98765, "0.9877"),
        (-12.3456, "-12.35"),
        (51234.6, "51,235"),
        (0.0, "0.0000"),
        (1e-5, "1e-05"),
        (math.nan, "nan"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert table.number(value) == text


def test_a_metric_that_few_runs_have_says_of_how_many_it_is() -> None:
    assert table.shown(estimate([0.5]), 3) == "0.5000  (n 1)"
    assert table.shown(estimate([0.5]), 1) == "0.5000"
    assert table.shown(estimate([0.5, 0.5]), 3).endswith(")  (n 2)")
    assert table.shown(estimate([0.5, 0.5, 0.5]), 4).endswith("]  (n 3)")
    assert table.shown(None, 3) == ""


# ----------------------------------------------------------------------------------------------------------- warnings
def warned(*found: list[Run]) -> list[str]:
    return cautions(compare(run for some in found for run in some))


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    assert warned(make_seeds(tmp_path, [0.8, 0.9], tests_read=1)) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": {"fingerprint": "beef"}}, "Other data: 2 data fingerprints"),
        ({"data": {"split": "stratified"}}, "Other split of folder /data/cats"),
        (
            {"data": {"fingerprint": "d", "source": "drawn", "stand_in": True}},
            "never set Cats on them beside Cats on real",
        ),
        ({"weights": {"source": "lite"}}, "Other weights: Cats began from imagenet and from lite"),
        (
            {"asked": {"backbone": "resnet50"}, "fields": {"backbone": "lite"}},
            "STAND-IN weights: Cats: backbone lite in place of resnet50",
        ),
        ({"tests_read": 2}, "Test set read more than once"),
        ({"git": {"commit": "c0ffee", "dirty": True}}, "Uncommitted code: 1 of 2 runs"),
        ({"git": {"commit": "dead", "dirty": False}, "seed": 5}, "Runs of several commits in one group: Cats"),
    ],
)
def test_each_reason_is_said(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    changed = [
        make_run(tmp_path / "b", record_of(5, 0.8) | {k: v for k, v in changes.items() if k not in ("data", "fields")})
    ]
    if part := {k: v for k, v in changes.items() if k in ("data", "fields")}:
        others = {k: v for k, v in changes.items() if k not in part}
        changed = [make_run(tmp_path / "c", record_of(5, 0.8, **part, **others))]
    lines = warned(make_seeds(tmp_path / "a", [0.8]), changed)
    assert [line for line in lines if says in line], lines


# -------------------------------------------------------------------------------------------------------------- files
def test_csv_round_trip(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 0.7, 0.9]
    found = make_seeds(tmp_path / "a", values) + make_seeds(tmp_path / "b", [0.5], fields={"batch_size": 16})
    first, second = csv.DictReader(io.StringIO(files.as_csv(compare(found))))
    assert (first["experiment"], first["batch_size"], second["batch_size"]) == (CATS, "32", "16")
    assert "max_epochs" not in first
    wanted = estimate(values, share=True)
    for part in ("mean", "sd", "n", "low", "high"):
        assert float(first[f"best val/acc_{part}"]) == getattr(wanted, part)
    assert (second["val/acc_mean"], second["val/acc_sd"], second["val/acc_low"]) == ("0.5", "", "")
    assert (first["done"], first["died"], first["data"], first["stand_in"]) == ("3", "0", "folder /data/cats", "False")


def test_json_round_trip(tmp_path: Path) -> None:
    found = make_seeds(tmp_path / "a", [0.1 + 0.2, 0.7])
    found.append(make_run(tmp_path / "b", record_of(9, metrics={"val/acc": math.nan}, fields={"batch_size": 16})))
    blocks = compare(found)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    read = json.loads(files.as_json(blocks, ["beware"], ["x: damaged"]), parse_constant=refuse)
    assert (read["warnings"], read["skipped"]) == (["beware"], ["x: damaged"])
    nan, group = sorted(read["groups"], key=lambda one: len(one["runs"]))
    assert Estimate(**group["estimates"]["best val/acc"]) == estimate([0.1 + 0.2, 0.7])
    assert group["settings"]["optim.lr"] == FIELDS["optim"]["lr"]
    assert [(run["seed"], run["state"], run["counted"]) for run in group["runs"]] == [
        (0, "done", True),
        (1, "done", True),
    ]
    assert nan["estimates"]["val/acc"]["mean"] is None
    assert nan["differs"] == {"batch_size": 16}


# ------------------------------------------------------------------------------------------------------ command line
def test_cli_compares_and_writes(script: Script, tmp_path: Path) -> None:
    make_seeds(tmp_path / "runs/Cats", [0.8, 0.9])
    (tmp_path / "runs/Cats/broken").mkdir()
    (tmp_path / "runs/Cats/broken/run.json").write_text("{")
    paths = {name: tmp_path / "out" / f"all.{name}" for name in ("csv", "json", "html")}
    flags = [word for name, path in paths.items() for word in (f"--{name}", path)]
    done = script("compare.py", *flags)  # LEYDEN_RUNS names the runs
    assert done.returncode == 0, done.stderr
    assert "0.8500 ± 0.0707" in done.stdout
    assert re.search(r"SKIPPED +\S+broken/run.json: damaged record", done.stdout)
    assert paths["csv"].read_text().count("\n") == 2
    assert len(json.loads(paths["json"].read_text())["groups"]) == 1
    assert paths["html"].read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere: not there"),
        (["tests"], "no run found"),
        (["--cvs", "x"], "--csv"),
        (["diff", "tests"], "required"),
        (["diff", "tests", "tests"], "tests: no run"),
    ],
)
def test_cli_errors_exit_with_2(script: Script, words: list[str], says: str) -> None:
    done = script("compare.py", *words)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_cli_cannot_write(script: Script, tmp_path: Path) -> None:
    make_seeds(tmp_path / "runs/Cats", [0.8])
    done = script("compare.py", "--csv", tmp_path / "runs/Cats/run-0/run.json/x.csv")
    assert done.returncode == 2
    assert "error: --csv" in done.stderr


def test_cli_diff(script: Script, tmp_path: Path) -> None:
    first = make_run(tmp_path / "A", record_of(0, 0.75, versions={"torch": "2.14"}))
    fields = {"optim": {"name": "adamw", "lr": 0.5}}
    second = make_run(tmp_path / "B", record_of(1, 0.25, fields=fields, data={"split": "other"}))
    for run, width, labels in ((first, 8, "aabb"), (second, 16, "abab")):
        (run.path / "cats.py").write_text(f'"""Cats."""\n\nwidth = {width}\n')
        (run.path / "split.json").write_text(json.dumps({"val": [str(width)]}))
        write_labels(run.path, "aabb", labels)
    done = script("compare.py", "diff", first.path, second.path)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for wanted in ("seed 0 1", "optim.lr 0.001 0.5", "split as given other", "torch 2.14 2.15.0", "weights: the same"):
        assert wanted in lines
    assert {"-width = 8", "+width = 16", "best val/acc 0.7500 0.2500 0.5000"} <= set(lines)
    assert any(line.startswith("ids.val ") for line in lines)
    assert any("val/acc of 4 examples: A 1.0000, B 0.5000, A - B 0.5000" in line for line in lines)
    assert "Other split of folder /data/cats" in done.stdout
    assert "max_epochs" not in done.stdout.replace("max_epochs 3 reached", "")


def test_a_thousand_runs_without_torch(tmp_path: Path) -> None:
    """Grouped right, and by reading no more than run.json; how fast that is, benchmarks/startup.py says."""
    for number in range(1000):
        seed, size = number % 5, number // 5
        record = record_of(seed, 0.5 + 0.01 * seed, fields={"batch_size": size})
        folder = tmp_path / "runs/Cats" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(record))
    code = (
        "import sys; from pathlib import Path; from src.runs.compare import command;"
        "runs, out = map(Path, sys.argv[1:]); command.write([runs], csv=None, json=out, html=None);"
        "print([name for name in ('torch', 'lightning', 'matplotlib', 'pandas', 'tensorboard') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "runs", tmp_path / "all.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    groups = json.loads((tmp_path / "all.json").read_text())["groups"]
    assert len(groups) == 200
    assert {group["estimates"]["best val/acc"]["n"] for group in groups} == {5}
    assert done.stdout.count("0.5200 ± 0.0158") == 200


def test_a_run_of_the_runner_can_be_read(houses: Path) -> None:
    """What made_runs.py makes up is what the runner writes, as far as a comparison looks at it."""
    from experiments.tables import TableLinear
    from src.training import runner
    from src.training.trainer import quieten

    quieten()
    run = runs.read(runner.run(TableLinear(data_dir=houses, target="price", max_epochs=1)))
    block = only(compare([run]))
    assert block.groups[0].counted == [run]
    assert block.groups[0].estimates["best val/rmse"].n == 1
    assert block.main_metrics == ["best val/rmse"]
    assert set(record_of()) <= set(run.record) | {"fold"}
