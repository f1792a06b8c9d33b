"""The methods of each kind of input, and what is said of them."""

from __future__ import annotations

from torch import nn

from src.configs.explain import MethodName
from src.configs.spec import DataSpec
from src.explain import images, perturbation, shapley, table_gradients, text_gradients, texts
from src.explain.example import Example
from src.explain.explanation import Kind
from src.explain.method import Method
from src.explain.subject import Subject

METHODS: dict[Kind, dict[MethodName, Method]] = {
    "image": {
        "grad-cam": images.grad_cam,
        "integrated-gradients": images.integrated_gradients,
        "saliency": images.saliency,
        "occlusion": perturbation.occlusion,
        "attention-rollout": images.attention_rollout,
    },
    "text": {
        "integrated-gradients": text_gradients.integrated_gradients,
        "occlusion": perturbation.occlusion,
        "lime": perturbation.lime,
        "attention-rollout": texts.attention_rollout,
    },
    "table": {
        "kernel-shap": shapley.kernel_shap,
        "permutation": shapley.permutation,
        "integrated-gradients": table_gradients.integrated_gradients,
        "occlusion": perturbation.occlusion,
    },
}
"""Kind of input -> its methods, the default first. Tables have `tree-shap` too, which asks no network."""
WORDS: dict[MethodName, str] = {
    "grad-cam": "Grad-CAM, place by place (HiResCAM)",
    "integrated-gradients": "integrated gradients",
    "saliency": "saliency with SmoothGrad",
    "occlusion": "occlusion",
    "attention-rollout": "attention rollout",
    "lime": "LIME",
    "kernel-shap": "KernelSHAP",
    "permutation": "Shapley values by permutations",
    "tree-shap": "TreeSHAP of gradient boosting on the same rows, not of the network",
}
"""What the methods are called where people read of them."""
UNSIGNED = ("saliency", "attention-rollout")
"""Methods that tell where a network looks, not what for."""


def described(
    name: MethodName, subject: Subject, example: Example, target: int | None, *, mistakes: bool = False
) -> str:
    """Return a method in words, with the layer that it looks at and what is explained.

    Args:
        name: of the method.
        subject: the network.
        example: one that is explained.
        target: class or label that is explained of all; None for the likeliest of each.
        mistakes: of several labels, the one that was decided worst is explained of each.
    """
    where = f", {subject.maps(example.tensors)}" if name == "grad-cam" else ""
    what = ", for the number that is predicted"
    if subject.classes:
        labels = subject.spec.target.kind == "multi_label"
        which, kind = "most wrong" if labels and mistakes else "likeliest", "label" if labels else "class"
        what = f", for the {which} {kind}" if target is None else f", for {kind} {subject.classes[target]}"
    return WORDS[name] + where + ("" if name == "attention-rollout" else what)


def default_method(kind: Kind, network: nn.Module) -> MethodName:
    """Return the method of an input's kind where none is named: the first, or occlusion for texts whose network has no
    embeddings that gradients could be taken of."""
    if kind == "text" and not any(isinstance(module, nn.Embedding) for module in network.modules()):
        return "occlusion"
    return next(iter(METHODS[kind]))


def unit(name: MethodName, spec: DataSpec) -> str:
    """Return what the values of a method are measured in; '' where their order alone means something.

    Args:
        name: of the method.
        spec: says what the run predicts.
    """
    classes = bool(spec.classes)
    if name in ("grad-cam", *UNSIGNED):
        return ""
    if name == "tree-shap" and spec.target.kind == "single_label" and spec.num_classes > 2:
        return "raw score of the class"
    if name in ("integrated-gradients", "tree-shap") and classes:
        return "log-odds"
    if name == "integrated-gradients":
        return "standard deviations of the training's targets"
    return "probability" if classes else "the number's own unit"
