from .base import Task as Task
from .classification import Classification as Classification
from .image_classification import ImageClassification as ImageClassification
from .text_classification import TextClassification as TextClassification
