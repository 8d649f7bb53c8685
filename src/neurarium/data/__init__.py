"""Data as plain tensors: ``load(name_or_path) -> Split``, batches, and streams of tasks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
