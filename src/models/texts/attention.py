"""Attention by products of matrices, for encoders that are trained in bfloat16 on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "leyden"
"""Of this attention among those of `transformers`."""
SCORES = 2**21
"""Computed at a time: 4 MB."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Softmax(query key^T scaling) value, as `transformers` asks for it (Vaswani et al. 2017, section 3.2.1).

    In bfloat16 on the CPU by products of matrices, of a few examples at a time, so that their scores stay in the
    processor's cache: twice as fast as torch's fused kernel, whose backward pass takes a quarter of a training step.
    Else by that kernel, to which dropout and whatever more an encoder wants are left too.

    Args:
        query, key, value: [batch, heads, length, width of a head].
        attention_mask: boolean, that expands to [batch, heads, length, length]; True where a query sees a key.
        options: of other attentions, such as a bias of positions.

    Returns:
        [batch, length, heads, width of a head].
    """
    # Compiled, the number of parts would differ with every length, and with it the code.
    slow = query.device.type == "cpu" and query.dtype == torch.bfloat16 and not torch.compiler.is_compiling()
    asked = options.get("is_causal")
    causal = attention_mask is None and (getattr(module, "is_causal", True) if asked is None else asked)
    more = dropout or causal or any(options.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    if not slow or more or key.shape != query.shape:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    batch, heads, length, width = query.shape
    few = max(1, SCORES // (heads * length**2))
    masks = [None] * batch if attention_mask is None else attention_mask.expand(batch, -1, -1, -1).split(few)
    queries = (query * (scaling or width**-0.5)).split(few)
    parts = map(attend, queries, key.split(few), value.split(few), masks)
    return torch.cat(list(parts)).transpose(1, 2).contiguous(), None


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax(query key^T) value, where the mask shows the key."""
    scores = query @ key.transpose(2, 3)
    if mask is not None:
        with torch.no_grad():  # a hidden score has no gradient anyway, since its share is 0
            scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
    with torch.autocast("cpu", enabled=False):  # it would turn the scores into float32, though softmax sums in it
        return scores.softmax(-1) @ value


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
