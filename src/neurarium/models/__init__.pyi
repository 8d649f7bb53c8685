from .causal_transformer import CausalTransformer as CausalTransformer
from .deep_mlp import DeepMlp as DeepMlp
from .deep_mlp import Highway as Highway
from .denoising_block import DenoisingBlock as DenoisingBlock
from .one_neuron import OneNeuronNet as OneNeuronNet
from .plain_mlp import plain_mlp as plain_mlp
from .wide_resnet import WideResNet as WideResNet
