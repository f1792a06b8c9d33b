from .classification import Classification as Classification
from .image_classification import ImageClassification as ImageClassification
from .regression import OUTPUTS as OUTPUTS
from .regression import Regression as Regression
from .tabular_classification import TabularClassification as TabularClassification
from .task import Task as Task
from .text_classification import TextClassification as TextClassification
