"""What the seam checks leave out, each with its reason: a test counts that nothing else is left out."""

from __future__ import annotations

_NUMBERS = "takes and gives Python's numbers, names or lists alone"
_CPU = "exact or NumPy arithmetic on the host by design: no tensor goes in"
_SCHEMA = "words about types and arrows, without a tensor; SchemaModel, which gives them networks, is checked"
_SIZE = "a published size of a network that is checked at a small one"
_INNER = "is used, and checked, through {}"

EXEMPT: dict[str, str] = {
    # layers
    "ResidualBlock": "a name for any module with an output of the input's shape",
    "CosineSchedule": "a table of numbers; its layers are checked through NoProp",
    "DiffusionSchedule": "a table of numbers; its layers are checked through NoProp",
    "draw_positions": "draws whole numbers on the CPU, for `SparseLinear` to move",
    "draw_scale_free_positions": "draws whole numbers on the CPU, for `SparseLinear` to move",
    "epsilon_density": _NUMBERS,
    "initialise_attention": "draws new values in place, as torch.nn.init does",
    "optimal_derivative": _NUMBERS,
    "uniform_derivative": _NUMBERS,
    "control_points": _NUMBERS,
    "thin_plate_matrix": _NUMBERS,
    # objectives
    "echo_state_bound": _NUMBERS,
    "class_balanced_weights": _NUMBERS,
    # models
    "BoundForecaster": _INNER.format("NiNo and WeightNowcast"),
    "Forecaster": "a base; NiNo and WeightNowcast are checked",
    "LogMelStatistics": "an extractor of waves on the CPU; a FrozenEncoder around it moves features",
    "SentenceEncoder": "wraps sentence-transformers, which chooses its device",
    "TextHasher": "takes texts",
    "feature_extractor": _NUMBERS,
    "load_released": "reads a file",
    "load_timm_cspnet": "copies weights by name; its own oracle loads some",
    "load_released_resmlp": "copies weights by name; its own oracle loads some",
    "csp_darknet53": _SIZE,
    "csp_densenet": _SIZE,
    "csp_resnet50": _SIZE,
    "csp_resnext50": _SIZE,
    "darknet53": _SIZE,
    "resmlp_b24": _SIZE,
    "resmlp_s12": _SIZE,
    "resmlp_s24": _SIZE,
    "resmlp_s36": _SIZE,
    "mamba_ladder": _NUMBERS,
    "plain_mlp": "makes a network of torch's layers",
    "reset": "draws new values in place, as torch.nn.init does",
    "take": _INNER.format("extract and sliced"),
    "Arrow": _SCHEMA,
    "Pairing": _SCHEMA,
    "Path": _SCHEMA,
    "Product": _SCHEMA,
    "Projection": _SCHEMA,
    "Schema": _SCHEMA,
    "Type": _SCHEMA,
    "autoencoder_schema": _SCHEMA,
    "cycle_gan": _SCHEMA,
    "identity": _SCHEMA,
    "pair": _SCHEMA,
    "product_task": _SCHEMA,
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
    "compare_errors": _NUMBERS,
    "early_stop": _NUMBERS,
    "UnitCorrelation": _INNER.format("unit_correlations"),
    "MonotonicClassifier": "scikit-learn's own contract holds it",
    "MonotonicRegressor": "scikit-learn's own contract holds it",
    "cosine_momentum": _NUMBERS,
    "KANPruning": "compresses networks of KAN layers alone, on which its own oracles hold it",
    "TimeSeriesClassifier": "scikit-learn's own contract holds it",
    "KANClassifier": "scikit-learn's own contract holds it",
    "KANRegressor": "scikit-learn's own contract holds it",
    "learning_rate_law": _NUMBERS,
    "law_over_seeds": _NUMBERS,
    "loss_around_run": "loss_on_plane in directions that it computes; that one is checked",
    "maximal_learning_rate": "trains networks that it makes; the maximal-lr study runs it on the second device",
    "neuron_rank_shift": "compares results of neuron_similarity, which is checked",
    # theory
    "random_machine": _NUMBERS,
    "safe_steps": _NUMBERS,
    "critical_dilution": _NUMBERS,
    "critical_count": _NUMBERS,
    "few_shot_bound": _NUMBERS,
    "finite_hypothesis_bound": _NUMBERS,
    "no_free_lunch_bound": _NUMBERS,
    "collapse_geometry": _CPU,
    "DeepLinearUFM": "a model of unconstrained features whose inputs are its own parameters",
    "critical_load": _NUMBERS,
    "asymptotic_output_law": _NUMBERS,
    "permutation_output_law": _NUMBERS,
    "required_ensemble_size": _NUMBERS,
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
    "EarlyStoppingN2N": "N2N with another training of its students; N2N is checked, and the n2n study runs both",
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
    "ShrinkPolicy": "draws and scores actions for LayerShrinkSearch, which is checked",
}
"""Component -> why it has no seam checks."""

_IN_PLACE = "changes the network that it is given, by design"
_STEPS = "its example takes a step of an optimizer"
_WHOLE = "whole numbers go in, so float32 comes out"
_TYPED = "draws in the type of the weights, so float64 draws others"
_DRAWS = "makes layers, whose first values torch draws"

CHECKS_EXEMPT: dict[tuple[str, str], str] = {
    **{(name, "inputs untouched"): _IN_PLACE for name in (
        "rezero_", "LowRankFineTuning", "NeuronFineTuning", "train_students", "train_hopeful_students",
        "retrain_classifier", "GridSchedule", "update_grids", "train_kan", "BasisSelection",
        "retrain_classifier", "fit_rbm", "pretrain_layers",
        "retrain_classifier", "train_time_series",
    )},
    **{(name, "inputs untouched"): _STEPS for name in (
        "GradientNoise", "WeightMirror", "PAMAdam", "PAMAdamW", "PAMSGD", "SignDescent", "TrajectoryRecorder",
        "Nowcaster",
    )},
    **{(name, "double precision"): _WHOLE for name in (
        "normalized_adjacency", "alignment_graph", "ctc_graph", "estimate_transitions", "label_loop_graph",
        "silence_graph", "join_words",
    )},
    **{(name, "double precision"): _TYPED for name in (
        "SparseEvolution", "random_sparse", "sparse_layers", "NoisySynapses", "fit_heads",
    )},
    **{(name, "random state"): _DRAWS for name in (
        "mamba_student", "plain_student", "recurrent_student", "small_student", "LabelledMemory", "boost_head",
        "fit_heads", "train_students", "train_hopeful_students", "LayerRemovalSearch", "LayerShrinkSearch",
        "ActorCriticRemovalSearch", "ActorCriticShrinkSearch", "retrain_classifier",
    )},
    ("VisualMemory", "deepcopy"): "holds a database connection; its save(path) writes a copy",
    ("VisualMemory", "torch.save of the whole"): "holds a database connection; its save(path) writes it",
    ("TableStandardizer", "double precision"): "gives single precision by design, from sums in double",
    ("multiplication_report", "second device"): "counts the operations that a device runs, which differ",
    ("multiplication_report", "double precision"): "counts the operations that a device runs, which differ",
}  # fmt: skip
"""(component, check) -> why this one does not apply."""
