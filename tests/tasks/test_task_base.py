"""What an `Optim` promises: who decays, who learns how fast, how the rate runs, and what the L1 penalty weighs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from src.datamodules import Tensors
from src.experiment import DataSpec, InputError, Optim
from src.models import ResNet
from src.tasks import Input, SingleLabel, Task
from src.tasks.optim import build_optimizer, rate_factor
from src.training.trainer import quieten

NAMES = ("adamw", "adam", "sgd")
SCHEDULES = ("cosine", "linear", "step", "constant")
FALLING = ("cosine", "linear", "step")


class Small(nn.Module):
    """A convolution, a norm and a linear head."""

    weights_source = "none (random)"

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.linear = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.norm(self.conv(images)).mean((2, 3)))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return [list(module.parameters()) for module in (self.conv, self.norm, self.linear)]


class Given(Input):
    """Images as they are."""

    def tensors(self, batch: Any, dtype: torch.dtype) -> tuple[Tensor]:
        return (batch["image"],)


def small_task(model: nn.Module, optim: Optim) -> Task:
    return Task(model, SingleLabel(DataSpec(classes=("a", "b"))), Given(), optim)


class Watch(Callback):
    """Keeps the training losses and the rate of each step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"].item())


def small() -> Small:
    torch.manual_seed(0)
    model = Small()
    with torch.no_grad():
        for parameter in model.parameters():  # no parameter is zero, so that a decay shows in each
            parameter.copy_(torch.empty_like(parameter).uniform_(0.5, 1.0))
    return model


def fit(model: nn.Module, optim: Optim, **arguments: Any) -> Watch:
    """Train on 16 images in batches of 4."""
    generator = torch.Generator().manual_seed(3)
    columns = {"image": torch.rand(16, 1, 5, 5, generator=generator), "target": torch.arange(16) % 2}
    data = Tensors({"train": columns, "val": columns}, DataSpec(classes=("a", "b")), batch_size=4)
    watch = Watch()
    quieten()
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "num_sanity_val_steps": 0,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "callbacks": [watch],
    }
    Trainer(**defaults | arguments).fit(small_task(model, optim), datamodule=data)
    return watch


def step(model: Small, optim: Optim, gradient: float) -> dict[str, Tensor]:
    """Take one step with the same gradient everywhere and return by how much each parameter fell."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model.layer_groups(), optim, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, gradient) if parameter.requires_grad else None
    optimizer.step()
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}


# -------------------------------------------------------------------------------------------------------- the optimiser
@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_shrinks_matrices_and_kernels_only(name: Any) -> None:
    fallen = step(small(), Optim(name=name, lr=0.1, weight_decay=0.1), gradient=0.0)
    shrunk = {name for name, fall in fallen.items() if (fall > 0).all()}
    still = {name for name, fall in fallen.items() if (fall == 0).all()}
    assert shrunk == {"conv.weight", "linear.weight"}
    assert still == {"conv.bias", "norm.weight", "norm.bias", "linear.bias"}


def spared_matrices(model: nn.Module, groups: list[list[nn.Parameter]]) -> set[str]:
    """Return what of more than one dimension the optimiser decays not."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = build_optimizer(groups, Optim(weight_decay=0.1), model).param_groups
    return {names[id(p)] for group in found if not group["weight_decay"] for p in group["params"] if p.ndim > 1}


@pytest.mark.parametrize("moved", [lambda model: model, copy.deepcopy, lambda model: model.to("meta")])
def test_weight_decay_spares_what_timm_says(moved: Callable[[ResNet], ResNet]) -> None:
    model = moved(ResNet("test_vit", 2))
    assert spared_matrices(model, model.layer_groups()) == {"backbone.cls_token", "backbone.pos_embed"}


def test_weight_decay_spares_what_any_network_names() -> None:
    """A network of timm's by itself, too, and what it names with a wildcard."""
    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=32, num_classes=2, depth=1)
    assert spared_matrices(vit, [list(vit.parameters())]) == {"cls_token", "pos_embed"}
    swin: Any = timm.create_model(
        "swin_tiny_patch4_window7_224", pretrained=False, img_size=56, depths=(1, 1), num_classes=2
    )
    tables = {name for name, _ in swin.named_parameters() if name.endswith("relative_position_bias_table")}
    assert len(tables) == 2, "the premise"
    assert spared_matrices(swin, [list(swin.parameters())]) == tables
    swin.no_weight_decay = lambda: {"*.qkv.*"}
    kernels = {name for name, p in swin.named_parameters() if ".qkv." in name and p.ndim > 1}
    assert spared_matrices(swin, [list(swin.parameters())]) == kernels


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_is_a_share_of_the_weight(name: Any) -> None:
    model = small()
    before = model.linear.weight.detach().clone()
    fallen = step(model, Optim(name=name, lr=0.1, weight_decay=0.2), gradient=0.0)
    torch.testing.assert_close(fallen["linear.weight"], 0.1 * 0.2 * before)


