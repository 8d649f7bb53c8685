from .loop import accuracy as accuracy
from .loop import evaluate as evaluate
from .loop import fit as fit
