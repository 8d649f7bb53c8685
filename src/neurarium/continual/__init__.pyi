from .anchored import AnchoredStrategy as AnchoredStrategy
from .ewc import EWC as EWC
from .l2_anchor import L2Anchor as L2Anchor
from .strategy import Finetune as Finetune
from .strategy import Strategy as Strategy