@pytest.mark.parametrize("name", NAMES)
def test_without_weight_decay_nothing_moves_by_itself(name: Any) -> None:
    fallen = step(small(), Optim(name=name, lr=0.1, weight_decay=0.0), gradient=0.0)
    assert all((fall == 0).all() for fall in fallen.values())


@pytest.mark.parametrize("name", NAMES)
def test_layers_further_from_the_head_learn_slower(name: Any) -> None:
    optim = Optim(name=name, lr=0.1, weight_decay=0.0, layer_decay=0.5)
    fallen = step(small(), optim, gradient=1.0)  # the first step of each optimiser is lr for a gradient of one
    for layer, rate in (("linear", 0.1), ("norm", 0.05), ("conv", 0.025)):
        for leaf in ("weight", "bias"):
            fall = fallen[f"{layer}.{leaf}"]
            torch.testing.assert_close(fall, torch.full_like(fall, rate), rtol=1e-4, atol=1e-7)


def test_frozen_parameters_are_not_the_optimisers() -> None:
    model = small()
    model.conv.requires_grad_(False)
    optimizer = build_optimizer(model.layer_groups(), Optim(), model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in (*model.norm.parameters(), *model.linear.parameters())}
    fallen = step(model, Optim(lr=0.1, weight_decay=0.5), gradient=1.0)
    assert (fallen["conv.weight"] == 0).all()
    assert (fallen["linear.weight"] > 0).all()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_of_sgd_is_read(momentum: float) -> None:
    model = small()
    before = model.linear.bias.detach().clone()
    optim = Optim(name="sgd", lr=0.1, weight_decay=0.0, momentum=momentum)
    optimizer = build_optimizer(model.layer_groups(), optim, model)
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    torch.testing.assert_close(before - model.linear.bias, torch.full((2,), 0.1 * (1 + 1 + momentum)))


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_learns(name: Any) -> None:
    watch = fit(small(), Optim(name=name, lr=0.05, schedule="constant"), max_epochs=15)
    assert sum(watch.losses[-4:]) < 0.97 * sum(watch.losses[:4])


@pytest.mark.parametrize("name", ["warmup", "layer_decay", "step_share", "momentum", "lr", "weight_decay", "l1"])
def test_values_out_of_range_are_refused_with_their_flag(name: str) -> None:
    arguments: dict[str, Any] = {name: -0.1}
    with pytest.raises(InputError, match=f"--optim.{name.replace('_', '-')} -0.1"):
        Optim(**arguments)


# --------------------------------------------------------------------------------------------------------- the schedule
STEPS = st.integers(1, 500)
WARMUPS = st.floats(0, 1)
OPTIMS = st.builds(
    Optim,
    schedule=st.sampled_from(SCHEDULES),
    warmup=WARMUPS,
    step_share=st.floats(0, 1),
    step_factor=st.floats(0.01, 1),
)


@settings(deadline=None)
@given(STEPS, OPTIMS)
def test_the_rate_rises_to_its_peak_and_then_never_again(steps: int, optim: Optim) -> None:
    factors = [rate_factor(step, steps, optim) for step in range(steps + 3)]  # Lightning asks one step beyond the end
    assert all(0 <= factor <= 1 for factor in factors)
    top = round(optim.warmup * steps)
    warmup, rest = factors[:top], factors[top:]
    assert all(factor > 0 for factor in warmup), "the first step is not wasted"
    assert all(a < b for a, b in pairwise(warmup))
    assert rest[0] == 1
    assert all(a >= b for a, b in pairwise(rest))


@settings(deadline=None)
@given(STEPS, st.sampled_from(FALLING), WARMUPS)
def test_the_rate_ends_where_its_schedule_says(steps: int, schedule: Any, warmup: float) -> None:
    optim = Optim(schedule=schedule, warmup=warmup, step_share=0.4, step_factor=0.1)
    end = {"cosine": 0.0, "linear": 0.0, "step": 0.01}[schedule]
    assert rate_factor(steps, steps, optim) == pytest.approx(end) or round(warmup * steps) == steps
    assert rate_factor(0, steps, Optim(schedule=schedule)) == 1


