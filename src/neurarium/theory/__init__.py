"""What can be computed about networks without training one: order parameters, phase diagrams, bounds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
