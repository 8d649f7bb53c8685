from . import compression as compression
from . import continual as continual
from . import data as data
from . import lab as lab
from . import layers as layers
from . import learning as learning
from . import models as models
from . import objectives as objectives
from . import probes as probes
from . import recipes as recipes
from . import speech as speech
from . import studies as studies
from . import testing as testing
from . import theory as theory
from . import training as training

__version__: str