@pytest.mark.parametrize(
    ("schedule", "quarters"),
    [
        ("cosine", (1, 0.853553, 0.5, 0.146447, 0)),
        ("linear", (1, 0.75, 0.5, 0.25, 0)),
        ("step", (1, 1, 0.1, 0.1, 0.01)),
        ("constant", (1, 1, 1, 1, 1)),
    ],
)
def test_courses_at_each_quarter(schedule: Any, quarters: tuple[float, ...]) -> None:
    optim = Optim(schedule=schedule, step_share=0.5, step_factor=0.1)
    assert [rate_factor(step, 100, optim) for step in range(0, 101, 25)] == pytest.approx(quarters, abs=1e-6)
    warm = Optim(schedule=schedule, step_share=0.5, step_factor=0.1, warmup=0.2)
    assert [rate_factor(step, 125, warm) for step in range(25, 126, 25)] == pytest.approx(quarters, abs=1e-6)


def test_training_follows_the_schedule_over_all_its_steps() -> None:
    optim = Optim(lr=0.01, schedule="linear", warmup=0.25)
    watch = fit(small(), optim, max_epochs=2)
    assert watch.rates == pytest.approx([0.01 * rate_factor(step, 8, optim) for step in range(8)])
    assert max(watch.rates) == pytest.approx(0.01)
    assert watch.rates[-1] < 0.25 * 0.01


def test_accumulated_batches_count_as_one_step_of_the_schedule() -> None:
    watch = fit(small(), Optim(lr=0.01, schedule="linear"), max_epochs=2, accumulate_grad_batches=2)
    assert watch.rates == pytest.approx([0.01 * factor for factor in (1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25)])


def test_training_by_steps_without_a_number_of_epochs_keeps_learning() -> None:
    watch = fit(small(), Optim(lr=0.01, schedule="linear"), max_epochs=-1, max_steps=8)
    assert min(watch.rates) > 0
    assert len(watch.rates) == 8


