from .distillation import distillation_loss as distillation_loss
from .echo_state import echo_state_bound as echo_state_bound
from .entropy import prediction_entropy as prediction_entropy
from .guidance import Guidance as Guidance
from .quadratic import QuadraticPenalty as QuadraticPenalty
from .similarity import linear_cka as linear_cka
from .similarity import rsa as rsa
from .taps import Taps as Taps
