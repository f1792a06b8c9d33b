"""Devices, clusters and strategies that are not here: what can be shown of them with a faked environment."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.xla import XLAStrategy
from torch import nn

from experiments.digits import SoftmaxRegression
from src.cli.commands import plan
from src.experiment import InputError, replace
from src.inference.batch import predict
from src.runs import records
from src.training import devices, runner
from src.training.trainer import build_trainer, quieten


class Quick(SoftmaxRegression):
    """Seconds, on packaged data."""

    source = "sklearn"
    max_epochs = 1
    limit_train_batches = 3
    accelerator = "cpu"
    logger = ("csv",)


class Given(Quick):
    """With arguments of the Trainer."""

    given: str = ""
    """Which."""

    def trainer_kwargs(self) -> dict[str, Any]:
        return {
            "": {},
            "environment": {"plugins": [LightningEnvironment()]},
            "with it": {"strategy": DDPStrategy(cluster_environment=LightningEnvironment()), "devices": 2},
            "fsdp": {"strategy": FSDPStrategy()},
            "parallel": {"strategy": ModelParallelStrategy()},
        }[self.given]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def equal(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(value, second[name]) for name, value in first.items())


# --------------------------------------------------------------------------------------------------------------- Slurm
@pytest.fixture
def srun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a task that srun has launched; return the working directory."""
    found = {"NTASKS": 1, "NTASKS_PER_NODE": 1, "JOB_NAME": "train", "JOB_ID": 4242, "PROCID": 0, "LOCALID": 0}
    for name, value in found.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    quieten()
    return tmp_path / "here"


def test_a_run_under_slurm_does_not_take_another_runs_checkpoint(srun: Path) -> None:
    """Lightning loads any hpc_ckpt_N.ckpt of the working directory, which its requeueing has left there."""
    other, alone = runner.run(Quick(seed=1, max_epochs=3)), runner.run(Quick())
    shutil.copy(other / "checkpoints" / "last.ckpt", srun / "hpc_ckpt_1.ckpt")
    run = runner.run(Quick())
    assert equal(run, alone)
    assert not equal(run, other)
    assert records.load(run)["reason"] == "max_epochs 1 reached"
    assert [row[:3] for row in records.metrics(run)] == [row[:3] for row in records.metrics(alone)]


def test_a_prediction_under_slurm_is_of_the_run(srun: Path, tmp_path: Path) -> None:
    run, other = runner.run(Quick()), runner.run(Quick(seed=1, max_epochs=3))
    image = Path(__file__).resolve().parents[1] / "docs" / "drawn.png"
    expected = predict(run, [image]).text
    shutil.copy(other / "checkpoints" / "last.ckpt", srun / "hpc_ckpt_1.ckpt")
    assert predict(run, [image]).text == expected != predict(other, [image]).text


@pytest.mark.usefixtures("srun")
@pytest.mark.parametrize(
    ("given", "kind"),
    [("", SLURMEnvironment), ("environment", LightningEnvironment), ("with it", LightningEnvironment)],
)
def test_slurm_requeues_no_job_and_a_given_environment_wins(given: str, kind: type) -> None:
    trainer: Any = build_trainer(Given(given=given), [], logger=False)
    environment = trainer._accelerator_connector.cluster_environment
    assert type(environment) is kind
    assert not getattr(environment, "auto_requeue", False)


@pytest.mark.usefixtures("srun")
def test_torchrun_within_slurm_stays_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    assert devices.slurm([], "ddp") == []


