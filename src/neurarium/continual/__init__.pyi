from .accuracy_matrix import AccuracyMatrix as AccuracyMatrix
from .anchored import AnchoredStrategy as AnchoredStrategy
from .ewc import EWC as EWC
from .l2_anchor import L2Anchor as L2Anchor
from .learn_stream import learn_stream as learn_stream
from .replay import Replay as Replay
from .strategy import Finetune as Finetune
from .strategy import Strategy as Strategy
