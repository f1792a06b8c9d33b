"""Exports: scripts/export.py, formats besides ONNX, modules of one's own, and all that is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Script, own_home
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from experiments.tables import TableClassification
from src.configs.errors import InputError
from src.configs.export import FormatName
from src.datamodules import Plain
from src.deploy import coreml_format, pt2_format
from src.deploy.export import export, export_formats, replace
from src.deploy.licences import licences
from src.deploy.plain import PlainSource
from src.experiment import ClassificationExperiment, DataSpec, Experiment
from src.inference import exported
from src.inference.predictor import predict
from src.resources import hub
from src.runs import records
from src.tasks import Task
from src.tasks.inputs import PlainInput
from src.training import runner
from src.training.trainer import quieten

pytestmark = pytest.mark.usefixtures("quiet")


# ------------------------------------------------------------------------------------------------------------- the runs
class Rows(LightningDataModule):
    """Batches of 12, 12 and 6 (inputs, class)."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def setup(self, stage: str) -> None:
        inputs = torch.rand(30, 4, generator=torch.Generator().manual_seed(0)) + self.shift
        self.data = TensorDataset(inputs, (inputs[:, 0] > 0.5).long())

    def train_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=12)

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=12)


class Lit(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self.layer(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Forgetful(Lit):
    """Has no forward, as README's example."""

    forward = LightningModule.forward


class Branching(Lit):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * 2 if x.sum().item() > 1 else self.layer(x)


class Choosing(Lit):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigvals(x[:, :, None] * x[:, None]).real


class Greedy(Lit):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.layer(x) * mask[:, None]


class Empty(Lit):
    def forward(self, x: Tensor) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return None


class NamedRows(Rows):
    """Batches with names, in another order than the module has them."""

    def train_dataloader(self) -> Any:
        x, y = self.data.tensors
        rows: Any = [{"y": b, "scale": a[0] + 1, "x": a} for a, b in zip(x, y, strict=True)]
        return DataLoader(rows, batch_size=12)

    def val_dataloader(self) -> Any:
        return self.train_dataloader()


class Named(Lit):
    """Takes both by name: by position, each would be the other."""

    example: ClassVar = {"scale": torch.ones(2), "x": torch.ones(2, 4)}

    def __init__(self) -> None:
        super().__init__()
        self.example_input_array = self.example

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.layer(x) * scale[:, None]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return nn.functional.cross_entropy(self(batch["x"], batch["scale"]), batch["y"])

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.log("val_loss", self.training_step(batch, batch_idx))


class Pair(Named):
    """Gets batches without names."""


class Own(Experiment):
    monitor = "val_loss"

    max_epochs = 1
    accelerator = "cpu"
    kind: str = "Lit"
    """Name of the module's class."""
    shift: float = 0.0
    """By which the data move."""

    def datamodule(self) -> Any:
        return NamedRows(self.shift) if self.kind == "Named" else Rows(self.shift)

    def task(self, spec: DataSpec) -> Any:
        return globals()[self.kind]()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs)


class OwnNetwork(ClassificationExperiment):
    """A network and tensors of one's own, by Leyden's task."""

    max_epochs = 1
    accelerator = "cpu"

    def datamodule(self) -> Any:
        inputs = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
        data = (inputs, (inputs[:, 0] > 0.5).long())
        return Plain(data, data, batch_size=12)

    def task(self, spec: DataSpec) -> Task:
        return Task(Network(), self.objective(spec), PlainInput())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("exports")
    with own_home(folder):
        yield folder


@pytest.fixture(scope="module")
def run(home: Path, houses: Path) -> Path:
    """A run of an MLP on its own copy of the houses; not to be changed, but for its exports."""
    quieten()
    data = Path(shutil.copy(houses, home / "houses.csv"))
    return runner.run(TableClassification(data_dir=data, target="size", batch_size=16, max_epochs=1, accelerator="cpu"))


@pytest.fixture(scope="module")
def own(home: Path) -> Path:
    quieten()
    return runner.run(Own())


def copy_of(run: Path, folder: Path) -> Path:
    return shutil.copytree(run, folder / run.name, ignore=shutil.ignore_patterns("export"))


def certificate_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "certificate.json").read_text())


def of_kind(kind: str, run: Path, folder: Path) -> Path:
    """Return a run of `Own` with another module of the same weights."""
    copied = copy_of(run, folder)
    record = records.load(copied)
    record["fields"]["kind"] = kind
    (copied / "run.json").write_text(json.dumps(record))
    return copied