def test_training_without_an_end_keeps_the_peak_rate() -> None:
    class Enough(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    watch = Watch()
    fit(small(), Optim(lr=0.01, schedule="cosine"), max_epochs=-1, callbacks=[watch, Enough()])
    assert watch.rates == pytest.approx([0.01] * 8)


# ------------------------------------------------------------------------------------------------------------------- L1
def test_l1_raises_the_training_loss_by_its_weight_times_the_matrices_size() -> None:
    plain, model = small(), small()
    matrices = sum(p.abs().sum().item() for p in (model.conv.weight, model.linear.weight))
    still = Optim(name="sgd", lr=0.0, momentum=0.0, weight_decay=0.0)
    without = fit(plain, still).losses
    raised = fit(model, Optim(name="sgd", lr=0.0, momentum=0.0, weight_decay=0.0, l1=0.03)).losses
    assert [b - a for a, b in zip(without, raised, strict=True)] == pytest.approx([0.03 * matrices] * 4, rel=1e-4)


def test_l1_pulls_matrices_towards_zero_and_leaves_vectors() -> None:
    models = {}
    for l1 in (0.0, 0.05):
        models[l1] = small()
        optim = Optim(name="sgd", lr=0.1, momentum=0.0, weight_decay=0.0, l1=l1, schedule="constant")
        fit(models[l1], optim, max_steps=1)
    plain, penalised = (dict(model.named_parameters()) for model in models.values())
    for name, parameter in plain.items():
        expected = 0.1 * 0.05 if parameter.ndim > 1 else 0.0  # rate times penalty times the sign, all are positive
        torch.testing.assert_close(parameter - penalised[name], torch.full_like(parameter, expected))


def test_frozen_matrices_are_not_penalised() -> None:
    model = small()
    model.conv.requires_grad_(False)
    assert small_task(model, Optim()).decayed() == [model.linear.weight]


def test_the_task_tells_where_the_weights_came_from() -> None:
    assert small_task(small(), Optim()).weights_source == "none (random)"


# ------------------------------------------------------------------------------------------------ timm's and one cycle
@pytest.mark.parametrize("name", ["lamb", "lion", "nadamw", "muon"])
def test_timms_optimisers_take_groups_rates_and_decay(name: str) -> None:
    optim = Optim(name=name, lr=0.1, weight_decay=0.2, layer_decay=0.5)
    model = small()
    groups = build_optimizer(model.layer_groups(), optim, model).param_groups
    assert {(group["lr"], group["weight_decay"]) for group in groups} == {
        (rate, decay) for rate in (0.1, 0.05, 0.025) for decay in ((0.0,) if rate == 0.05 else (0.0, 0.2))
    }
    fallen = step(small(), optim, gradient=1.0)
    assert all((fall > 0).all() for fall in fallen.values())
    before = fit(small(), Optim(name=name, lr=1e-2), max_epochs=5).losses
    assert sum(before[-4:]) < sum(before[:4])


@pytest.mark.parametrize(("name", "said"), [("lam", "Did you mean lamb"), ("adahessian", "neither torch nor timm")])
def test_an_unknown_optimiser(name: str, said: str) -> None:
    with pytest.raises(InputError, match=f"--optim.name {name}: .*{said}"):
        small_task(small(), Optim(name=name))


@pytest.mark.skipif(torch.cuda.is_available(), reason="can be had there")
def test_an_optimiser_that_wants_a_gpu() -> None:
    with pytest.raises(InputError, match=r"--optim.name fusedlamb: not available here: "):
        small_task(small(), Optim(name="fusedlamb")).configure_optimizers()


class Momenta(Watch):
    """Keeps the momentum of each step too."""

    def __init__(self) -> None:
        super().__init__()
        self.momenta: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        group = trainer.optimizers[0].param_groups[0]
        self.momenta.append(group["betas"][0] if "betas" in group else group["momentum"])


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_momentum_runs_against_the_rate(name: str) -> None:
    momenta = Momenta()
    fit(small(), Optim(name=name, lr=0.1, schedule="one_cycle", warmup=0.25), max_epochs=5, callbacks=[momenta])
    assert momenta.momenta == pytest.approx([0.95 - 0.1 * rate / 0.1 for rate in momenta.rates])
    top = momenta.rates.index(max(momenta.rates))
    assert momenta.rates[top] == pytest.approx(0.1)
    assert momenta.momenta[top] == pytest.approx(0.85)
    assert all(a < b for a, b in pairwise(momenta.rates[: top + 1]))
    assert all(a > b for a, b in pairwise(momenta.rates[top:]))


def test_one_cycle_wants_a_momentum() -> None:
    with pytest.raises(InputError, match=r"--optim.schedule one_cycle: Adagrad has no momentum"):
        fit(small(), Optim(name="adagrad", schedule="one_cycle"))


# ----------------------------------------------------------------------------------------------------------- unfreezing
class Changed(Watch):
    """Keeps which layers each epoch has changed."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[set[str]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.before = {name: p.detach().clone() for name, p in pl_module.model.named_parameters()}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        now = dict(pl_module.model.named_parameters())
        changed = {name.split(".")[0] for name, value in self.before.items() if not torch.equal(value, now[name])}
        self.epochs.append(changed)


@pytest.mark.parametrize("accumulated", [1, 3])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_one_more_layer_group_each_epoch(name: str, accumulated: int) -> None:
    changed = Changed()
    optim = Optim(name=name, lr=0.01, schedule="constant", unfreeze=True)
    fit(small(), optim, max_epochs=4, callbacks=[changed], accumulate_grad_batches=accumulated)
    every = {"linear", "norm", "conv"}
    assert changed.epochs == [{"linear"}, {"linear", "norm"}, every, every]
    changed = Changed()
    fit(small(), Optim(name=name, lr=0.01, schedule="constant"), max_epochs=1, callbacks=[changed])
    assert changed.epochs == [every]


class Held(Watch):
    """Keeps of each epoch the statistics of the norm, and which layers have gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[Tensor] = []
        self.with_gradients: list[set[str]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step % 4 == 0:
            found = {name.split(".")[0] for name, p in pl_module.model.named_parameters() if p.grad is not None}
            self.with_gradients.append(found)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.means.append(pl_module.model.norm.running_mean.clone())


def test_what_waits_for_its_epoch_has_no_gradient_and_its_norms_stand_still() -> None:
    held, model = Held(), small()
    fit(model, Optim(lr=0.01, unfreeze=True), max_epochs=3, callbacks=[held])
    assert held.with_gradients == [{"linear"}, {"linear", "norm"}, {"linear", "norm", "conv"}]
    assert torch.equal(held.means[0], torch.zeros_like(held.means[0])), "as it was made"
    assert not torch.equal(held.means[1], held.means[0])
    assert all(p.requires_grad for p in model.parameters())


def test_a_frozen_part_stays_frozen_when_the_rest_thaws() -> None:
    model = small()
    model.conv.requires_grad_(False)
    before = model.conv.weight.clone()
    fit(model, Optim(lr=0.01, unfreeze=True), max_epochs=4)
    assert not model.conv.weight.requires_grad
    assert torch.equal(model.conv.weight, before)
