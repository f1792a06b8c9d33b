"""Any text encoder of the `transformers` library with a linear head."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from src.configs.errors import InputError
from src.configs.spec import DataSpec
from src.models.heads import Head, require_share
from src.models.state_dicts import load_file
from src.resources import hub

DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
)
"""What encoders' configs call their dropout rates."""


class Bert(nn.Module):
    """A transformer encoder (Devlin et al. 2019, https://arxiv.org/abs/1810.04805), pooled over the text, and a head.

    Args:
        encoder: a folder, a name on the Hub, or the packaged encoder; see `src/resources/hub.py`.
        spec: of the data: its tokens and the length of the longest text, which have to go with the encoder.
        num_outputs: numbers for each text.
        weights: 'pretrained', 'none' (random; only the encoder's config is read), or a file with a state dict of the
            encoder.
        pooling: mean over the text's tokens, the first token ('cls'), or the encoder's own pooler over that.
        frozen: that many of the lowest layers, and the embedding with the first, stay as they are; -1 freezes all.
        dropout: in place of all the encoder's own rates, and on the pooled features before the head.
        gradient_checkpointing: compute the layers again in the backward pass, to save memory.
    """

    def __init__(
        self,
        encoder: str,
        spec: DataSpec,
        num_outputs: int,
        *,
        weights: str = "none",
        pooling: Literal["mean", "cls", "pooler"] = "mean",
        frozen: int = 0,
        dropout: float = 0.0,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.encoder, self.weights_source = create_encoder(encoder, weights, dropout)
        config = self.encoder.config
        check_fit(encoder, self.encoder, spec)
        if pooling == "pooler" and getattr(self.encoder, "pooler", None) is None:
            raise InputError(f"--pooling pooler: {encoder} has none. Take mean or cls.")
        if gradient_checkpointing:
            enable = getattr(self.encoder, "activation_checkpointing_enable", None)  # its name from transformers 5.23
            (enable or self.encoder.gradient_checkpointing_enable)({"use_reentrant": False})
        self.head = Head(config.hidden_size, num_outputs, dropout)
        groups = self.layer_groups()[:-1]
        layers = len(groups) - 1
        if not -1 <= frozen <= layers:
            raise InputError(f"--frozen {frozen}: {encoder} has {layers} layers; -1 freezes them all.")
        if frozen == -1:
            self.encoder.requires_grad_(False)
        for group in groups[: frozen + 1] if frozen > 0 else []:
            for parameter in group:
                parameter.requires_grad_(False)
        if pooling != "pooler" and getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler.requires_grad_(False)  # computed by the encoder, used by nobody
        self.train()

    def features(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens [batch, length] and mask [batch, length], True where a token is -> [batch, hidden_size]."""
        out = self.encoder(input_ids=tokens, attention_mask=mask.long())
        if self.pooling == "pooler":
            return out.pooler_output
        if self.pooling == "cls":
            return out.last_hidden_state[:, 0]
        there = mask[..., None]
        return (out.last_hidden_state.float() * there).sum(1) / there.sum(1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens and mask, as for `features` -> [batch, num_outputs]."""
        return self.head(self.features(tokens, mask))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters by depth: what stands before the layers, each layer, and what follows with the head."""
        stacks = [module for module in self.encoder.modules() if isinstance(module, nn.ModuleList)]
        layers = max(stacks, key=len)
        inside = {id(parameter) for parameter in layers.parameters()}
        first, last = [], []
        reached = False
        for parameter in self.encoder.parameters():
            reached = reached or id(parameter) in inside
            if id(parameter) not in inside:
                (last if reached else first).append(parameter)
        return [first, *(list(layer.parameters()) for layer in layers), [*last, *self.head.parameters()]]

    def no_weight_decay(self) -> set[str]:
        """Return the patterns by which transformers' own Trainer spares matrices: biases of relative positions."""
        return {"*bias*"}

    def train(self, mode: bool = True) -> Self:
        """Set training mode, but keep frozen modules, and so their dropout, in evaluation mode."""
        super().train(mode)
        for module in self.encoder.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self


def available_encoder(encoder: str, offline_encoder: str, *, named: bool = False) -> str:
    """Return `encoder` if it can be had here, else `offline_encoder`, the stand-in that a package carries.

    One that the user has `named` is not replaced: where it is not available, an error says so.
    """
    return encoder if named or hub.find(encoder) else offline_encoder


def create_encoder(encoder: str, weights: str, dropout: float) -> tuple[Any, str]:
    """Return an encoder and where its weights came from.

    Raises:
        InputError: it is not available here, the file's tensors do not fit, or there is no such dropout.
    """
    require_share(dropout)
    config = hub.load("config", encoder)
    for name in DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, dropout)
    from transformers import AutoModel

    from src.models.texts import attention

    pretrained = weights == "pretrained"
    network: Any = (
        hub.load("model", encoder, config=config)
        if pretrained
        else AutoModel.from_config(config, dtype=torch.float32)  # as `hub.load` does, whatever the config says
    )
    if network.config._attn_implementation == "sdpa":
        network.set_attn_implementation(attention.NAME)
    if pretrained:
        return network, str(hub.find(encoder))
    if weights == "none":
        return network, "none (random)"
    return network, load_file(network, Path(weights), prefix="model.encoder.", drop=("head.", "classifier."))


def check_fit(encoder: str, network: Any, spec: DataSpec) -> None:
    """Raise an InputError where the tokenizer has more tokens than the encoder, or texts are too long for it."""
    config = network.config
    if spec.vocab_size > config.vocab_size:
        raise InputError(
            f"--encoder {encoder}: it knows {config.vocab_size} tokens, but the tokenizer has {spec.vocab_size}: they "
            "do not belong together."
        )
    longest = getattr(config, "max_position_embeddings", None)
    positions: Any = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    longest = longest if longest and longest > 0 else None  # XLNet's -1 is no limit
    if longest is not None and getattr(positions, "padding_idx", None) is not None:
        longest -= positions.padding_idx + 1  # RoBERTa's positions start behind the padding's
    if longest is not None and spec.input_shape[0] > longest:
        raise InputError(
            f"--prep.max-length {spec.input_shape[0]}: --encoder {encoder} reads at most {longest} tokens."
        )
