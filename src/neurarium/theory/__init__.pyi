from .two_oracles import Oracle as Oracle
from .two_oracles import expected_distance as expected_distance