def test_slurms_own_faults_are_named(srun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE")
    with pytest.raises(InputError, match="--ntasks-per-node=2"):
        build_trainer(Quick(), [], logger=False)


def test_a_login_node_is_no_reason_for_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an srun, and nobody used it."""
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert shutil.which("srun") == str(tmp_path / "srun")
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="srun"):
            SLURMEnvironment.detect()
        quieten()
        assert not SLURMEnvironment.detect()
    assert not SLURMEnvironment.detect(), "nor in a test that does not quieten"


# ---------------------------------------------------------------------------------------------------------- strategies
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"strategy": "fsdp"}, "--strategy fsdp: not offered, since it cuts every weight"),
        ({"strategy": "fsdp_cpu_offload", "averaging": "ema"}, "--strategy fsdp_cpu_offload: not offered"),
        ({"strategy": "deepspeed_stage_2"}, "--strategy deepspeed_stage_2: not offered, since its checkpoints"),
        ({"strategy": "xla"}, "--strategy xla: not offered, since a training on several cores"),
        ({"given": "fsdp"}, "--strategy FSDPStrategy: not offered"),
        ({"given": "parallel"}, "--strategy ModelParallelStrategy: not offered, since its checkpoints"),
    ],
    ids=str,
)
def test_strategies_that_are_not_right_yet_are_refused(fields: dict[str, Any], said: str) -> None:
    quieten()
    with pytest.raises(InputError, match=said):
        plan(Given(**fields))


def test_several_cores_of_a_tpu_are_refused_however_they_were_chosen() -> None:
    with pytest.raises(InputError, match=r"--strategy XLAStrategy: .*--devices 1"):
        devices.refuse_strategy(object.__new__(XLAStrategy))
    for offered in ("auto", "ddp", "ddp_spawn", "single_xla", "dpp", DDPStrategy()):
        devices.refuse_strategy(offered)


# ----------------------------------------------------------------------------------------------------------- precision
@pytest.mark.parametrize(
    ("capabilities", "asked", "chosen"),
    [
        ((9, 7), "0", "bf16-mixed"),  # Lightning reads "0" as no GPU; the Trainer says so
        ((7, 9), "1,", "bf16-mixed"),
        ((9, 7), "1", "bf16-mixed"),
        ((9, 7), "1,", "32-true"),
        ((9, 7), "2", "32-true"),
        ((9, 7), "auto", "32-true"),
        ((9, 8), "auto", "bf16-mixed"),
    ],
    ids=str,
)
def test_bfloat16_is_asked_of_the_gpus_that_train(
    capabilities: tuple[int, ...], asked: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "accelerators", lambda: {"gpu": True, "mps": False, "tpu": False})
    monkeypatch.setattr(devices.CUDAAccelerator, "parse_devices", lambda given: parsed(given, len(capabilities)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu: (capabilities[gpu], 0))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert devices.choose_precision(Quick(accelerator="gpu", devices=asked)) == chosen


def parsed(given: str, there: int) -> list[int] | None:
    """Read `--devices` as Lightning does: a number, or a list."""
    if "," in given:
        return [int(number) for number in given.split(",") if number]
    return list(range(there if given == "-1" else int(given))) or None


# -------------------------------------------------------------------------------------------------------------- fields
@pytest.fixture
def torch_as_before() -> Any:
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("highest")
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("torch_as_before")
def test_arithmetic_is_chosen_by_fields_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    plan(Quick())
    assert "precision 32-true\n" in capsys.readouterr().out.replace("bf16-mixed", "32-true")
    asked = Quick(deterministic=True, benchmark=False, matmul_precision="medium")
    plan(asked)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "medium"
    assert ", matmul_precision medium, deterministic True, benchmark False\n" in capsys.readouterr().out
    plan(replace(asked, deterministic=False, benchmark=True, matmul_precision=None))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert torch.get_float32_matmul_precision() == "highest", "the run before leaves nothing"


def test_a_gpu_multiplies_in_tf32_unless_told_otherwise() -> None:
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert devices.matmul_precision(Quick(), gpu) == "high"
    assert devices.matmul_precision(Quick(), cpu) == "highest"
    assert devices.matmul_precision(Quick(matmul_precision="highest"), gpu) == "highest"


# ------------------------------------------------------------------------------------------------------- no GPU at all
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_steps_do_not_look_for_a_driver_and_child_processes_see_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # as importing Lightning does
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    searches: list[int] = []
    monkeypatch.setattr("torch.cuda._device_count_nvml", lambda: searches.append(1) or -1)
    torch.optim.AdamW([parameter]).step()
    assert searches, "the premise: torch looks"
    quieten()
    searches.clear()
    torch.optim.AdamW([parameter]).step()
    assert not searches
    assert "CUDA_VISIBLE_DEVICES" not in os.environ, "a job that is started from here may have a GPU"
