from .blocks import cut_at as cut_at
from .blocks import find_blocks as find_blocks
from .rule import Backprop as Backprop
from .rule import LearningRule as LearningRule
from .gradient_noise import GradientNoise as GradientNoise
from .dfa import DirectFeedbackAlignment as DirectFeedbackAlignment
from .dfa import Shallow as Shallow
from .feedback_alignment import FeedbackAlignment as FeedbackAlignment
