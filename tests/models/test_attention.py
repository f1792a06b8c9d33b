"""Attention by products of matrices: the formula's result, masks obeyed, and everything else left to torch's kernel."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import profile

from src.experiment import DataSpec
from src.models import Bert
from src.models.texts import attention

ENCODER: Any = SimpleNamespace(is_causal=False)


def by_formula(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    scores = query.double() @ key.double().transpose(2, 3) / query.shape[-1] ** 0.5
    return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value.double()).transpose(1, 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 40), st.sampled_from([4, 32]), st.integers(0, 2**31))
def test_it_is_the_formulas_result_but_for_bfloat16s_rounding(
    batch: int, heads: int, length: int, width: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key, value = torch.randn(3, batch, heads, length, width, generator=generator).bfloat16()
    mask = torch.rand(batch, 1, 1, length, generator=generator) < 0.7
    mask[..., 0] = True  # every text has a token
    found, _ = attention.attention(ENCODER, query, key, value, mask.expand(-1, 1, length, -1))
    assert found.dtype == torch.bfloat16
    expected = by_formula(query, key, value, mask)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.05 * float(value.abs().max()))


@pytest.mark.parametrize("masked", [True, False])
def test_a_few_examples_at_a_time_are_all_of_them(monkeypatch: pytest.MonkeyPatch, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 7, 2, 12, 8, generator=generator).bfloat16()
    mask = (torch.rand(7, 1, 1, 12, generator=generator) < 0.7).expand(-1, 1, 12, -1).clone()
    mask[..., 0] = True

    def results(scores: int) -> tuple[Tensor, Tensor]:
        monkeypatch.setattr(attention, "SCORES", scores)
        given = inputs.clone().requires_grad_()
        found, _ = attention.attention(ENCODER, given[0], given[1], given[2], mask if masked else None)
        found.float().square().sum().backward()
        assert given.grad is not None
        return found.detach(), given.grad

    whole = results(10**9)
    for scores in (1, 2 * 2 * 12**2):  # one at a time, and two, of which the last is alone
        for found, expected in zip(results(scores), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    query, key, value = inputs
    expected = by_formula(query, key, value, mask if masked else torch.ones_like(mask))
    torch.testing.assert_close(whole[0].double(), expected, rtol=0, atol=0.05 * float(value.abs().max()))


def calls(*, dtype: torch.dtype = torch.bfloat16, module: Any = ENCODER, mask: bool = True, **options: Any) -> set[str]:
    """Return the names of the operators that one call uses."""
    query, key, value = torch.randn(3, 2, 2, 6, 8, dtype=dtype)
    seen = torch.ones(2, 1, 6, 6, dtype=torch.bool) if mask else None
    with profile() as found:
        attention.attention(module, query, key, value, seen, **options)
    return {event.key for event in found.key_averages()}


@pytest.mark.parametrize(
    "case",
    [
        {"dtype": torch.float32},
        {"dropout": 0.1},
        {"module": SimpleNamespace(is_causal=True), "mask": False},
        {"is_causal": True, "mask": False},
        {"position_bias": torch.zeros(2, 2, 6, 6, dtype=torch.bfloat16)},
    ],
    ids=["float32", "dropout", "a decoder", "a decoder by its call", "biased positions"],
)
def test_torchs_kernel_serves_what_it_is_better_at_or_what_is_not_built_here(case: dict[str, Any]) -> None:
    assert "aten::scaled_dot_product_attention" in calls(**case)
    assert "aten::scaled_dot_product_attention" not in calls()


def test_an_encoder_in_bfloat16_uses_it_and_learns_what_it_would_with_torchs_kernel(encoder: Path) -> None:
    spec = DataSpec(input_shape=(24,), vocab_size=14)
    tokens = torch.randint(2, 14, (8, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(24) < torch.arange(3, 27, 3)[:, None]

    def gradients(implementation: str) -> list[Tensor]:
        torch.manual_seed(0)
        model = Bert(str(encoder), spec, 2, weights="pretrained")
        assert model.encoder.config._attn_implementation == attention.NAME
        model.encoder.set_attn_implementation(implementation)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(tokens, mask)
        F.cross_entropy(logits, torch.arange(8) % 2).backward()
        return [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]

    ours, theirs = torch.cat(gradients(attention.NAME)), torch.cat(gradients("sdpa"))
    assert not torch.equal(ours, theirs), "the premise: two ways of computing"
    assert F.cosine_similarity(ours, theirs, dim=0) > 0.99
