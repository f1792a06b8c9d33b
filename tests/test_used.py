"""What a run took of its machine: counters of made-up processors and a made-up GPU, and what the record has."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.digits import DigitsCNN
from src.runs import records
from src.training import runner, used

pytestmark = pytest.mark.usefixtures("quiet")


def zone(folder: Path, name: str, kind: str, microjoules: int) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "name").write_text(kind)
    (folder / name / "max_energy_range_uj").write_text("100000000")
    (folder / name / "energy_uj").write_text(str(microjoules))
    return folder / name / "energy_uj"


@pytest.fixture
def counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two processors; a part of the first and the whole board count the same again."""
    monkeypatch.setattr(used, "ZONES", tmp_path / "powercap")
    kinds = {"intel-rapl:0": "package-0", "intel-rapl:1": "package-1", "intel-rapl:0:0": "core", "intel-rapl:2": "psys"}
    return [zone(tmp_path / "powercap", name, kind, 90_000_000) for name, kind in kinds.items()]


def test_processors_count_once_and_beyond_their_range(counters: list[Path]) -> None:
    found: Any = used.Used()
    for counter in counters:
        counter.write_text("95000000")
    found.look()
    counters[0].write_text("1000000")  # it began at 0 again
    assert found.values({})["energy_j"] == {"processors": pytest.approx(5 + 5 + 6)}
    assert found.values({"wall_s": 1, "energy_j": {"processors": 4.0}})["energy_j"] == {"processors": pytest.approx(20)}
    assert found.values({"wall_s": 1})["energy_j"] == {}, "what the first part took is not known"
    counters[1].unlink()
    assert found.values({})["energy_j"] == {}, "half of it is not the energy"


def test_a_gpu_tells_its_energy_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([1000, 61_000])
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: {"GPU-abc": "handle"}[uuid],
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(told),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    properties = SimpleNamespace(uuid="abc")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7)
    monkeypatch.setattr(used, "ZONES", tmp_path)
    found: Any = used.Used()
    found.begin_on(torch.device("cuda", 0))
    values = found.values({"peak_memory": {"gpu": 5}})
    assert values["energy_j"] == {"gpu": 60.0}
    assert values["peak_memory"]["gpu"] == 7


def test_the_record_has_what_a_run_took(counters: list[Path]) -> None:
    record: dict[str, Any] = records.load(runner.run(DigitsCNN(max_epochs=1, limit_train_batches=1, logger=())))
    assert record["energy_j"] == {"processors": 0.0}, "these counters stand still"
    assert 1e8 < record["peak_memory"]["process"] < 1e12
