"""The formats that a run can leave in: what each of their modules offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from src.configs.export import FormatName
from src.deploy.graph import Exportable
from src.deploy.parity import Answer


class Format(Protocol):
    """One format: a module of this package."""

    @property
    def FILE(self) -> str:
        """Name of the model's file or folder."""
        ...

    @property
    def NEEDS(self) -> Sequence[str]:
        """Distributions that run it, besides those of the preparation."""
        ...

    @property
    def NOT_COVERED(self) -> Sequence[str]:
        """What its certificate does not cover."""
        ...

    @property
    def CANNOT_RUN(self) -> str:
        """Why the format cannot run on this machine, '' where it can."""
        ...

    def write(self, graph: Exportable, batches: Sequence[Mapping[str, Tensor]], folder: Path) -> dict[str, Any]:
        """Write a graph and return what the certificate says of it: which batches it takes, bytes, inputs and outputs.

        Args:
            graph: in evaluation mode.
            batches: of each preparation a batch of two or more, which the exporter traces.
            folder: gets `FILE`.

        Raises:
            InputError: the library is not installed, or the format cannot take the graph.
        """
        ...

    def answerer(self, folder: Path, threads: int) -> Answer:
        """Return what answers for a batch by the export in a folder.

        Args:
            folder: with the certificate.
            threads: that share the work of one batch; 0 for as many as the library takes by itself.
        """
        ...


def format_of(name: FormatName) -> Format:
    """Return a format by its name."""
    from src.deploy import coreml_format, executorch_format, onnx_format, openvino_format, pt2_format

    match name:
        case "onnx":
            return onnx_format
        case "pt2":
            return pt2_format
        case "openvino":
            return openvino_format
        case "executorch":
            return executorch_format
        case "coreml":
            return coreml_format
