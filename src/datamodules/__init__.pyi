from . import drawn as drawn
from .base import DataModule as DataModule
from .base import Found as Found
from .batches import Batches as Batches
from .cats_dogs import CatsDogs as CatsDogs
from .image_folder import ImageFolder as ImageFolder
from .tensors import Tensors as Tensors
