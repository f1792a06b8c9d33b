from .checkpoints import Checkpoints as Checkpoints
from .checkpoints import WholeCheckpointIO as WholeCheckpointIO
from .epoch_lines import EpochLines as EpochLines
from .evaluation import Evaluation as Evaluation
from .finite_loss import FiniteLoss as FiniteLoss
from .graceful_stop import GracefulStop as GracefulStop
from .graceful_stop import Interrupted as Interrupted
from .training_pictures import TrainingPictures as TrainingPictures
