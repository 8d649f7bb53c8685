"""Searches that ask for a candidate's score and are told it: ``ask()`` and ``tell(candidate, score)``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
