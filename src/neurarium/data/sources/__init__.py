"""Sources of sequences for meta-training: a universal machine, context trees, plain and formal ones, and mixtures."""
