"""How each idea is applied to a person's own supervised problem, and the knobs it has; see `recipe` to add one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
