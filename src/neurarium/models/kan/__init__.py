"""Networks of Kolmogorov-Arnold layers: training, formulas, estimators."""
