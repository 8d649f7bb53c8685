"""Smaller networks from trained ones: ``compress(model, loader) -> model`` and an account of what was saved."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
