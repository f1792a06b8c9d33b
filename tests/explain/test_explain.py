"""explain.py and `Run.explain` end to end: what they refuse, what they leave out, and answers nobody should trust."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import own_home
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import leyden
from experiments.digits import DigitsCNN
from experiments.images import Images
from experiments.tables import TableLogistic, TableMultiLabel, TableRegression
from experiments.texts import TextsLstm
from src.cli.explain import ExplainFlags, explain
from src.configs.errors import InputError
from src.explain import kept
from src.explain.checks import Checks
from src.explain.doubts import doubts
from src.explain.explain import Explainer
from src.training import runner

pytestmark = pytest.mark.usefixtures("quiet")
SMALL: dict[str, Any] = {"backbone": "test_resnet", "offline_backbone": "test_resnet", "weights": "none"}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[leyden.Run]:
    with own_home(tmp_path_factory.mktemp("digits")):
        yield leyden.Run(runner.run(DigitsCNN(max_epochs=2)))


def logistic(table: Path, folder: Path) -> leyden.Run:
    with own_home(folder):
        return leyden.Run(runner.run(TableLogistic(data_dir=table, target="size", logger=())))


@pytest.fixture(scope="module")
def sizes(houses: Path, tmp_path_factory: pytest.TempPathFactory) -> leyden.Run:
    return logistic(houses, tmp_path_factory.mktemp("sizes"))


def test_a_network_of_shuffled_labels_is_not_to_be_trusted_and_its_page_says_so_first(
    sizes: leyden.Run, houses: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(houses, dtype=str, keep_default_na=False)
    frame["size"] = np.random.default_rng(0).permutation(frame["size"])
    frame.to_csv(tmp_path / "shuffled.csv", index=False)
    shuffled = logistic(tmp_path / "shuffled.csv", tmp_path)
    pages = []
    for run in (sizes, shuffled):
        out = tmp_path / f"{run.path.name}.html"
        assert explain(ExplainFlags(run=run.path, inputs=(houses,), out=out)) == 0
        pages.append(out.read_text().partition("</head>")[2])
    assert "Do not trust" not in pages[0]
    assert "Do not trust these explanations" in pages[1]
    said = pages[1].index("no better than one constant answer")
    assert said < pages[1].index("insertion minus deletion"), "before anything else"
    assert explain(ExplainFlags(run=shuffled.path, inputs=(houses,), method="occlusion", target="small")) == 0
    found = kept.read(shuffled.path)
    assert [*found] == ["KernelSHAP, for the likeliest class", "occlusion, for class small"]
    assert all("no better than one constant answer" in one.warnings[0] for one in found.values())
    assert any("which this method enforces" in line for line in found["KernelSHAP, for the likeliest class"].lines)


@pytest.mark.parametrize("shape", ["classes", "labels", "number"])
def test_doubts_are_about_answers_no_better_than_a_constant(shape: str) -> None:
    generator = np.random.default_rng(0)
    if shape == "number":
        target = generator.normal(size=100)
        noise = generator.normal(size=100)
        good, bad = {"prediction": target + 0.5 * noise}, {"prediction": noise}
    else:
        count = (100,) if shape == "classes" else (100, 2)
        target = generator.integers(0, 2, count)
        known, guessed = target ^ (generator.random(count) < 0.1), generator.integers(0, 2, count)
        spread = (lambda one: np.eye(2)[one]) if shape == "classes" else (lambda one: one.astype(float))
        good, bad = {"prob": spread(known)}, {"prob": spread(guessed)}
    assert doubts(good, target) == []
    assert doubts(bad, target) == ["on its 100 validation examples the run is no better than one constant answer"]


def test_few_examples_and_rare_classes_raise_no_doubt_that_is_not_there() -> None:
    four = np.array([0, 1, 0, 1])
    assert doubts({"prob": np.eye(2)[four]}, four) == [], "all right, but too few to be sure"
    assert doubts({"prob": np.eye(2)[[1, 0, 1, 0]]}, four), "all wrong"
    rare = np.repeat([0, 1], [190, 10])
    answer = rare.copy()
    answer[:20], answer[-2:] = 1, 0  # 8 of 10 are found, among 20 that are none: always 0 would be right more often
    assert (answer == rare).mean() < 0.95
    assert doubts({"prob": np.eye(2)[answer]}, rare) == []


def test_labels_are_given_as_a_prediction_gives_them(tagged: Path, tmp_path: Path) -> None:
    with own_home(tmp_path):
        run = leyden.Run(runner.run(TableMultiLabel(data_dir=tagged, target=("extras",), max_epochs=2, logger=())))
    predicted = run.predict(tagged)
    found = run.explain(tagged, method="occlusion")
    assert "for the likeliest label" in found.method
    for one, labels in zip(found, predicted["labels"], strict=True):
        assert one.given == (one.target in labels.split(";"))
    assert any(one.given != (one.answer >= 0.5) for one in found), "the thresholds are others"
    rows = pd.read_csv(run.path / "predictions_val.csv", dtype=str, keep_default_na=False).set_index("id")
    true = {str(id): cell.split(";") for id, cell in rows["target"].items()}
    mistakes = run.explain(mistakes=10, method="occlusion")
    assert "for the most wrong label" in mistakes.method
    limits = run.record["calibration"]["thresholds"]
    for one in mistakes:
        assert one.given == (one.answer >= limits[one.target])
        assert one.given != (one.target in true[one.id]), "a mistake"
        assert one.expected == (";".join(true[one.id]) or "nothing"), "known, also where there is none"
    assert explain(ExplainFlags(run=run.path, mistakes=10, method="occlusion")) == 0
    events = EventAccumulator(str(run.path), size_guidance={"tensors": 0}).Reload()
    (shown,) = events.Tensors("val/worst, explained/text_summary")
    text = shown.tensor_proto.string_val[0].decode()
    for one in mistakes:
        (given,) = re.findall(rf"^{one.id} \| (.*?), not ", text, re.MULTILINE)
        assert given.replace("no label", "").split(";") == true[one.id], "as the run's own evaluation has it"


@pytest.mark.parametrize("died", [True, False])
def test_what_is_not_known_of_a_run_is_noted(digits: leyden.Run, tmp_path: Path, died: bool) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits.path, run)
    if died:
        changed = {"state": "running", "host": socket.gethostname(), "pid": 2**22 + 1}
        (run / "run.json").write_text(json.dumps(digits.record | changed))
    else:
        (run / "predictions_val.csv").unlink()
        with pytest.raises(InputError, match=r"--mistakes: .*predictions_val\.csv: not there.* Name inputs"):
            leyden.Run(run).explain(mistakes=1)
    found = leyden.Run(run).explain(np.zeros((8, 8), np.uint8), method="saliency", budget=0.1)
    said = "the run has died, so that nothing tells" if died else "nothing tells whether the run's answers are better"
    assert [note for note in found.notes if said in note]


def test_few_empty_explanations_do_not_speak_against_the_others() -> None:
    assert Checks(None, empty=5, checked=60).warnings == []
    assert Checks(None, empty=7, checked=60).warnings == [
        "7 of the 60 explanations that were checked are empty; try another --method"
    ]


def test_images_in_memory_are_explained_and_the_class_is_asked_for_by_name(digits: leyden.Run) -> None:
    images = np.zeros((2, 8, 8), np.uint8)
    images[:, 2:6, 3:5] = 255
    found = digits.explain(list(images), method="occlusion", target="7", budget=2)
    assert [one.target for one in found] == ["7", "7"]
    assert "occlusion, for class 7" in found.method
    assert found[0].table().columns.tolist() == ["row", "column", "attribution"]
    assert repr(found).startswith("2 explanations, occlusion")
    assert {len(one.neighbours) for one in found} == {5}


def test_mistakes_of_a_run_that_looked_at_a_part_of_its_validation_split(texts: Path, tmp_path: Path) -> None:
    with own_home(tmp_path):  # its batches are of like length, so that the first few are no first part
        run = leyden.Run(
            runner.run(TextsLstm(data_dir=texts, max_epochs=1, batch_size=2, limit_val_batches=3, logger=()))
        )
    rows = pd.read_csv(run.path / "predictions_val.csv", dtype=str)
    wrong = rows[rows["label"] != rows["target"]].set_index("id")
    found = run.explain(mistakes=6, method="occlusion", budget=1)
    assert {one.id for one in found} == set(wrong.index)
    assert all((one.target, one.expected) == tuple(wrong.loc[one.id, ["label", "target"]]) for one in found)


def test_mistakes_have_their_ids_and_what_they_should_have_been(digits: leyden.Run) -> None:
    found = digits.explain(mistakes=4, method="saliency", budget=2)
    rows = pd.read_csv(digits.path / "predictions_val.csv", dtype=str).set_index("id")
    for one in found:
        assert (one.expected, one.target) == tuple(rows.loc[one.id, ["target", "label"]])
        assert one.expected != one.target


def test_of_one_input_without_data_no_interval_is_invented(images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(images, data)
    with own_home(tmp_path):
        run = leyden.Run(runner.run(Images(data_dir=data, image_size=32, max_epochs=1, logger=(), **SMALL)))
    file = tmp_path / "one.jpg"
    shutil.copy(next(data.rglob("*.jpg")), file)
    shutil.rmtree(data)
    found = run.explain(file)
    faithful = found.checks.faithful
    assert faithful
    assert (faithful.examples, faithful.interval) == (1, None)
    assert "too few examples to say more" in found.checks.lines()["faithful"]
    assert any("checked on these inputs alone" in note and "no longer there" in note for note in found.notes)
    with pytest.raises(InputError, match=r"--mistakes: needs the run's data.*no longer there"):
        run.explain(mistakes=3)


def test_what_a_budget_leaves_out_is_said(digits: leyden.Run) -> None:
    found = digits.explain([np.full((8, 8), shade, np.uint8) for shade in range(40)], budget=0.001)
    assert len(found) == 1
    assert "39 of 40 inputs were left out: the budget of 0.001 s was spent" in found.notes
    assert "1 of 60 validation examples were checked: the budget of 0.001 s was spent" in found.notes
    assert "left out, randomised weights and changed inputs: the budget was spent" in found.notes
    assert found.checks.faithful
    assert found.checks.faithful.examples == 1


def test_a_spent_budget_leaves_out_the_view_of_the_whole_and_the_page_says_so(
    sizes: leyden.Run, houses: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why.html"
    assert explain(ExplainFlags(run=sizes.path, inputs=(houses,), out=out, budget=0.001)) == 0
    page = out.read_text()
    assert "left out, permutation importance and partial dependence: the budget of 0.001 s was spent" in page
    assert "The network as a whole" not in page


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"method": "lime"}, ["--method lime: not for images", "grad-cam", "occlusion"]),
        ({"target": "seven"}, ["--class seven: no such class", "There: 0, 1"]),
        ({"method": "attention-rollout"}, ["no attention", "grad-cam"]),
    ],
)
def test_what_does_not_fit_the_run_is_refused_with_what_does(
    digits: leyden.Run, asked: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        digits.explain(np.zeros((8, 8), np.uint8), **asked)
    for word in words:
        assert word in str(error.value)


def test_flags_that_contradict_are_refused(tmp_path: Path) -> None:
    given: list[tuple[dict[str, Any], str]] = [
        ({}, "--mistakes N"),
        ({"inputs": (tmp_path,), "mistakes": 2}, "one of the two"),
        ({"inputs": (tmp_path,), "budget": 0.0}, "--budget 0.0"),
        ({"inputs": (tmp_path,), "out": tmp_path / "why.csv"}, "ends in .html"),
        ({"mistakes": -1}, "--mistakes -1"),
    ]
    for flags, words in given:
        with pytest.raises(InputError, match=words):
            ExplainFlags(run=tmp_path, **flags)


def test_a_run_without_a_checkpoint_and_unreadable_inputs_are_told(digits: leyden.Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(digits.path, run)
    (run / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(InputError, match=r"best\.ckpt: not there"):
        leyden.Run(run).explain(mistakes=1)
    with pytest.raises(InputError, match="no run"):
        explain(ExplainFlags(run=tmp_path / "typo", mistakes=1))
    assert not (tmp_path / "typo").exists()
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png: not an image"):
        digits.explain(tmp_path / "bad.png")


@pytest.mark.parametrize("target", ["size", "price"])
def test_the_boosting_is_explained_beside_the_network(houses: Path, tmp_path: Path, target: str) -> None:
    kind = TableLogistic if target == "size" else TableRegression
    with own_home(tmp_path):
        run = leyden.Run(runner.run(kind(data_dir=houses, target=target, max_epochs=1, logger=())))
    record = json.loads((run.path / "run.json").read_text())
    record["calibration"] = record.get("calibration", {}) | {"temperature": 3.0}
    (run.path / "run.json").write_text(json.dumps(record))
    assert explain(ExplainFlags(run=run.path, inputs=(houses,), method="tree-shap", budget=20)) == 0
    assert kept.read(run.path) == {}, "they are no checks of the run's network"
    views = [Explainer(run.path, method=method).overall([]) for method in ("tree-shap", "occlusion")]
    lines = [one.dependences[0].lines for one in views if one]
    np.testing.assert_allclose(lines[0], lines[1], err_msg="the network is shown, calibrated")
    found = run.explain(houses, method="tree-shap")
    assert "not of the network" in found.method
    assert found.checks.faithful
    assert found.checks.faithful.beats_chance
    assert found.checks.completeness == pytest.approx(0, abs=1e-9)
    assert found.checks.cascade == []
    frame = pd.read_csv(houses)
    answers = [one.answer for one in found]
    if target == "price":
        assert np.corrcoef(answers, frame["price"])[0, 1] > 0.9
    else:
        assert np.mean([one.target == size for one, size in zip(found, frame["size"], strict=True)]) > 0.9
        assert min(answers) >= 0.5


def test_answers_are_those_of_a_prediction(digits: leyden.Run) -> None:
    """Probabilities are calibrated, as `predict` has them."""
    images = [np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8) for seed in range(3)]
    assert digits.record["calibration"]["temperature"] != 1
    predicted = digits.predict(images, accelerator="cpu")
    for one, (_, row) in zip(digits.explain(images, method="saliency", budget=9), predicted.iterrows(), strict=True):
        assert one.target == row["label"]
        assert one.answer == pytest.approx(row[f"prob_{one.target}"], abs=0.01)  # predicted in bfloat16


def test_a_page_that_cannot_be_written_is_told_before_anything_is_explained(digits: leyden.Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out .*cannot be written"):
        explain(ExplainFlags(run=digits.path, mistakes=1, out=tmp_path / "file" / "why.html"))


def test_a_text_of_one_word_is_in_no_order(texts: Path, tmp_path: Path) -> None:
    with own_home(tmp_path):
        run = leyden.Run(runner.run(TextsLstm(data_dir=texts, max_epochs=1, logger=())))
    moved = tmp_path / "gone.csv"
    shutil.copytree(run.path, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["fields"]["data_dir"] = str(moved)
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    found = leyden.Run(tmp_path / "run").explain("film", method="occlusion")
    assert found.checks.faithful is None
    assert not any("random" in warning or "empty" in warning for warning in found.checks.warnings)
    assert any("one part" in note for note in found.notes)


def test_without_the_extra_the_command_names_it(sizes: leyden.Run, houses: Path) -> None:
    code = (
        "import sys; sys.modules['shap'] = sys.modules['captum'] = None; sys.path.insert(0, '.');"
        f"sys.argv = ['explain.py', {str(sizes.path)!r}, {str(houses)!r}];"
        "from src import cli; from scripts.explain import main;"
        "sys.exit(cli.exit_code(lambda: main(cli.read_flags(cli.ExplainFlags, sys.argv[1:]))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install -e '.[explain]'" in done.stderr
    assert "Traceback" not in done.stderr
