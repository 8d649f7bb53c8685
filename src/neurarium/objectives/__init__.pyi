from .quadratic import QuadraticPenalty as QuadraticPenalty