def nothing_left(run: Path) -> bool:
    return not (run / "export").exists()


# ----------------------------------------------------------------------------------------------------------- the script
def test_the_script_exports_and_says_what_comes_next(run: Path, script: Script, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    done = script("export.py", copied, "--format", "pt2", "onnx", "pt2", "--examples", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("exported")] == [
        line for line in lines if "export/pt2: model.pt2" in line or "export/onnx: model.onnx" in line
    ]
    assert sum("3 worked examples" in line for line in lines) == 2
    assert any(line.startswith("next") and f"predict.py {copied}/export/onnx" in line for line in lines)
    assert any(f"serve.py {copied}/export/onnx" in line for line in lines)
    found = certificate_of(copied / "export" / "pt2")
    assert (found["format"], found["worked_examples"]) == ("pt2", 3)
    assert found["parity"]["labels_equal"] == found["parity"]["examples"] > 10
    assert found["parity"]["largest"] <= 1e-5
    assert {path.name for path in (copied / "export").iterdir()} == {"onnx", "pt2"}


def test_the_script_refuses_what_it_cannot_read(run: Path, script: Script, tmp_path: Path) -> None:
    done = script("export.py", tmp_path)
    assert done.returncode == 2
    assert "no run (it has no run.json)" in done.stderr
    assert "Traceback" not in done.stderr
    wrong = script("export.py", run, "--format", "tensorrt")
    assert wrong.returncode == 2
    assert "tensorrt" in wrong.stdout + wrong.stderr


# ------------------------------------------------------------------------------------------------------------- formats
def test_pt2_runs_by_torch_alone_at_any_batch(run: Path, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    assert export_formats(copied, ["pt2"]).failures == {}
    folder = copied / "export" / "pt2"
    model = certificate_of(folder)["model"]
    network = torch.export.load(folder / "model.pt2").module()
    for count in (1, 4, 70):
        args = [
            torch.zeros(count, *one["shape"][1:], dtype=getattr(torch, one["type"])) for one in model["inputs"].values()
        ]
        outputs = dict(zip(model["outputs"], network(*args), strict=True))
        assert outputs["prob"].shape == (count, 2)
        assert torch.allclose(outputs["prob"].sum(1), torch.ones(count))
    with pytest.raises(InputError, match=r"an export for pt2; only that for onnx is predicted with here"):
        exported.load(folder)


def test_a_missing_library_keeps_no_other_format(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("openvino", "executorch", "coremltools"):
        monkeypatch.setitem(sys.modules, name, None)
    copied = copy_of(run, tmp_path)
    found = export_formats(copied, ["openvino", "executorch", "coreml", "pt2"], examples=0)
    assert [*found.folders] == ["pt2"]
    assert certificate_of(found.folders["pt2"])["worked_examples"] == 0
    assert json.loads((found.folders["pt2"] / "examples" / "examples.json").read_text()) == {"examples": []}
    libraries: dict[FormatName, str] = {"openvino": "openvino", "executorch": "executorch", "coreml": "coremltools"}
    for name, library in libraries.items():
        assert f"--format {name}: needs {library}" in str(found.failures[name])
        assert "pip install -e '.[formats]'" in str(found.failures[name])
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOT MADE")]
    assert [line.split()[3] for line in said] == ["openvino:", "executorch:", "coreml:"]
    assert {path.name for path in (copied / "export").iterdir()} == {"pt2"}


@pytest.mark.slow
def test_openvino_answers_as_the_run(run: Path, tmp_path: Path) -> None:

    copied = copy_of(run, tmp_path)
    found = export_formats(copied, ["openvino"])
    assert found.failures == {}
    certificate = certificate_of(found.folders["openvino"])
    assert certificate["parity"]["labels_equal"] == certificate["parity"]["examples"]
    assert certificate["parity"]["largest"] <= 1e-5
    assert any("bfloat16" in line for line in certificate["not_covered"])
    assert "openvino==" in (found.folders["openvino"] / "requirements.txt").read_text()


@pytest.mark.slow
def test_executorch_answers_as_the_run(run: Path, tmp_path: Path) -> None:

    found = export_formats(copy_of(run, tmp_path), ["executorch"])
    assert found.failures == {}
    certificate = certificate_of(found.folders["executorch"])
    assert certificate["parity"]["sizes"][-1] > 4
    assert certificate["parity"]["largest"] <= 1e-5
    assert any("batches above 32" in line for line in certificate["not_covered"])


@pytest.mark.slow
def test_core_ml_claims_no_parity_where_it_cannot_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("coremltools")
    if not (why := coreml_format.CANNOT_RUN):
        pytest.skip("this is macOS, where it runs")
    found = export_formats(copy_of(run, tmp_path), ["coreml"])
    assert found.failures == {}
    certificate = certificate_of(found.folders["coreml"])
    assert certificate["parity"] == certificate["speed"] == {}
    assert why in certificate["not_covered"][0]
    said = capsys.readouterr().out
    assert "parity and speed are not checked" in said
    assert not any(line.startswith(("parity", "speed")) for line in said.splitlines())


def test_the_licence_of_first_weights_is_said_where_it_is_known(run: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    (encoder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# An encoder\n")
    (damaged := tmp_path / "damaged").mkdir()
    (damaged / "README.md").write_text("---\nlicense: [\n---\n")
    unknown = "Their licence is not known here: ask their source."
    copied = copy_of(run, tmp_path)
    record = records.load(copied)
    for source, said in {
        "none (random)": "No weights of others went in.",
        "timm cache: timm/resnet50.tv_in1k": "Their licence: bsd-3-clause, as timm says.",
        "timm download: timm/resnet18.a1_in1k": "Their licence: apache-2.0, as timm says.",
        "timm cache: timm/no_such_model": unknown,
        f"folder {encoder}": "Their licence: apache-2.0, as their model card says.",
        f"folder {damaged}": unknown,
        f"folder {tmp_path / 'gone'}": unknown,
        "Hub's cache: nobody/nothing": unknown,
        f"file {tmp_path / 'weights.pt'}": unknown,
        "as given": unknown,
        f"package {hub.PACKAGE} 1.0": "Their licence: apache-2.0, as their model card says."
        if importlib.util.find_spec(hub.MODULE)
        else unknown,
    }.items():
        (copied / "run.json").write_text(json.dumps(record | {"weights": {"source": source}}))
        assert f"First weights: {source}. {said}\n" in licences(copied)


# ------------------------------------------------------------------------------------------------------ what is refused
def test_a_bound_that_is_missed_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pt2_format.answerer

    def liar(folder: Path, threads: int) -> Any:
        answer = real(folder, threads)
        return lambda arrays: {name: 1 - values for name, values in answer(arrays).items()}

    copied = copy_of(run, tmp_path)
    monkeypatch.setattr(pt2_format, "answerer", liar)
    found = export_formats(copied, ["pt2"])
    assert "does not answer as the run does, and is not kept" in str(found.failures["pt2"])
    assert "labels differ" in str(found.failures["pt2"])
    assert nothing_left(copied)


def test_an_export_that_fails_keeps_the_one_before(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = copy_of(run, tmp_path)
    export_formats(copied, ["pt2"])
    before = {path: path.read_bytes() for path in (copied / "export").rglob("*") if path.is_file()}

    def broken(folder: Path, threads: int) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(pt2_format, "answerer", broken)
    found = export_formats(copied, ["pt2"])
    assert "--format pt2: the export cannot be loaded, and is not kept: RuntimeError: no such kernel" in str(
        found.failures["pt2"]
    )
    assert {path: path.read_bytes() for path in (copied / "export").rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_one_before(tmp_path: Path) -> None:
    (before := tmp_path / "onnx").mkdir()
    (before / "model.onnx").write_text("before")
    with pytest.raises(FileNotFoundError):
        replace(tmp_path / "gone", before)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    assert (before / "model.onnx").read_text() == "before"


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_only_a_run_that_is_done_is_exported(state: str, run: Path, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    (copied / "run.json").write_text(json.dumps(records.load(copied) | {"state": state}))
    with pytest.raises(InputError, match=rf"the run is {state}, and only one that is done is exported.*--resume"):
        export(copied)
    assert nothing_left(copied)


def test_data_that_moved_are_named_and_data_that_changed_are_refused(run: Path, houses: Path, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    record = records.load(copied)
    record["fields"]["data_dir"] = str(tmp_path / "gone.csv")
    (copied / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"gone\.csv: the run's data are no longer there. Name them with --data-dir"):
        export_formats(copied, ["pt2"])
    assert export_formats(copied, ["pt2"], data_dir=houses).failures == {}
    lines = houses.read_text(encoding="utf-8").splitlines()
    (other := tmp_path / "other.csv").write_text("\n".join([*lines[:-2], lines[-1]]) + "\n")
    with pytest.raises(InputError, match=r"--data-dir"):
        export_formats(copied, ["pt2"], data_dir=other)


# ------------------------------------------------------------------------------------------------- modules of one's own
def test_a_plain_module_leaves_as_its_forward(own: Path, tmp_path: Path) -> None:
    copied = copy_of(own, tmp_path)
    folder = export(copied, examples=2)
    found = certificate_of(folder)
    assert (found["parity"]["examples"], found["parity"]["sizes"]) == (30, [1, 2, 5, 6, 12])
    assert found["parity"]["largest"] <= 1e-5
    assert any("preparation" in line for line in found["not_covered"])
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    x = np.random.default_rng(0).random((17, 4), np.float32)
    state = torch.load(copied / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    wanted = x @ state["layer.weight"].numpy().T + state["layer.bias"].numpy()
    np.testing.assert_allclose(np.asarray(session.run(["output"], {"x": x})[0]), wanted, atol=1e-5)
    worked = np.load(folder / "examples" / "examples.npz")
    np.testing.assert_allclose(np.asarray(session.run(["output"], {"x": worked["x"]})[0]), worked["output"], atol=1e-6)
    with pytest.raises(InputError, match=r"module of your own.*how a raw input .*\(x\)\. Run .*model.onnx"):
        exported.load(folder)


def test_parts_of_a_batch_are_taken_by_the_names_of_the_example(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runner.run(Own(kind="Named"))
    source: Any = PlainSource(run)
    assert source.graph.input_names == ["x", "scale"]
    rows = NamedRows()
    rows.setup("fit")
    batch = next(iter(rows.val_dataloader()))
    module = source.graph.module
    assert torch.equal(source.traced[0]["scale"], batch["scale"][:3])
    assert torch.equal(source.graph(batch["x"], batch["scale"])[0], module.layer(batch["x"]) * batch["scale"][:, None])
    monkeypatch.setattr(Named, "example", {"mask": torch.ones(2)})
    with pytest.raises(InputError, match=r"Named: a validation batch has no mask, only y, scale, x"):
        PlainSource(run)


def test_parts_without_names_are_taken_in_the_order_of_forward(own: Path, tmp_path: Path) -> None:
    source = PlainSource(of_kind("Pair", own, tmp_path))
    assert [tuple(source.traced[0][name].shape) for name in ("x", "scale")] == [(3, 4), (3,)]


def test_a_network_in_leydens_task_leaves_with_its_probabilities(home: Path) -> None:
    run = runner.run(OwnNetwork())
    found = export_formats(run, ["pt2"])
    assert found.failures == {}
    model = certificate_of(found.folders["pt2"])["model"]
    assert ([*model["inputs"]], [*model["outputs"]]) == (["input"], ["prob"])
    prob = torch.export.load(found.folders["pt2"] / "model.pt2").module()(torch.rand(7, 4))[0]
    assert torch.allclose(prob.sum(1), torch.ones(7))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Forgetful", r"Forgetful has no forward\(\), which is what is exported"),
        ("Greedy", r"Greedy.forward does not take the first part of a validation batch.*example_input_array"),
        ("Empty", r"Empty.forward returns a NoneType, and an export tensors alone"),
    ],
)
def test_a_module_that_cannot_be_called_is_refused(kind: str, message: str, own: Path, tmp_path: Path) -> None:
    copied = of_kind(kind, own, tmp_path)
    with pytest.raises(InputError, match=message):
        export(copied)
    assert nothing_left(copied)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Branching", r"cannot be exported at .*test_export.py:\d+.*depends on values of tensors \(\.item\(\)"),
        ("Choosing", r"cannot be exported.*linalg_eig"),
    ],
)
def test_a_graph_that_cannot_be_exported_is_explained(kind: str, message: str, own: Path, tmp_path: Path) -> None:
    copied = of_kind(kind, own, tmp_path)
    with pytest.raises(InputError, match=message):
        export(copied)
    assert nothing_left(copied)


def test_a_plain_modules_data_have_to_be_the_runs(own: Path, tmp_path: Path) -> None:
    copied = copy_of(own, tmp_path)
    record = records.load(copied)
    record["fields"]["shift"] = 1.0
    (copied / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="the data have changed since"):
        export(copied)


def test_a_run_still_predicts_no_module_of_ones_own(own: Path) -> None:
    with pytest.raises(InputError, match="Lit is a module of your own"):
        predict(own, [Path("x.csv")])
