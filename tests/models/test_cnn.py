"""The small CNN: the configurations of the tutorials, counted by hand, and that today's default is still the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.experiment import InputError
from src.models import CNN
from src.models.images.cnn import Residual

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "pytorch tutorial": {"widths": (16, 32), "kernel_size": 5, "flatten": 28, "dropout": 0.0},
    "keras tutorial": {
        "widths": (32, 64, 64),
        "padding": 0,
        "norm": False,
        "pooled": 2,
        "flatten": 28,
        "hidden": 64,
        "dropout": 0.0,
    },
    "residual": {"widths": (32, 64, 128), "residual": True},
    "residual without norm": {"widths": (8, 16), "residual": True, "norm": False},
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def network(name: str, **other: Any) -> CNN:
    arguments: dict[str, Any] = {"in_channels": 1} | CONFIGURATIONS[name] | other
    return CNN(10, **arguments)


def random_images(count: int, side: int = 28, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# -------------------------------------------------------------------------------------------------- today's default
def former(num_classes: int, in_channels: int, widths: tuple[int, ...]) -> nn.ModuleDict:
    """Build the CNN as it was before it could be configured: in this order, so that a seed gives the same weights."""
    norm = nn.BatchNorm2d(in_channels)
    blocks: list[nn.Module] = []
    for before, width in zip((in_channels, *widths), widths, strict=False):
        conv = nn.Conv2d(before, width, 3, padding=1, bias=False)
        blocks += [conv, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    linear = nn.Linear(widths[-1], num_classes)
    for module in blocks:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return nn.ModuleDict({"norm": norm, "blocks": nn.Sequential(*blocks), "head": nn.ModuleDict({"linear": linear})})


def test_the_default_has_the_weights_keys_and_results_that_it_had() -> None:
    torch.manual_seed(3)
    before = former(5, 3, (32, 64, 128, 256))
    torch.manual_seed(3)
    model = CNN(5)
    ours, theirs = model.state_dict(), before.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    images = random_images(4, 32, 3)
    maps = before["blocks"].eval()(before["norm"].eval()(images))
    assert torch.equal(model.eval().features(images), maps.mean((2, 3)))
    assert model.head.dropout.p == 0.2


def test_the_names_in_a_saved_default_stay() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [f"norm.{name}" for name in norm]
    for block in (0, 4):
        names += [f"blocks.{block}.weight", *(f"blocks.{block + 1}.{name}" for name in norm)]
    assert list(CNN(2, widths=(4, 8)).state_dict()) == [*names, "head.linear.weight", "head.linear.bias"]


# ------------------------------------------------------------------------------------------------ counted by hand
@pytest.mark.parametrize(("side", "channels", "count"), [(32, 3, 122_570), (28, 1, 93_322)])
def test_the_keras_tutorials_network_has_its_parameters(side: int, channels: int, count: int) -> None:
    """122 570 is the tutorial's own summary: 896 + 18 496 + 36 928 + 65 600 + 650."""
    model = network("keras tutorial", in_channels=channels, flatten=side)
    last = (((side - 2) // 2 - 2) // 2 - 2) ** 2 * 64
    convolutions = (9 * channels + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    assert parameters(model) == convolutions + (last + 1) * 64 + 65 * 10 == count
    features = model.features(random_images(8, side, channels))
    assert features.shape == (8, 64)
    assert features.min() == 0 < features.max(), "the dense layer has a ReLU"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(isinstance(module, nn.MaxPool2d) for module in model.modules()) == 2


def test_the_pytorch_tutorials_network_has_its_parameters() -> None:
    """The tutorial's 29 034, but no bias before a batch norm (-48), and a batch norm of the images (+2)."""
    model = network("pytorch tutorial")
    by_hand = 2 + (25 * 16 + 2 * 16) + (25 * 16 * 32 + 2 * 32) + (7 * 7 * 32 + 1) * 10
    assert parameters(model) == by_hand == 29_034 - 48 + 2
    assert model.features(random_images(2)).shape == (2, 7 * 7 * 32)


def test_the_residual_network_has_a_pair_of_convolutions_after_each_block() -> None:
    model = network("residual")
    blocks = sum(9 * before * width + 2 * width for before, width in ((1, 32), (32, 64), (64, 128)))
    pairs = sum(2 * (9 * width**2 + 2 * width) for width in (32, 64, 128))
    assert parameters(model) == 2 + blocks + pairs + 129 * 10 == 482_156
    assert model.features(random_images(2)).shape == (2, 128)
    assert [tuple(maps.shape[1:]) for maps in after_blocks(model, random_images(2))] == [
        (32, 14, 14),
        (64, 7, 7),
        (128, 3, 3),
    ]


def after_blocks(model: CNN, images: Tensor) -> list[Tensor]:
    """Return what each residual pair of `model` returns."""
    found: list[Tensor] = []
    maps = model.norm(images)
    for module in model.blocks:
        maps = module(maps)
        found += [maps] if isinstance(module, Residual) else []
    return found


def test_a_residual_pair_adds_to_what_comes_in() -> None:
    pair = Residual(4, norm=False).eval()
    maps = torch.randn(2, 4, 6, 6)
    assert not torch.allclose(pair(maps), maps)
    torch.testing.assert_close(pair(maps), maps + pair.branch(maps))
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.zero_()
    assert torch.equal(pair(maps), maps)


# ------------------------------------------------------------------------------------------------- what all promise
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_logits_are_the_head_on_the_features(name: str) -> None:
    model = network(name).eval()
    logits = model(random_images(3))
    assert logits.shape == (3, 10)
    torch.testing.assert_close(logits, model.head(model.features(random_images(3))))


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_layer_groups_hold_each_parameter_once_from_the_input_to_the_head(name: str) -> None:
    model = network(name)
    groups = model.layer_groups()
    assert all(groups)
    depth = {id(p): number for number, group in enumerate(groups) for p in group}
    assert len(depth) == sum(map(len, groups)) == len(list(model.parameters()))
    order = [depth[id(p)] for p in model.parameters()]  # registered from the input to the head
    assert order == sorted(order)
    assert [id(p) for p in groups[-1]] == [id(p) for p in model.head.parameters()]
    expected = len(CONFIGURATIONS[name].get("widths", (0,) * 4)) + 1  # a group a block, and the head
    expected += CONFIGURATIONS[name].get("norm", True) + bool(CONFIGURATIONS[name].get("hidden"))
    assert len(groups) == expected


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_learns_one_batch_by_heart(name: str) -> None:
    model, images, targets = network(name, dropout=0.0), random_images(10), torch.arange(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_convolution_starts_as_in_he_et_al(name: str) -> None:
    for module in network(name, in_channels=3).blocks.modules():
        if isinstance(module, nn.Conv2d):
            wanted = 2 / (module.out_channels * module.kernel_size[0] ** 2)
            error = 5 * (2 / module.weight.numel()) ** 0.5  # five standard errors of a normal's variance
            assert module.weight.var().item() == pytest.approx(wanted, rel=error)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_starts_from_a_file_of_the_same_configuration_only(name: str, tmp_path: Path) -> None:
    saved, path = network(name), tmp_path / "weights.pt"
    torch.save(saved.state_dict(), path)
    again = network(name, weights=str(path))
    assert all(torch.equal(value, saved.state_dict()[key]) for key, value in again.state_dict().items())
    assert again.weights_source == f"file {path}"
    other = "default" if name == "residual" else "residual"
    with pytest.raises(InputError, match="not a state dict of this CNN"):
        network(other, weights=str(path))


def test_without_flattening_pictures_may_be_of_any_size() -> None:
    model = network("residual").eval()
    assert model(random_images(2, 64)).shape == model(random_images(2, 16)).shape == (2, 10)


def test_pictures_too_small_for_the_flattened_maps_are_refused_by_flag() -> None:
    assert network("keras tutorial", flatten=18).features(random_images(1, 18)).shape == (1, 64)
    with pytest.raises(InputError, match=r"--image-size 17: too small for 3 blocks"):
        network("keras tutorial", flatten=17)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 1.5])
def test_a_dropout_is_a_share(dropout: float) -> None:
    with pytest.raises(InputError, match="--dropout"):
        network("default", dropout=dropout)
