from .contract import ContractError as ContractError
from .contract import public as public
from .learning import check_learning_rule as check_learning_rule
