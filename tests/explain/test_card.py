"""Model cards: what they say of groups, seeds, children, own modules; what is refused; and, slow, the page."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browser import Chromium, chromium_or_skip
from conftest import own_home
from huggingface_hub import ModelCard
from kills import Lightning, Mortal, SmallBackbone

from experiments.images import Images, ImagesRegression
from experiments.tables import TableClassification, TableRegression
from experiments.texts import TextsLstm
from scripts import card as command
from src import cli
from src.experiment import Columns, InputError, Perceptron, Vocabulary
from src.explain import kept
from src.explain.card.by_group import grouped
from src.explain.card.evaluation import number
from src.explain.card.metadata import base_of
from src.explain.card.reported import read
from src.explain.card.sections import energy, recipe
from src.explain.card.write import plain, write
from src.runs import records
from src.studies.cross_validation import cross_validate
from src.studies.ensemble import ensemble
from src.training import runner

pytestmark = pytest.mark.usefixtures("quiet", "undrawn")

EVIL = "<script>alert('x')</script>|*b*"
MLP = Perceptron(width=8, depth=1, bins=0)


class People(Mortal, TableClassification):
    """A class of a row; rows of a household stay together."""

    target = "size"
    columns = Columns(group="household")
    mlp = MLP
    max_epochs = 1
    accelerator = "cpu"


class Prices(Mortal, TableRegression):
    """A number for a row."""

    target = "price"
    mlp = MLP
    max_epochs = 1
    accelerator = "cpu"


class Reviews(Mortal, TextsLstm):
    """A class of a text."""

    vocabulary = Vocabulary(size=50, width=4)
    max_epochs = 1
    accelerator = "cpu"


class Cats(SmallBackbone, Images):
    """A class of an image."""

    max_epochs = 1


class Ages(SmallBackbone, ImagesRegression):
    """A number for an image."""

    target = "age"
    max_epochs = 1


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, most of a card's time, but where a browser looks at them; `test_cells` draws them too."""
    if "slow" not in request.keywords:
        monkeypatch.setattr("src.explain.drawings.svg_of", lambda figure, unique: "<svg></svg>")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table `id,household,town,age,income,size,price` of 600 people of 300 households; not to be changed."""
    rng = np.random.default_rng(0)
    age, income = rng.uniform(18, 90, 600), rng.normal(30, 8, 600)
    town = np.array(["Delft", "Ghent", "Leyden"])[np.arange(600) // 2 % 3]
    town[:10] = "Utrecht"
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(600)], "household": np.arange(600) // 2, "town": town})
    frame = frame.assign(age=age.round(1), income=income.round(2), size=np.where(income > 30, "large", "small"))
    path = tmp_path_factory.mktemp("people") / "people.csv"
    frame.assign(price=(income * 1000).round()).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of `People`; not to be changed."""
    with own_home(tmp_path_factory.mktemp("card")):
        return runner.run(People(data_dir=people))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "runs" / "People" / trained.name)


def change(run: Path, **changes: Any) -> Path:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | changes))
    return run


def section(card: Path, title: str) -> str:
    """Return the text below a heading of `card.md` and what is above the next of any size, blanks made one."""
    found = re.split(r"^#+ (.*)\n", card.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))[title]


def front_of(card: Path) -> Any:
    """Return the front matter of a `card.md` as Hugging Face's library reads it."""
    return ModelCard.load(card).data


def validated(run: Path, table: Path) -> pd.DataFrame:
    """Return the rows of a table that a run has predicted for validation, in their order."""
    ids = pd.read_csv(run / "predictions_val.csv")["id"]
    return pd.read_csv(table, dtype=str).set_index("id").loc[ids]


def shown_groups(text: str) -> dict[str, int]:
    """Return the number of examples of each group in a table of `card.md`."""
    return {name: int(count) for name, count in re.findall(r"^\| ([^|]+) \| (\d+) \|", text, re.MULTILINE)}


def wrong_for(run: Path, table: Path, town: str) -> None:
    """Write validation predictions that are right for all but the people of a town."""
    rows = pd.read_csv(run / "predictions_val.csv", dtype=str)
    wrong = (validated(run, table)["town"] == town).to_numpy()
    for name in ("large", "small"):
        rows[f"prob_{name}"] = np.where((rows["target"] == name) ^ wrong, 0.9, 0.1)
    rows.to_csv(run / "predictions_val.csv", index=False)
    right = {"val/acc", "val/balanced_acc", "val/f1", "val/auroc"}  # no longer
    metrics = {name: value for name, value in records.load(run)["metrics"].items() if name not in right}
    change(run, metrics=metrics | {"val/acc": float(1 - wrong.mean())})


