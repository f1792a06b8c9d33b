from .base import Task as Task
from .classification import Classification as Classification
from .classification import ImageClassification as ImageClassification
