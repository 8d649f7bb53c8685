"""Learning rules: ``rule.assign_credit(x, y)`` fills ``.grad`` and returns the detached loss."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
