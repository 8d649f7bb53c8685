"""The ground: a small training loop, and what every room does to somebody's network.

Batches in the forms that loaders give them, modes and states put back, modules chosen by name, the graph behind a
tensor, the all-reduce, bytes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
