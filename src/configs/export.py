"""Choices of an export."""

from __future__ import annotations

from typing import Literal

FormatName = Literal["onnx", "pt2", "openvino", "executorch", "coreml"]
