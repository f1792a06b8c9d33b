"""What is exported, whatever the format: a graph, what goes along with it, and how its answers are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from src.deploy.graph import Exportable
from src.deploy.parity import Answer


class Source:
    """A run as the formats take it. A subclass is one kind of run."""

    prepares: ClassVar[bool]
    """Whether the export takes raw inputs."""
    needs: Sequence[str]
    """Distributions that an export needs besides its engine."""
    not_covered: ClassVar[Sequence[str]] = ()
    """What no certificate of such a run covers."""
    run: Path
    graph: Exportable
    traced: Sequence[Mapping[str, Tensor]]
    """Of each preparation a batch, which the exporter traces."""

    def write_beside(self, folder: Path, examples: int) -> int:
        """Write what goes along with the model, and so many worked examples; return how many there are."""
        raise NotImplementedError

    def parity(self, answer: Answer, folder: Path, name: str) -> dict[str, Any]:
        """Return what the certificate says of parity.

        Args:
            answer: of the export.
            folder: of the export.
            name: of the format.

        Raises:
            InputError: the export does not answer as the run does.
        """
        raise NotImplementedError

    def speed(self, answer: Answer) -> dict[str, Any]:
        """Return how fast the export answers for one example, against PyTorch; see `speed.in_turns`."""
        raise NotImplementedError
