"""What `run.json` says of a run."""

from __future__ import annotations

from typing import Any, TypedDict


class Values(TypedDict, total=False):
    """The names in `run.json`, and their types."""

    experiment: str
    fields: dict[str, Any]
    asked: dict[str, Any]
    """Fields as requested, where they had to be replaced."""
    sized: dict[str, Any]
    """Training rows, and fields as they were before their number changed them, if it did."""
    seed: int
    state: str
    """running, done, failed or interrupted."""
    reason: str
    """Why the run ended."""
    host: str
    pid: int
    pid_started: float | None
    """Seconds from the machine's start to the process's."""
    started: str
    command: list[str]
    git: dict[str, Any]
    versions: dict[str, str]
    launch: list[str]
    """What has started the processes that work on the run: torchrun's agents, Slurm's job."""
    tests_read: int
    data: dict[str, Any]
    spec: dict[str, Any]
    weights: dict[str, Any]
    model: dict[str, Any]
    device: str
    precision: str
    matmul_precision: str
    precision_speeds: dict[str, float]
    reproducible: str
    steps: int
    fold: dict[str, Any]
    metrics: dict[str, float]
    best: dict[str, Any]
    still_improving: list[float]
    """Last values of `monitor`, where it was still improving when the training ended."""
    per_class: dict[str, Any]
    calibration: dict[str, Any]
    baselines: dict[str, dict[str, float]]
    samples_per_s: float | None
    predicted_per_s: float
    """Examples that the evaluation has read and predicted, of its last split."""
    time: dict[str, float]
    wall_s: float
    peak_memory: dict[str, int]
    """Bytes of the 'process' since it began, and of tensors on the 'gpu'."""
    energy_j: dict[str, float]
    """Joules of the 'processors', all programs of the machine included, and of the 'gpu'; what is told of them."""
    mlflow_run_id: str
    reproduction: dict[str, Any]
    folds: int
    """Of a parent run: this and what follows."""
    ensemble: int
    ablation: dict[str, Any]
    shares: list[float]
    """Of the members in the average, where they do not all count the same."""
    auto: dict[str, Any]
    """What was tried, and for how long."""
    with_test: bool
    with_baselines: bool
    spread: dict[str, float]
    baselines_spread: dict[str, dict[str, float]]
    members: dict[str, dict[str, float]]
    gain: dict[str, float]
    search: dict[str, Any]
    """Space, trials, sampler, pruner, metric and mode of a search."""
    setting: dict[str, Any]
    """Values of the best trial: field -> value."""
    confirmed: dict[str, Any]
    """Means of the best setting and of the default over the seeds, and their paired differences."""
