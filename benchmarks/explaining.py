"""Explanations against captum's and shap's own use on the same networks and examples, side by side.

    python benchmarks/explaining.py explanations

Grad-CAM and integrated gradients against captum, called as its tutorials have it, with the layer and the baseline that
Leyden has found; KernelSHAP against shap's KernelExplainer on the encoded background, with the columns as groups and as
many masks. One thread each; the networks have had one step, which is as fast as any.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import report
from benchmarks.exports import ONE_STEP, in_a_process, reviews
from benchmarks.loops import Train
from benchmarks.pictures import photographs
from benchmarks.turns import Contender, Turns
from experiments.cats_dogs_finetune import CatsDogsFinetune
from experiments.house_prices import HousePricesMLP
from experiments.imdb_lstm import ImdbLstm
from src.configs.explain import MethodName
from src.experiment import Experiment
from src.explain.explain import Explainer
from src.explain.layers import last_maps
from src.explain.shapley import EVALUATIONS
from src.training import runner
from src.training.trainer import quieten

IG = "integrated gradients"
PICTURES, STEPS = 16, 64
"""Of a batch; and of captum's integrated gradients."""
Explain = Callable[[Explainer, list[Any], list[int]], object]


class Race(NamedTuple):
    """A method on one network, against another's use of it."""

    title: str
    kind: type[Experiment]
    data: Path | None
    method: MethodName
    amount: int
    """Examples of a turn."""
    other: str
    theirs: Explain


def make(kind: type[Experiment], data: Path | None) -> None:
    quieten()
    fields: dict[str, Any] = ONE_STEP | {"data_dir": data}
    runner.run(kind(**fields))


def ours(explainer: Explainer, examples: list[Any], targets: list[int]) -> object:
    return explainer.method(explainer.subject, examples, targets)


def captums_grad_cam(explainer: Explainer, examples: list[Any], targets: list[int]) -> object:
    from captum.attr import LayerGradCam

    network = explainer.subject.network
    images = torch.cat([example.image for example in examples]).requires_grad_()
    layer = last_maps(network, examples[0].tensors).module
    maps: Any = LayerGradCam(network, layer).attribute(images, torch.tensor(targets), relu_attributions=True)
    return F.interpolate(maps, images.shape[-2:], mode="bilinear")


def captums_gradients(explainer: Explainer, examples: list[Any], targets: list[int]) -> object:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(explainer.subject.network)
    return [
        method.attribute(example.image, example.blurred, target=target, n_steps=STEPS, internal_batch_size=STEPS)
        for example, target in zip(examples, targets, strict=True)
    ]


def captums_words(explainer: Explainer, examples: list[Any], targets: list[int]) -> object:
    from captum.attr import LayerIntegratedGradients

    network: Any = explainer.subject.network
    method = LayerIntegratedGradients(network, network.embedding)
    found = []
    for example, target in zip(examples, targets, strict=True):
        tokens, mask = example.tensors
        hidden, _ = example.hidden(np.zeros((1, len(example)), bool))
        found.append(
            method.attribute(
                tokens, hidden, target=target, n_steps=STEPS, internal_batch_size=STEPS, additional_forward_args=(mask,)
            )
        )
    return found


def shaps_kernel(explainer: Explainer, examples: list[Any], targets: list[int]) -> object:
    import shap
    from shap.utils._legacy import DenseData

    subject, background = explainer.subject, explainer.background
    assert background is not None
    numbers = background.numbers.shape[1]

    def answers(rows: np.ndarray) -> np.ndarray:
        tensors = torch.from_numpy(rows[:, :numbers].astype(np.float32)), torch.from_numpy(rows[:, numbers:]).long()
        with torch.no_grad():
            return subject.score(tensors, torch.zeros(len(rows), dtype=torch.long)).numpy()

    there = np.hstack([background.numbers.numpy().astype(float), background.categories.numpy()])
    groups = [np.flatnonzero(examples[0].places.all == place) for place in range(len(examples[0]))]
    rows = np.concatenate([np.hstack([part.numpy().astype(float) for part in example.tensors]) for example in examples])
    kernel = shap.KernelExplainer(answers, DenseData(there, list(examples[0].names), groups))
    return kernel.shap_values(rows, nsamples=EVALUATIONS, l1_reg=False, silent=True)


def by(run: Path, method: MethodName, count: int, explain: Explain) -> Train:
    def work(turns: Turns) -> None:
        torch.set_num_threads(1)
        explainer = Explainer(run, method=method)
        examples = explainer.own_examples(count).examples
        targets = explainer.targets(examples)
        while True:
            explain(explainer, examples, targets)
            turns.step(len(examples))

    return work


def main() -> None:
    flags = report.options(__doc__ or "", ["explanations"], rounds=5)
    rows: list[report.Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LEYDEN_RUNS": str(folder / "runs"), "LEYDEN_CACHE": str(folder / "cache")}
        photographs(folder / "photographs", train=32, val=PICTURES)
        reviews(folder / "reviews.csv", 120)
        pictures, gradients = folder / "photographs", "integrated-gradients"
        captum_steps = f"captum, {STEPS} steps"
        races = [
            Race("Grad-CAM, 224 px", CatsDogsFinetune, pictures, "grad-cam", 16, "captum", captums_grad_cam),
            Race(
                "integrated gradients, 224 px",
                CatsDogsFinetune,
                pictures,
                gradients,
                1,
                captum_steps,
                captums_gradients,
            ),
            Race(
                "integrated gradients, LSTM, IMDb",
                ImdbLstm,
                folder / "reviews.csv",
                gradients,
                4,
                captum_steps,
                captums_words,
            ),
            Race("KernelSHAP, 73 columns", HousePricesMLP, None, "kernel-shap", 2, "shap", shaps_kernel),
        ]
        for title, kind, data, method, amount, other, theirs in races:
            if not (runs := list((folder / "runs").glob(f"{kind.__name__}/*"))):
                in_a_process(make, kind, data)
                runs = list((folder / "runs").glob(f"{kind.__name__}/*"))
            contenders = [
                Contender("Leyden", by(runs[0], method, amount, ours), 1),
                Contender(other, by(runs[0], method, amount, theirs), 1, "Leyden"),
            ]
            rows += report.measure(title, contenders, flags.rounds, "examples/s")
    report.show(rows, flags.json)


if __name__ == "__main__":
    main()
