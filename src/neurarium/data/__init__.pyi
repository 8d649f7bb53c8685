from .arrays import Arrays as Arrays
from .arrays import Batches as Batches
from .arrays import Split as Split
