"""Explanations of images: the layer, the maps against captum's, a planted mark, and what hides a tile."""

from __future__ import annotations

from typing import Any

import captum.attr
import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from src import models, tasks
from src.configs.errors import InputError
from src.configs.optim import Optim
from src.configs.spec import DataSpec
from src.explain import images
from src.explain.checks import cascade, completeness
from src.explain.faithfulness import faithfulness
from src.explain.images import ImageExample
from src.explain.layers import last_maps
from src.explain.method import Method
from src.explain.perturbation import occlusion
from src.explain.subject import Subject

SIDE, MARK = 48, 10


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return noise, of which every second image has a red square: images, classes, and where the squares are."""
    generator = torch.Generator().manual_seed(seed)
    noise = 0.2 + 0.6 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    target = torch.arange(count) % 2
    corners = torch.randint(0, SIDE - MARK, (count, 2), generator=generator)
    for image, (row, column) in zip(noise[1::2], corners[1::2].tolist(), strict=True):
        image[:, row : row + MARK, column : column + MARK] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    return (noise * 255).byte(), target, corners


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A network that tells marked images from others."""
    spec = DataSpec(classes=("plain", "marked"), input_shape=(3, SIDE, SIDE))
    pixels, target, _ = drawn(128, seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = tasks.ImageClassification(models.CNN(2, widths=(8, 16, 32), dropout=0.0), spec, Optim())
        optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
        for _ in range(60):
            rows = torch.randperm(128)[:64]
            loss = task.objective.loss(task({"image": pixels[rows]}), target[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Subject(task)


def log_odds(network: nn.Module) -> Any:
    """Return what scores one of two classes."""
    return lambda images, target: network(images).mul(2 * F.one_hot(target, 2) - 1).sum(1)


def examples(subject: Subject, pixels: torch.Tensor) -> list[ImageExample]:
    read = subject.task.input.tensors
    return [
        ImageExample(str(number), read({"image": image[None]}, torch.float32)[0]) for number, image in enumerate(pixels)
    ]


def marked(subject: Subject, count: int) -> tuple[list[ImageExample], list[int], torch.Tensor]:
    pixels, _, corners = drawn(2 * count, seed=1)
    return examples(subject, pixels[1::2]), [1] * count, corners[1::2]


def test_the_planted_mark_is_ranked_first(subject: Subject) -> None:
    given, targets, corners = marked(subject, 200)
    assert np.mean(subject.likeliest(given)) >= 0.98
    hits = 0
    for example, found, (row, column) in zip(
        given, images.grad_cam(subject, given, targets), corners.tolist(), strict=True
    ):
        first = int(example.of_parts(found.values).argmax())
        top, left = (place * example.tile for place in divmod(first, example.columns))
        hits += row - example.tile < top < row + MARK and column - example.tile < left < column + MARK
    assert hits >= 190


@pytest.mark.parametrize(
    ("method", "alike"),
    [
        (images.grad_cam, 0.5),
        (images.integrated_gradients, 0.5),
        (images.saliency, 0.8),  # it shows the edges of an image whatever the weights
        (occlusion, 0.5),
    ],
)
def test_methods_beat_random_order_and_depend_on_the_weights(subject: Subject, method: Method, alike: float) -> None:
    given, targets, _ = marked(subject, 8)
    found = method(subject, given, targets)
    faithful = faithfulness(subject, given, targets, found)
    assert faithful
    assert faithful.beats_chance, faithful
    assert faithful.gain > faithful.random + 0.1
    steps = cascade(subject, method, given[:4], targets[:4], found[:4])
    assert steps[-1][0] == "all"
    assert steps[-1][1] < alike


def test_an_order_of_no_meaning_does_not_beat_chance(subject: Subject) -> None:
    given, targets, _ = marked(subject, 12)
    generator = np.random.default_rng(3)
    noise = [images.Attribution(generator.random((SIDE, SIDE))) for _ in given]
    found = faithfulness(subject, given, targets, noise)
    assert found
    assert found.beats_chance is False


def test_of_one_example_there_is_no_interval(subject: Subject) -> None:
    given, targets, _ = marked(subject, 1)
    found = faithfulness(subject, given, targets, images.grad_cam(subject, given, targets))
    assert found
    assert (found.interval, found.beyond_random, found.beats_chance) == (None, None, None)


def test_grad_cam_and_integrated_gradients_are_captums(subject: Subject) -> None:
    given, targets, _ = marked(subject, 3)
    batch, target = torch.cat([example.image for example in given]), torch.tensor(targets)
    spec = DataSpec(classes=("plain", "marked"), input_shape=(3, 224, 224))
    pooled = Subject(tasks.ImageClassification(models.ResNet("resnet18", 2), spec, Optim()))
    large = F.interpolate(batch, (224, 224))
    layer = last_maps(pooled.network, (large[:1],))
    expected: Any = captum.attr.LayerGradCam(log_odds(pooled.network), layer.module).attribute(
        large.clone().requires_grad_(), additional_forward_args=(target,), relu_attributions=True
    )
    expected = F.interpolate(expected.detach(), (224, 224), mode="bilinear")[:, 0].numpy()
    found = images.grad_cam(pooled, [ImageExample("", image[None]) for image in large], targets)
    assert expected.max() > 0
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own.values, other, rtol=1e-3, atol=1e-4 * expected.max())
    (own,) = images.integrated_gradients(subject, given[:1], targets[:1])
    gradients = captum.attr.IntegratedGradients(log_odds(subject.network))
    fine: Any = gradients.attribute(
        batch[:1], given[0].blurred, additional_forward_args=(target[:1],), n_steps=1000, internal_batch_size=100
    )
    np.testing.assert_allclose(own.values, fine.detach().sum(1)[0].numpy(), atol=0.02 * np.abs(own.values).max())
    assert completeness([own]) is not None
    assert (completeness([own]) or 0) <= 0.01


@pytest.mark.parametrize(
    ("backbone", "side", "name", "maps"),
    [
        ("resnet18", 224, "layer4", (7, 7)),
        ("resnet18", 64, "layer2", (8, 8)),  # of layer4, 2 x 2 would be left
        ("convnext_atto", 224, "norm_pre", (7, 7)),
        ("vit_tiny_patch16_224", 224, "blocks.11.norm1", (14, 14)),
        ("swin_tiny_patch4_window7_224", 224, "norm", (7, 7)),
        ("efficientnet_b0", 224, "bn2", (7, 7)),
        ("levit_128s", 224, "stages.1", (7, 7)),  # its attention that halves the maps has keys and values of 7 x 7
        ("coat_lite_tiny", 224, "serial_blocks4.1.norm1", (7, 7)),  # its queries, 50 tokens x 40, are no maps
    ],
)
def test_the_layer_of_a_backbone_is_found_and_named(backbone: str, side: int, name: str, maps: tuple[int, int]) -> None:
    network = models.ResNet(backbone, 2).eval().requires_grad_(False)
    layer = last_maps(network, (torch.rand(1, 3, side, side),))
    assert (layer.name, layer.side) == (f"backbone.{name}", maps)
    assert str(layer) == f"backbone.{name} ({maps[0]} x {maps[1]})"


def test_a_network_without_maps_names_the_methods_that_fit() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    with pytest.raises(InputError, match=r"no convolution and no tokens.*integrated-gradients, occlusion or saliency"):
        last_maps(network, (torch.rand(1, 3, 8, 8),))


def transformer(side: int) -> Subject:
    spec = DataSpec(classes=("a", "b"), input_shape=(3, side, side))
    return Subject(tasks.ImageClassification(models.ResNet("vit_tiny_patch16_224", 2), spec, Optim()))


def test_attention_rollout_reads_the_attention_and_leaves_it_as_it_was() -> None:
    subject = transformer(224)
    given = [ImageExample("0", torch.rand(1, 3, 224, 224))]
    before = subject.outputs(given[0].tensors)
    (found,) = images.attention_rollout(subject, given, [0])
    assert found.values.shape == (224, 224)
    assert np.ptp(found.values) > 0
    assert found.values.min() >= 0
    assert torch.equal(subject.outputs(given[0].tensors), before)
    assert all(module.fused_attn for module in subject.network.modules() if hasattr(module, "fused_attn"))


@pytest.mark.parametrize(
    ("backbone", "side", "fits"),
    [
        ("swin_tiny_patch4_window7_224", 224, False),  # within windows
        ("pit_ti_224", 224, False),  # pools its tokens
        ("cait_xxs24_224", 224, False),  # tells the rows of the class token alone
        ("vit_small_patch14_reg4_dinov2", 28, True),  # 2 x 2 patches, a class token and 4 registers: 9 tokens, no 3 x 3
        ("vit_base_patch16_siglip_224", 32, True),  # no class token
    ],
)
def test_attention_is_rolled_out_where_all_layers_have_the_same_tokens(backbone: str, side: int, fits: bool) -> None:
    spec = DataSpec(classes=("a", "b"), input_shape=(3, side, side))
    sized: dict[str, Any] = {"img_size": side, "depth": 2} if fits else {}
    network = timm.create_model(backbone, num_classes=2, **sized)
    subject = Subject(tasks.ImageClassification(network, spec, Optim()))
    given = [ImageExample("0", torch.rand(1, 3, side, side))]
    if not fits:
        with pytest.raises(InputError, match=r"within windows, pools its tokens.*Take grad-cam"):
            images.attention_rollout(subject, given, [0])
        return
    (found,) = images.attention_rollout(subject, given, [0])
    half = found.values[side // 4 :: side // 2, side // 4 :: side // 2]
    assert half.shape == (2, 2)
    assert len(np.unique(half.round(9))) == 4


def test_a_convolution_has_no_attention_to_roll_out(subject: Subject) -> None:
    given, targets, _ = marked(subject, 1)
    with pytest.raises(InputError, match=r"no attention.*grad-cam"):
        images.attention_rollout(subject, given, targets)


@pytest.mark.parametrize("side", [8, 28, 45, 224])
def test_tiles_cover_the_image_and_hide_it(side: int) -> None:
    image = torch.rand(1, 3, side, side)
    example = ImageExample("0", image)
    kept = np.ones((2, len(example)), bool)
    kept[1] = False
    whole, none = example.hidden(kept)[0]
    assert torch.equal(whole, image[0])
    assert torch.equal(none, example.blurred[0])
    kept[1, 0] = True
    one = example.hidden(kept)[0][1]
    assert torch.equal(one[:, : example.tile, : example.tile], image[0, :, : example.tile, : example.tile])
    assert example.rows <= 14
    values = np.arange(len(example), dtype=float)
    np.testing.assert_allclose(example.of_parts(example.of_pixels(values)), values)
