from .parser import CheckFlags as CheckFlags
from .parser import Command as Command
from .parser import PredictFlags as PredictFlags
from .parser import RunFlags as RunFlags
from .parser import call as call
from .parser import fail as fail
from .parser import parse as parse
from .parser import parse_check as parse_check
