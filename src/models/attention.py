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

    In bfloat16 on the CPU by products of matrices: there the backward pass of torch's fused kernel takes a quarter of a
    training step. Else by that kernel, to which dropout and whatever more an encoder wants are left too.

    Args:
        query, key, value: [batch, heads, length, width of a head].
        attention_mask: boolean, that expands to [batch, heads, length, length]; True where a query sees a key.
        options: of other attentions, such as a bias of positions.

    Returns:
        [batch, length, heads, width of a head].
    """
    slow = query.device.type == "cpu" and query.dtype == torch.bfloat16
    causal = attention_mask is None and getattr(module, "is_causal", True)
    more = dropout or causal or any(options.get(name) is not None for name in ("position_bias", "softcap", "cache"))
    if not slow or more or key.shape != query.shape:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    with torch.autocast("cpu", enabled=False):  # it would turn the scores into float32, though softmax sums in it
        shares = scores.softmax(-1)
    return (shares @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
