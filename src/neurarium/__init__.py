"""Published neural-network ideas as PyTorch components, each with its paper's claim re-tested by one command.

Every room is imported on first use, so ``import neurarium`` costs next to nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
