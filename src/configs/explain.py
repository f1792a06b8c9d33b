"""Choices of an explanation."""

from __future__ import annotations

from typing import Literal

MethodName = Literal[
    "grad-cam",
    "integrated-gradients",
    "saliency",
    "occlusion",
    "attention-rollout",
    "lime",
    "kernel-shap",
    "permutation",
    "tree-shap",
]