# --------------------------------------------------------------------------------------------------------------- groups
def test_the_worst_group_is_named(copied: Path, people: Path) -> None:
    wrong_for(copied, people, "Ghent")
    card, page = write(copied, groups=["town", "age"])
    towns = section(card, "Groups of town")
    counts = validated(copied, people)["town"]
    for town in ("Delft", "Leyden"):
        assert f"| {town} | {(counts == town).sum()} | 1.0000 |" in towns
    assert f"| Ghent | {(counts == 'Ghent').sum()} | 0.0000 | 0.0000 to " in towns
    assert "Worst: town Ghent, acc 0.0000" in towns
    assert "more than chance" in towns
    quartiles = shown_groups(section(card, "Groups of age"))
    assert [name.split()[0] for name in quartiles][::3] == ["up", "above"]
    assert sum(quartiles.values()) == len(counts)
    assert max(quartiles.values()) - min(quartiles.values()) <= 1
    assert "Worst: town Ghent" in page.read_text()


def test_the_worst_of_four_groups_is_worse_than_chance_only_beyond_what_picking_it_explains(
    copied: Path, people: Path
) -> None:
    """Its 95 % interval leaves out the score of all, but not that of 98.75 %."""
    rows = pd.read_csv(copied / "predictions_val.csv", dtype=str)
    order = np.argsort(validated(copied, people)["age"].astype(float).to_numpy())
    youngest = order[: len(order) // 4]
    said: list[tuple[bool, bool]] = []
    for count in range(1, 9):
        right = np.ones(len(rows), bool)
        right[youngest[:count]] = False
        for name in ("large", "small"):
            rows[f"prob_{name}"] = np.where((rows["target"] == name) == right, 0.9, 0.1)
        rows.to_csv(copied / "predictions_val.csv", index=False)
        (one,) = grouped(read(copied), ["age"])
        assert one.worst
        assert one.worst.score
        low, high = one.worst.score.interval or (0, 1)
        said.append((one.stands_out, not low <= one.overall.value <= high))
    assert (False, True) in said
    assert said[-1] == (True, True)
    assert (True, False) not in said


def test_few_examples_say_nothing_and_the_experiments_groups_come_unasked(
    copied: Path, people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card, _ = write(copied)
    households = validated(copied, people)["household"].value_counts()
    said = f"{len(households)} groups, the largest of {households.max()} examples: too few to say."
    assert said in section(card, "Groups of household")
    assert "those of one household are not, so they are too narrow" in card.read_text()
    assert "Utrecht" not in card.read_text()
    card, _ = write(copied, groups=["town"])
    counts = validated(copied, people)["town"]
    if few := (counts == "Utrecht").sum():
        assert f"| Utrecht | {few} | too few to say |" in section(card, "Groups of town")
        assert f"town Utrecht ({few})" in section(card, "Bias, Risks, and Limitations")
    change(copied, fields=records.load(copied)["fields"] | {"data_dir": "/gone.csv"})
    write(copied)
    assert "no scores by --columns.group: /gone.csv: the run's data are no longer there" in capsys.readouterr().out
    with pytest.raises(InputError, match="the run's data are no longer there"):
        write(copied, groups=["town"])
    write(copied, groups=["town"], data_dir=people)


def test_columns_that_are_not_there_and_other_data_are_refused(copied: Path, people: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--group twon: no such column\. Did you mean town"):
        write(copied, groups=["twon"])
    other = tmp_path / "other.csv"
    pd.read_csv(people).assign(income=1.0).to_csv(other, index=False)
    with pytest.raises(InputError, match=r"the data have changed since .*, so they are not the run's own"):
        write(copied, groups=["town"], data_dir=other)
    (copied / "predictions_val.csv").unlink()
    with pytest.raises(InputError, match="has saved no predictions"):
        write(copied, groups=["town"])


def test_texts_and_images_have_groups_too(texts: Path, photos: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(texts, dtype=str)
    path = tmp_path / "reviews.csv"
    pd.concat([frame.assign(site=site, text=frame["text"] + site) for site in ("a", "b")]).to_csv(path, index=False)
    run = runner.run(Reviews(data_dir=path))
    text = section(write(run, groups=["site"])[0], "Groups of site")
    rows = pd.read_csv(run / "predictions_val.csv")
    expected = pd.read_csv(path)["site"][rows["id"]].value_counts()
    assert shown_groups(text) == dict(expected)
    run = runner.run(Ages(data_dir=photos))
    text = section(write(run, groups=["label"])[0], "Groups of label")
    ids = pd.read_csv(run / "predictions_val.csv")["id"]
    expected = pd.read_csv(photos).set_index("path")["label"][ids].value_counts()
    assert shown_groups(text) == dict(expected)


def test_a_run_on_no_table_has_no_columns(images: Path) -> None:
    run = runner.run(Cats(data_dir=images, limit_train_batches=1))
    with pytest.raises(InputError, match="are no table, so they have no columns"):
        write(run, groups=["camera"])


# -------------------------------------------------------------------------------------------------- what is in the card
def test_it_says_what_was_not_tested(copied: Path, people: Path) -> None:
    card, _ = write(copied)
    text = section(card, "Bias, Risks, and Limitations")
    for said in (
        f"Data of any other source than file {people.name}:",
        "it is there and was never read; the scores are of the validation split",
        "no other seed of these settings is beside it",
        "it was not cross-validated",
        f"Another precision than {records.load(copied)['precision']}, or another device than cpu x 1",
        "it was not exported",
    ):
        assert said in text
    assert "STAND-IN" not in card.read_text()
    record = records.load(copied)
    change(copied, tests_read=2, data=record["data"] | {"stand_in": True}, asked={"backbone": "resnet50"})
    card, page = write(copied)
    assert "it was read 2 times" in section(card, "Bias, Risks, and Limitations")
    assert "stand-in-data" in (front_of(card).tags or [])
    for part in (card.read_text(), page.read_text()):
        assert "no score here holds for the real data" in part
        assert "took the place of resnet50" in part
    assert page.read_text().count('class="loud"') >= 3


def test_other_seeds_are_counted(copied: Path) -> None:
    best = records.load(copied)["best"]
    for seed, value in ((1, 0.25), (2, 0.75)):
        other = shutil.copytree(copied, copied.with_name(f"seed-{seed}"))
        change(other, seed=seed, best=best | {"value": value})
    change(copied, best=best | {"value": 0.5})
    other = shutil.copytree(copied, copied.with_name("other"))
    change(other, seed=3, fields=records.load(copied)["fields"] | {"patience": 9})
    text = section(write(copied)[0], "Bias, Risks, and Limitations")
    assert f"More than 3 seeds: with seed 1, 2 of the same settings {best['name']} is 0.5000 ± 0.2500" in text


def test_the_recipe_says_who_set_what(copied: Path) -> None:
    fields = records.load(copied)["fields"]
    record = records.load(change(copied, fields=fields | {"patience": 7, "batch_size": 5}))
    rows = {row[0]: row[1:] for row in recipe(record)}
    assert rows["patience"] == ["7", "None", "flag"]
    assert rows["batch_size"] == ["5", "32", "flag"]
    assert rows["columns.group"] == ["household", "", "experiment"]
    assert rows["max_epochs"] == ["1", "10", "experiment"]
    assert "seed" not in rows
    assert "accumulate" not in rows
    assert recipe(record | {"experiment": "gone.Gone"})[0][-1] == ""


def test_of_calibration_no_heading_is_empty_and_no_sentence_says_not(copied: Path) -> None:
    assert section(write(change(copied, calibration={}))[0], "Calibration").strip().endswith("card.html.")
    tried = {"temperature": 1.0, "temperature_tried": 1.37, "ece_before": 0.02, "ece_tried": 0.03, "threshold": None}
    text = section(write(change(copied, calibration=tried))[0], "Calibration")
    assert "On validation: the temperature stays 1, since 1.370 makes it worse" in text


def test_front_matter_is_hugging_faces(copied: Path) -> None:
    card, _ = write(copied)
    data = front_of(card)
    assert (data.pipeline_tag, data.license, data.library_name) == ("tabular-classification", "unknown", "leyden")
    results = {one.metric_name: one for one in data.eval_results or []}
    accuracy = results["val/acc"]
    assert (accuracy.metric_type, accuracy.dataset_split) == ("accuracy", "validation")
    assert accuracy.dataset_args == {"fingerprint": records.load(copied)["data"]["fingerprint"]}
    low, high = (accuracy.metric_args or {})["interval_95"]
    assert low < accuracy.metric_value < high
    titles = re.findall(r"^## (.*)", card.read_text(), re.MULTILINE)
    assert titles == [
        "Model Details",
        "Uses",
        "Bias, Risks, and Limitations",
        "How to Get Started with the Model",
        "Training Details",
        "Evaluation",
        "Model Examination",
        "Environmental Impact",
        "Technical Specifications",
    ]


@pytest.mark.parametrize(
    ("source", "licence", "base"),
    [
        ("timm download: timm/resnet18.a1_in1k", "apache-2.0", "timm/resnet18.a1_in1k"),
        ("Hub download: prajjwal1/bert-tiny", "unknown", "prajjwal1/bert-tiny"),
        ("file /weights.pt", "unknown", None),
    ],
)
def test_first_weights_and_their_licence(copied: Path, source: str, licence: str, base: str | None) -> None:
    change(copied, weights={"source": source})
    card, _ = write(copied)
    data = front_of(card)
    assert (data.license, data.base_model) == (licence, base)
    assert base_of(source) == base
    details = section(card, "Model Details")
    assert ("apache-2.0, as timm says" if licence != "unknown" else "not known here") in details


def test_explanations_checks_are_in_it(copied: Path) -> None:
    assert "Its answers were not explained" in section(write(copied)[0], "Model Examination")
    (copied / "explanations").mkdir()
    empty = {"lines": [], "warnings": ["do not trust these"]}
    found = {"Kernel SHAP": {"lines": ["faithful 0.4"], "warnings": ["do not trust these"]}, "occlusion": empty}
    (copied / "explanations" / "checks.json").write_text(json.dumps(found))
    card, page = write(copied)
    text = section(card, "Model Examination")
    assert "Explained by Kernel SHAP" in text
    assert "Explained by occlusion" in text
    assert "- faithful 0.4" in text
    assert "**do not trust these**" in text
    loud = "Explanations by Kernel SHAP; occlusion: do not trust these"
    assert page.read_text().index(loud) < page.read_text().index("<h2")
    (copied / "explanations" / "checks.json").write_text("[]")
    with pytest.raises(InputError, match=r"checks.json: damaged"):
        write(copied)


def test_explanations_checks_say_of_what_when_and_how(copied: Path) -> None:
    (copied / "explanations").mkdir()
    found: dict[str, Any] = {"lines": [], "warnings": [], "examples": 60}
    found |= {"made": "2026-11-29T16:00:00Z", "command": "python scripts/explain.py runs/X/1 '/home/ada/my rows.csv'"}
    (copied / "explanations" / "checks.json").write_text(json.dumps({"LIME": found}))
    text = section(write(copied)[0], "Model Examination")
    assert "Explained by LIME, checked on 60 validation examples." in text
    assert "Made 2026-11-29T16:00:00Z by python scripts/explain.py runs/X/1 'my rows.csv'." in text
    found |= {"examples": 1, "command": "explain.py --out=/home/ada/why.html 'unfinished"}
    (copied / "explanations" / "checks.json").write_text(json.dumps({"LIME": found}))
    text = section(write(copied)[0], "Model Examination")
    assert "checked on 1 validation example." in text
    assert "Made 2026-11-29T16:00:00Z." in text


def test_no_folder_of_this_machine_is_in_it(copied: Path, people: Path) -> None:
    record = records.load(copied)
    fields = record["fields"] | {"data_dir": str(people), "quarantine": str(people.with_name("odd.csv"))}
    change(copied, fields=fields, weights={"source": f"file {people.with_name('start.pt')}"})
    (copied / "explanations").mkdir()
    command = f"python {people.with_name('explain.py')} {copied} {people} --out={people.with_suffix('.html')}"
    found = {"lines": [], "warnings": [], "command": command}
    (copied / "explanations" / "checks.json").write_text(json.dumps({"LIME": found}))
    for path in write(copied):
        text = path.read_text()
        assert not [folder for folder in (people.parent, copied.parent) if str(folder) in text]
        for name in (people.name, "odd.csv", "start.pt", "people.html", copied.name):
            assert name in text
    (result, *_) = front_of(copied / "card.md").eval_results or []
    assert (result.dataset_name, result.dataset_type) == ("file people.csv", "file-people-csv")


def test_energy_and_memory_are_those_that_were_told(copied: Path) -> None:
    change(copied, energy_j={}, peak_memory={"process": 1_234_000_000})
    assert energy(read(copied)).startswith("not measured: the machine did not tell")
    assert "1.23 GB of the main process" in section(write(copied)[0], "Speeds, Sizes, Times")
    change(copied, energy_j={"processors": 1800.0})
    assert energy(read(copied)) == "0.5 Wh by the machine's processors, all its programs included"
    change(copied, device="cuda x 1", peak_memory={"process": 5, "gpu": 3_000_000_000})
    assert "; by the GPU not measured: it tells where nvidia-ml-py is installed" in energy(read(copied))
    change(copied, energy_j={"gpu": 36_000.0})
    assert energy(read(copied)) == "10 Wh by the first GPU"
    assert "3.00 GB of tensors on the first GPU" in section(write(copied)[0], "Speeds, Sizes, Times")


def test_what_users_named_is_escaped(copied: Path) -> None:
    record = records.load(copied)
    change(copied, data=record["data"] | {"source": EVIL, "notes": [EVIL], "stand_in": True}, reason=EVIL)
    card, page = write(copied, out=copied / "out")
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    body = card.read_text().split("---\n", 2)[2]
    assert "<script" not in body.replace("\\<script", "")
    assert "alert('x')\\</script>\\|\\*b\\*" in body
    assert all(line.count(" | ") == 1 for line in section(card, "Model Details").splitlines() if "EVIL" in line)
    assert front_of(card).eval_results


def test_plain_text_stays_plain_in_markdown() -> None:
    assert plain("val/balanced_acc a_b _it_ > 1\n- x") == "val/balanced_acc a_b \\_it\\_ > 1 - x"
    assert plain(">50K") == "\\>50K"
    assert plain("- x") == "\\- x"
    assert plain("-0.5") == "-0.5"


def test_an_edited_card_is_not_overwritten(copied: Path) -> None:
    card, page = write(copied)
    before = page.read_bytes()
    assert write(copied) == (card, page)
    card.write_text(card.read_text().replace("whoever publishes it has to write that here", "to learn"))
    with pytest.raises(InputError, match=r"card.md: was edited, and would be lost\. .* --out"):
        write(copied)
    assert "to learn" in card.read_text()
    assert page.read_bytes() == before
    assert write(copied, out=copied / "again")[0].is_file()


# ------------------------------------------------------------------------------------------------------ kinds of runs
def test_a_cross_validation(people: Path) -> None:
    run = cross_validate(Prices(data_dir=people), 2)
    card, page = write(run, groups=["town"])
    record = records.load(run)
    results = section(card, "Results")
    assert f"| test/rmse | {record['metrics']['test/rmse']:.6g} | {number(record['spread']['test/rmse'])} |" in results
    assert "All 600 predictions out of fold together" in results
    assert all(f"| fold-{number} | " in results for number in (1, 2))
    towns = pd.read_csv(people)["town"].value_counts()
    assert shown_groups(section(card, "Groups of town")) == dict(towns)
    rows = pd.read_csv(run / "predictions_folds.csv").merge(pd.read_csv(people)[["id", "town"]], on="id")
    error = (rows["prediction"] - rows["target"])[rows["town"] == "Delft"]
    assert f"| Delft | {len(error)} | {number(np.sqrt((error**2).mean()))} |" in section(card, "Groups of town")
    text = section(card, "Bias, Risks, and Limitations")
    assert "cross-validated" not in text
    assert "the mean of 2 networks" in page.read_text()
    assert f"{run.name}/fold-1 FILE" in section(card, "Model Examination"), "the parent has no weights"
    kept.keep(run / "fold-1", "LIME", kept.Kept(["faithful: 0.4"], []))
    text = section(write(run)[0], "Model Examination")
    assert "Of 2 networks, the first:" in text
    assert "Explained by LIME" in text
    one, _ = write(run / "fold-1")
    assert "| fold | 1 of 2 of a cross-validation |" in section(one, "Model Details")


def test_an_ensemble(people: Path) -> None:
    run = ensemble(People(data_dir=people), 2)
    card, _ = write(run, groups=["town"])
    results, record = section(card, "Results"), records.load(run)
    assert "| val/acc |" in results
    assert f"{record['members']['mean']['val/acc']:.4g} ± " in results
    assert all(f"| member-{number} | People | {number - 1} | 0.5 |" in results for number in (1, 2))
    assert "differ in the seed alone" in section(card, "Model Details")
    assert "seed of these settings" not in card.read_text()
    shutil.rmtree(run / "member-2")
    with pytest.raises(InputError, match="name one of its children"):
        write(run)


def test_a_module_of_ones_own() -> None:
    run = runner.run(Lightning(max_epochs=1))
    card, page = write(run)
    data = front_of(card)
    assert (data.pipeline_tag, data.eval_results) == (None, None)
    assert "| val_loss |" in section(card, "Results")
    assert "It predicts what its own module returns" in section(card, "Model Details")
    assert f"leyden.load('runs/Lightning/{run.name}')" in section(card, "How to Get Started with the Model")
    assert "<svg" not in page.read_text()
    with pytest.raises(InputError, match="has saved no predictions"):
        write(run, groups=["town"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "failed", "reason": "loss is NaN"}, r"is failed \(loss is NaN\), and a card.*--resume"),
        ({"state": "interrupted", "reason": "SIGTERM"}, "is interrupted"),
        ({"state": "running", "host": "elsewhere"}, "is at work, .* Wait for it"),
        ({"state": "running", "host": socket.gethostname(), "pid": 2**22 + 1}, "has died"),
        ({"metrics": None}, "damaged record"),
        ({"spec": {}}, "damaged record"),
    ],
    ids=str,
)
def test_a_run_that_is_not_done_is_refused(copied: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        write(change(copied, **changes))
    assert not (copied / "card.md").exists()


def test_predictions_of_other_weights_are_told(copied: Path, people: Path) -> None:
    metrics = records.load(copied)["metrics"]
    card, _ = write(copied)
    assert f"| val/acc | {metrics['val/acc']:.4f} | 0." in card.read_text()
    wrong_for(copied, people, "Ghent")
    card, page = write(change(copied, metrics=metrics))
    assert f"| val/acc | {metrics['val/acc']:.4f} |  |  |" in card.read_text()
    assert "The saved predictions have val/acc " in page.read_text()
    assert (front_of(card).eval_results or [])[0].metric_args is None


def test_whatever_a_record_lacks_is_no_traceback(copied: Path, people: Path) -> None:
    """Records of before lack some of it, and a damaged one anything."""
    record = records.load(copied)
    record["fields"] = {name: value for name, value in record["fields"].items() if name != "columns"}  # read no data
    written, said = 0, list[str]()
    for name in record:
        (copied / "run.json").write_text(json.dumps({key: value for key, value in record.items() if key != name}))
        try:
            write(copied)
        except InputError as error:
            said.append(str(error))
        else:
            written += 1
    assert written > 15
    assert all("run.json" in why for why in said)


def test_damaged_predictions_are_named(copied: Path) -> None:
    (copied / "predictions_val.csv").write_text("id,target\n1,small\n")
    with pytest.raises(InputError, match=r"predictions_val.csv: cannot be read as the run's predictions"):
        write(copied)


def test_the_command(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = cli.CardFlags(run=copied, group=("town",), out=tmp_path / "out")
    assert command.main(flags) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "out" / "card.md") in said
    assert (tmp_path / "out" / "card.html").is_file()
    with pytest.raises(InputError, match=r"--out .*: a file"):
        cli.CardFlags(run=copied, out=copied / "run.json")
    with pytest.raises(InputError, match=r"no run \(it has no run.json\)"):
        command.main(cli.CardFlags(run=tmp_path / "no-run"))


# ------------------------------------------------------------------------------------------------------------- browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_chromium_shows_the_page(copied: Path, people: Path, tmp_path: Path, width: int) -> None:
    chromium_or_skip()
    wrong_for(copied, people, "Ghent")
    record = records.load(copied)
    change(copied, data=record["data"] | {"stand_in": True})
    _, page = write(copied, groups=["town", "age"])
    with Chromium(tmp_path / "profile", width=1200, height=7000) as browser:  # its windows are never as narrow as 400
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=7000, deviceScaleFactor=1, mobile=False)
        browser.open(page.as_uri())
        text = browser.text()
        assert "Worst: town Ghent" in text
        assert "STAND-IN data" in text
        widths = "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().width)"
        drawn = browser.evaluate(widths)
        assert len(drawn) == 2
        assert all(250 < one <= width for one in drawn)
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
        print(browser.screenshot(tmp_path / f"card-{width}.png"))
