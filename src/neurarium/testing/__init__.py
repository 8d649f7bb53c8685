"""The contracts as checks: every public component of a room is held to its room's; yours can be too.

``check_learning_rule(MyRule)`` raises `ContractError` with one sentence that says what the contract wants.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
