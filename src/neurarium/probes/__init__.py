"""Measurements of models: pure functions that return a frozen dataclass with ``summary()`` and ``plot(ax)``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
