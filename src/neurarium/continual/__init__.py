"""Strategies for tasks that arrive one after another: ``begin_task``, ``penalty``, ``end_task``, ``predict``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
