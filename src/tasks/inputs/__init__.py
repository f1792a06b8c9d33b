"""What goes into a network."""

from src.tasks.inputs.image import ImageInput
from src.tasks.inputs.input import Batch, Input
from src.tasks.inputs.plain import PlainInput
from src.tasks.inputs.table import TableInput
from src.tasks.inputs.text import TextInput

__all__ = ["Batch", "ImageInput", "Input", "PlainInput", "TableInput", "TextInput"]
