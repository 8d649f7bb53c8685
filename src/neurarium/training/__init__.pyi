from .distributed import all_reduce_gradients as all_reduce_gradients
from .distributed import broadcast_state as broadcast_state
from .loop import accuracy as accuracy
from .loop import evaluate as evaluate
from .loop import fit as fit
from .memory import live_bytes as live_bytes
from .memory import peak_bytes as peak_bytes
from .memory import saved_bytes as saved_bytes
