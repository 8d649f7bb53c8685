"""What the seam checks leave out, each with its reason: a test counts that nothing else is left out."""

from __future__ import annotations

_NUMBERS = "takes and gives Python's numbers, names or lists alone"
_CPU = "exact or NumPy arithmetic on the host by design: no tensor goes in"
_INNER = "is used, and checked, through {}"

EXEMPT: dict[str, str] = {
    # layers
    "ResidualBlock": "a name for any module with an output of the input's shape",
    "CosineSchedule": "a table of numbers; its layers are checked through NoProp",
    "DiffusionSchedule": "a table of numbers; its layers are checked through NoProp",
    "draw_positions": "draws whole numbers on the CPU, for `SparseLinear` to move",
    "epsilon_density": _NUMBERS,
    "initialise_attention": "draws new values in place, as torch.nn.init does",
    "optimal_derivative": _NUMBERS,
    "uniform_derivative": _NUMBERS,
    # objectives
    "echo_state_bound": _NUMBERS,
    # models
    "BoundForecaster": _INNER.format("NiNo and WeightNowcast"),
    "Forecaster": "a base; NiNo and WeightNowcast are checked",
    "LogMelStatistics": "an extractor of waves on the CPU; a FrozenEncoder around it moves features",
    "SentenceEncoder": "wraps sentence-transformers, which chooses its device",
    "TextHasher": "takes texts",
    "feature_extractor": _NUMBERS,
    "load_released": "reads a file",
    "mamba_ladder": _NUMBERS,
    "plain_mlp": "makes a network of torch's layers",
    "reset": "draws new values in place, as torch.nn.init does",
    "take": _INNER.format("extract and sliced"),
    # learning
    "Forecast": "a protocol",
    "Predictor": "a protocol",
    "GradientBoostedNetworkClassifier": "scikit-learn's interface: NumPy arrays on the CPU",
    "GradientBoostedNetworkRegressor": "scikit-learn's interface: NumPy arrays on the CPU",
    "cycle_sizes": _NUMBERS,
    "growing_sizes": _NUMBERS,
    "shrinking_sizes": _NUMBERS,
    "horizon_schedule": _NUMBERS,
    "fit_forecaster": "meta-training on recorded runs; the nino study runs it on the second device",
    # probes
    "early_stop": _NUMBERS,
    "learning_rate_law": _NUMBERS,
    "loss_around_run": "loss_on_plane in directions that it computes; that one is checked",
    "maximal_learning_rate": "trains networks that it makes; the maximal-lr study runs it on the second device",
    "neuron_rank_shift": "compares results of neuron_similarity, which is checked",
    # theory
    "critical_dilution": _NUMBERS,
    "critical_load": _NUMBERS,
    "examples_needed": _NUMBERS,
    "expected_distance": _NUMBERS,
    "multitasking_overlaps": _NUMBERS,
    "order_parameter_dynamics": _CPU,
    "simulate": _CPU,
    # speech
    "blank_drift": _NUMBERS,
    "collapse": _NUMBERS,
    "edit_distance": _NUMBERS,
    "label_error_rate": _NUMBERS,
    "simulated_words": "makes data on the CPU",
    "uniform_alignment": _NUMBERS,
    # continual
    "ApproximateIndex": "faiss on the CPU, behind VisualMemory",
    "VectorStore": "vectors in memory or on disk, behind VisualMemory",
    "learn_stream": "runs a strategy; each strategy is checked, and the studies run it on the second device",
    # compression
    "find_ticket": "runs a user's training; LotteryTicket is checked, and the study runs it on the second device",
    "greedy_generate": _INNER.format("its own oracles: it needs a nested language model"),
    "self_speculative_generate": _INNER.format("its own oracles: it needs a nested language model"),
    "milliseconds": "a stopwatch",
    "neft": "runs a user's training; NeuronFineTuning is checked",
    "select": _NUMBERS,
    # search
    "ActorCritic": _INNER.format("ActorCriticRemovalSearch"),
    "ArchitectureSearch": "a base; its searches are checked",
    "Reinforce": _INNER.format("LayerRemovalSearch"),
    "compression_reward": _NUMBERS,
    "student_reward": _NUMBERS,
    "tolerance": _NUMBERS,
}
"""Component -> why it has no seam checks."""

CHECKS_EXEMPT: dict[tuple[str, str], str] = {}
"""(component, check) -> why this one does not apply."""
