"""How each component is used, for the seam checks: one line each, a function of a `World`.

Modules give the module and its inputs; everything else is used once and gives what came out. Layers, rules, strategies
and compressors need no line. What takes a ``generator`` is given one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium import compression, continual, layers, learning, models, objectives, probes, search, speech, theory
from neurarium.data import LabelTree
from neurarium.testing.world import World

W = World


def seed() -> torch.Generator:
    """A generator in a known state."""
    return torch.Generator().manual_seed(0)


def graph(w: World) -> speech.AlignmentGraph:
    """The CTC graph of two short targets."""
    return speech.ctc_graph(w.whole([1, 2], [2, 2]), w.whole(2, 2))


def pixels(w: World) -> nn.Module:
    """A network with two hidden layers."""
    return w.mlp(8, 10, 10, 3)


def memory(w: World) -> learning.HebbianMemory:
    """Three patterns of 20 neurons."""
    return learning.HebbianMemory(20).to(w.device, w.dtype).store(w.spins(3, 20))


def teacher_student(w: World) -> theory.TeacherStudent:
    """Any start of the equations."""
    return theory.TeacherStudent(w.x(2, 2).numpy(), w.x(2).numpy(), w.x(2, 2).numpy(), w.x(2).numpy(), w.x(2).numpy())


def answers(w: World) -> compression.Answers:
    """What a teacher says."""
    return compression.ask_teacher(pixels(w), w.batches())


MODULES: dict[str, Callable[[World], tuple[nn.Module, tuple[Any, ...]]]] = {
    "ARMARNN": lambda w: (models.ARMARNN(4, 6, 3, 1, 1), (w.x(2, 5, 4),)),
    "CausalTransformer": lambda w: (models.CausalTransformer(11, 8, 2, 2, 16), (w.whole([1, 2, 3], [4, 5, 6]),)),
    "ConceptSubspaceNetwork": lambda w: (
        models.ConceptSubspaceNetwork(nn.Linear(8, 8), 4, {"a": 2, "b": 3}), (w.x(5, 8),),
    ),
    "DeepMlp": lambda w: (models.DeepMlp(8, 3, 16, 4), (w.x(5, 8),)),
    "FrozenEncoder": lambda w: (models.FrozenEncoder(nn.Linear(8, 4)), (w.x(5, 8),)),
    "Highway": lambda w: (models.Highway(nn.Linear(8, 8), 8), (w.x(5, 8),)),
    "MambaClassifier": lambda w: (models.MambaClassifier(14), (w.x(2, 14, 14),)),
    "MemoryNetwork": lambda w: (
        models.MemoryNetwork(9, 6, 2, 3), (w.whole([[1, 2], [3, 4], [5, 6]], [[1, 2], [2, 4], [5, 6]]),),
    ),
    "KAN": lambda w: (models.KAN([8, 3, 2]), (w.x(5, 8),)),
    "MonotonicNet": lambda w: (models.MonotonicNet([1, -1, 0, 0, 0, 0, 0, 1], (16,)), (w.x(5, 8),)),
    "MomentumEncoder": lambda w: (objectives.MomentumEncoder(nn.Linear(8, 4)), (w.x(5, 8),)),
    "OneNeuronNet": lambda w: (models.OneNeuronNet(3, 0.5), (w.x(5, 1),)),
    "RBM": lambda w: (models.RBM(8, 4), (w.positive(5, 8),)),
    "WideResNet": lambda w: (models.WideResNet(10, 1), (w.x(2, 3, 8, 8),)),
    "GradientBoostedHead": lambda w: (learning.GradientBoostedHead(8, 3, units=4), (w.x(5, 8),)),
    "AnytimeEnsemble": lambda w: (
        compression.AnytimeEnsemble([nn.Linear(8, 3), nn.Linear(8, 3)], [1.0, 0.5], [48, 48]), (w.x(5, 8),),
    ),
    "BranchedNet": lambda w: (compression.BranchedNet(nested(), torch.randn(2, 8)), (w.x(5, 8),)),
    "SlimmableNet": lambda w: (compression.SlimmableNet(nested(), torch.randn(2, 8)), (w.x(5, 8),)),
    "SortedNet": lambda w: (compression.SortedNet(nested(), torch.randn(2, 8)), (w.x(5, 8),)),
    "ClassOfStudents": lambda w: (
        compression.ClassOfStudents([nn.Linear(8, 2), nn.Linear(8, 2)], torch.eye(4), torch.zeros(4), nn.Linear(4, 3)),
        (w.x(5, 8),),
    ),
    "RecurrentStudent": lambda w: (compression.RecurrentStudent(8, 3, 4), (w.x(5, 6, 8),)),
    "RowLinear": lambda w: (compression.RowLinear(nn.Linear(8, 6), torch.tensor([0, 2])), (w.x(5, 8),)),
    "Critic": lambda w: (search.Critic(5, 4), (w.x(6, 5), w.positive(2, 6).round())),
    "RemovalPolicy": lambda w: (search.RemovalPolicy(5, 4), (w.x(6, 5),)),
    "UnidirectionalRemovalPolicy": lambda w: (search.UnidirectionalRemovalPolicy(5, 4), (w.x(6, 5),)),
    "FullSumLoss": lambda w: (speech.FullSumLoss(), aligned(w)),
    "GenerativeFullSumLoss": lambda w: (speech.GenerativeFullSumLoss(), aligned(w)),
    "BiasModel": lambda w: (speech.BiasModel(4), (symbols(w),)),
    "BlstmModel": lambda w: (speech.BlstmModel(5, 4, 6), (symbols(w),)),
    "MemoryModel": lambda w: (speech.MemoryModel(3, 4), (symbols(w),)),
    "SymbolLikelihood": lambda w: (speech.SymbolLikelihood(5, 4), (symbols(w),)),
    "SymbolModel": lambda w: (speech.SymbolModel(5, 4), (symbols(w),)),
    "SymbolOddsModel": lambda w: (speech.SymbolOddsModel(5), (symbols(w) % 2,)),
}  # fmt: skip


def aligned(w: World) -> tuple[Tensor, ...]:
    """Log-probabilities, targets and lengths, as `torch.nn.CTCLoss` takes them."""
    return w.logp(6, 2, 4), w.whole([1, 2], [2, 2]), w.whole(6, 6), w.whole(2, 2)


def symbols(w: World) -> Tensor:
    """Two utterances of three symbols."""
    return w.whole([0, 1, 4], [2, 3, 1])


def nested() -> nn.Module:
    """A network whose members can be cut out."""
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


EXAMPLES: dict[str, Callable[[World], Any]] = {
    # layers
    "basis_linear": lambda w: based(w),
    "alphas": lambda w: layers.alphas(w.new(lambda: layers.ReZero(nn.Linear(8, 8)))),
    "bitwise": lambda w: bits(w).model(w.x(5, 8)),
    "bit_layers": lambda w: [x for _, _, x in layers.bit_layers(bits(w).model)],
    "to_dense": lambda w: layers.to_dense(bits(w).model)(w.x(5, 8)),
    "to_integers": lambda w: layers.to_integers(bits(w).model),
    "cumulative_sum_product": lambda w: layers.cumulative_sum_product(w.x(6, 3, 2, 2)),
    "few_bit_activation": lambda w: layers.few_bit_activation(
        w.x(20), nn.functional.gelu, w.x(3).sort().values, w.x(4)
    ),
    "linear_maps": lambda w: [m.weight for m in layers.linear_maps(pixels(w)).values()],
    "normalized_adjacency": lambda w: layers.normalized_adjacency(w.whole([0, 1, 2], [1, 2, 0]), 3),
    "pack_bits": lambda w: layers.pack_bits(w.whole(1, 0, 1, 1, 0).to(torch.uint8), 1),
    "unpack_bits": lambda w: layers.unpack_bits(layers.pack_bits(w.whole(1, 0, 3, 1).to(torch.uint8), 2), 2, 4),
    "parameter_groups": lambda w: layers.parameter_groups(w.new(lambda: layers.ReZero(nn.Linear(8, 8))), 0.1),
    "retanh": lambda w: layers.retanh(w.x(5)),
    "rezero_": lambda w: layers.rezero_(
        w.new(lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True)))
    ).model(w.x(2, 3, 8)),
    "selective_scan": lambda w: layers.selective_scan(
        w.x(2, 5, 3), w.positive(2, 5, 3), -w.positive(3, 4), w.x(2, 5, 4), w.x(2, 5, 4), w.x(3)
    ),
    "soft_topk": lambda w: layers.soft_topk(w.x(4, 7), 3, eps=0.05),
    "sparsify": lambda w: layers.sparsify(pixels(w), 1.0).model(w.x(5, 8)),
    "swap": lambda w: layers.swap(pixels(w), nn.ReLU, lambda name, module: nn.Tanh()).model(w.x(5, 8)),
    "to_piecewise_affine": lambda w: layers.to_piecewise_affine(pixels(w)).model(w.x(5, 8)),
    # objectives
    "HeadInput": lambda w: head_input(w),
    "FeatureLoss": lambda w: feature_loss(w),
    "LDAM": lambda w: objectives.LDAM([5, 3, 2]).to(w.device, w.dtype)(w.x(12, 3), w.y()),
    "LogitAdjustment": lambda w: objectives.LogitAdjustment([5, 3, 2]).to(w.device, w.dtype)(w.x(12, 3), w.y()),
    "DeferredReweighting": lambda w: objectives.DeferredReweighting([5, 3, 2], start=0).to(w.device, w.dtype)(
        w.x(12, 3), w.y()
    ),
    "FeatureDecay": lambda w: objectives.FeatureDecay(0.1, 12).to(w.device, w.dtype)(w.x(12, 3)),
    "NeuralCollapseRegularizer": lambda w: w.put(objectives.NeuralCollapseRegularizer(3, 4, generator=seed()))(
        w.x(12, 4), w.y()
    ),
    "map_alignment_loss": lambda w: objectives.map_alignment_loss(w.x(2, 3, 4, 4), w.x(2, 3, 4, 4, seed=1)),
    "paste_maps": lambda w: objectives.paste_maps(w.x(2, 3, 4, 4), w.x(2, 3, 2, 2), 1, 1),
    "shift_maps": lambda w: objectives.shift_maps(w.x(2, 3, 4, 4), 1, -1),
    "zoom_maps": lambda w: objectives.zoom_maps(w.x(2, 3, 4, 4), 1.5),
    "Guidance": lambda w: guided(w),
    "Taps": lambda w: tapped(w),
    "QuadraticPenalty": lambda w: quadratic(w),
    "distillation_loss": lambda w: objectives.distillation_loss(w.x(12, 3), w.x(12, 3, seed=1), w.y()),
    "info_nce": lambda w: objectives.info_nce(w.x(9, 4), w.x(9, 4, seed=1)),
    "lift_to_views": lambda w: objectives.lift_to_views(w.positive(3), 4),
    "linear_cka": lambda w: objectives.linear_cka(w.x(9, 4), w.x(9, 3, seed=1)),
    "logit_mse": lambda w: objectives.logit_mse(w.x(5, 3), w.x(5, 3, seed=1)),
    "prediction_entropy": lambda w: objectives.prediction_entropy(w.x(5, 3)),
    "response_labels": lambda w: objectives.response_labels(w.whole([1, 2, 3], [4, 5, 6]), w.whole(1, 2)),
    "response_loss": lambda w: objectives.response_loss(w.x(2, 4, 5), w.whole([-100, 1, 2, 3], [-100, -100, 1, 2])),
    "rsa": lambda w: objectives.rsa(w.x(9, 4), w.x(9, 3, seed=1)),
    "soft_cross_entropy": lambda w: objectives.soft_cross_entropy(w.x(5, 3), w.x(5, 3, seed=1)),
    "subspace_alignment": lambda w: objectives.subspace_alignment(
        torch.linalg.qr(w.x(6, 2))[0], torch.linalg.qr(w.x(6, 2, seed=1))[0]
    ),
    # models
    "NiNo": lambda w: forecast(w, w.new(lambda: models.NiNo(3, 2, 8, 1))),
    "WeightNowcast": lambda w: forecast(w, w.new(lambda: models.WeightNowcast(3, 2, 8))),
    "DenoisingBlock": lambda w: denoised(w),
    "TableStandardizer": lambda w: standardized(w),
    "describe": lambda w: models.describe(pixels(w), w.x(2, 8)),
    "extract": lambda w: models.extract(pixels(w))(w.x(5, 8)),
    "sliced": lambda w: cut_out(w),
    "neural_graph": lambda w: models.neural_graph(pixels(w)),
    "remove_layers": lambda w: models.remove_layers(pixels(w), w.x(2, 8), ["1"])(w.x(5, 8)),
    "shrink": lambda w: shrunk(w),
    "trace_architecture": lambda w: models.trace_architecture(pixels(w), w.x(2, 8)),
    # learning
    "BatchNormAdapt": lambda w: learning.BatchNormAdapt(w.classifier())(w.x(12, 8)),
    "PseudoLabel": lambda w: learning.PseudoLabel(w.classifier())(w.x(12, 8)),
    "Tent": lambda w: learning.Tent(w.classifier())(w.x(12, 8)),
    "TestTimeAdaptation": lambda w: learning.TestTimeAdaptation(w.classifier())(w.x(12, 8)),
    "NeuroModulatedHebbian": lambda w: learning.NeuroModulatedHebbian(w.classifier())(w.x(12, 8)),
    "GradientNoise": lambda w: stepped(w, lambda o: learning.GradientNoise(0.0).attach(o)),
    "PAMAdam": lambda w: optimized(w, learning.PAMAdam),
    "PAMAdamW": lambda w: optimized(w, learning.PAMAdamW),
    "PAMSGD": lambda w: optimized(w, learning.PAMSGD),
    "SignDescent": lambda w: optimized(w, learning.SignDescent),
    "HebbianMemory": lambda w: (memory(w).field(w.spins(4, 20)), labelled(w)),
    "LabelledMemory": lambda w: recalled(w),
    "NoisySynapses": lambda w: learning.NoisySynapses(memory(w), 0.1, generator=seed()).field(w.spins(4, 20)),
    "LinearNowcast": lambda w: learning.LinearNowcast(3, 2).predict(w.x(7, 3), 2),
    "Nowcaster": lambda w: nowcast(w),
    "MaxRowSum": lambda w: learning.MaxRowSum(nn.Parameter(w.x(4, 4)), 2.0).slack(),
    "Inequality": lambda w: learning.Inequality(lambda: w.x(4)).slack(),
    "PrimalDual": lambda w: constrained(w),
    "SoftHebbian": lambda w: hebbian(w),
    "WeightMirror": lambda w: mirrored(w),
    "CurriculumSampler": lambda w: list(learning.CurriculumSampler(w.positive(12), [0.5, 1.0], labels=w.y())),
    "boost_head": lambda w: learning.boost_head(pixels(w), w.batches(4), units=2)(w.x(5, 8)),
    "class_prototypes": lambda w: learning.class_prototypes(w.x(12, 8), w.y()),
    "cut_at": lambda w: cuts(w),
    "difficulty_scores": lambda w: learning.difficulty_scores(w.classifier(), w.batches()),
    "discover_archetypes": lambda w: learning.discover_archetypes(memory(w), w.spins(4, 20), generator=seed()),
    "echo_state_constraints": lambda w: [
        c.slack() for c in learning.echo_state_constraints(w.new(lambda: layers.SigmoidRNN(4, 5))).values()
    ],
    "find_blocks": lambda w: [m.weight for _, m in learning.find_blocks(pixels(w), nn.Linear)],
    "fit_heads": lambda w: boosted(w),
    "glauber": lambda w: learning.glauber(memory(w).coupling(), w.spins(4, 20), 0.1, 3, generator=seed()),
    "plefka": lambda w: learning.plefka(memory(w), w.spins(20), 0.5),
    "sign_descent_": lambda w: learning.sign_descent_(w.x(4, 4), w.x(4, 4, seed=1), 0.1),
    "soft_hebbian_update": lambda w: learning.soft_hebbian_update(w.x(4, 8), w.x(12, 8, seed=1)),
    "retrain_classifier": lambda w: learning.retrain_classifier(pixels(w), w.batches(), epochs=1, generator=seed())(
        w.x(5, 8)
    ),
    # probes
    "class_distance_normalized_variance": lambda w: probes.class_distance_normalized_variance(w.examples(), w.y()),
    "neural_collapse": lambda w: probes.neural_collapse(w.classifier(), w.batches()),
    "TrajectoryRecorder": lambda w: trajectory(w),
    "align_units": lambda w: probes.align_units(w.mlp(8, 10, 3), w.mlp(8, 10, 3, seed=1), w.x(12, 8))(w.x(5, 8)),
    "unit_correlations": lambda w: probes.unit_correlations(w.classifier(), w.classifier(seed=1), w.batches()),
    "alignment": lambda w: probes.alignment(dfa(w), w.examples(), w.y()),
    "attribute_leakage": lambda w: probes.attribute_leakage(w.examples(), w.y() % 2),
    "bit_report": lambda w: probes.bit_report(bits(w).model),
    "cka_matrix": lambda w: probes.cka_matrix(w.classifier(), w.classifier(seed=1), w.batches()),
    "concept_slope": lambda w: probes.concept_slope(
        w.x(12, 3), w.y() % 3, lambda z: z.log_softmax(1), lambda z: (2 * z).log_softmax(1)
    ),
    "degree_distribution": lambda w: probes.degree_distribution(
        w.put(layers.SparseLinear(30, 20, 0.2, generator=seed()))
    ),
    "error_consistency": lambda w: probes.error_consistency(w.x(12, 3), w.x(12, 3, seed=1), w.y()),
    "feedback_angle": lambda w: probes.feedback_angle(pepita(w)),
    "fisher_diagonal": lambda w: probes.fisher_diagonal(w.classifier(), w.batches(), generator=seed()),
    "fisher_overlap": lambda w: fishers(w),
    "forgetting_rate": lambda w: probes.forgetting_rate(w.new(lambda: nn.GRU(4, 5)), w.x(6, 2, 4), generator=seed()),
    "group_rates": lambda w: probes.group_rates(w.x(12).sign().long().clamp(0), w.y() % 2),
    "jacobian_spectrum": lambda w: probes.jacobian_spectrum(w.classifier(), w.x(3, 8), generator=seed()),
    "knn_accuracy_curve": lambda w: probes.knn_accuracy_curve(w.examples(), w.y(), w.examples(6, seed=1), w.y(6), k=3),
    "loss_along_line": lambda w: probes.loss_along_line(
        w.mlp(8, 10, 3), cross_entropy, w.batches(), w.mlp(8, 10, 3), w.mlp(8, 10, 3, seed=1), points=3
    ),
    "loss_on_plane": lambda w: probes.loss_on_plane(
        w.mlp(8, 10, 3), cross_entropy, w.batches(), *(w.mlp(8, 10, 3, seed=s) for s in range(3)), points=(2, 2)
    ),
    "memory_scaling": lambda w: probes.memory_scaling(
        w.examples(), w.y(), w.examples(6, seed=1), w.y(6), [6, 12], k=3, generator=seed()
    ),
    "mistake_cost": lambda w: probes.mistake_cost(w.y() % 2, w.y() % 4, [0, 0, 1, 1]),
    "multiplication_report": lambda w: probes.multiplication_report(lambda: pixels(w)(w.x(5, 8))),
    "neuron_output_similarity": lambda w: probes.neuron_output_similarity(
        pixels(w), w.mlp(8, 10, 10, 3, seed=1), [w.x(5, 8)]
    ),
    "neuron_overlap": lambda w: probes.neuron_overlap({"a": w.whole(0, 1)}, {"a": w.whole(1, 2)}, {"a": 4}),
    "neuron_similarity": lambda w: probes.neuron_similarity(pixels(w), w.mlp(8, 10, 10, 3, seed=1)),
    "path_spectrum": lambda w: paths(w),
    "peakiness": lambda w: probes.peakiness(w.logp(6, 2, 4), w.whole(6, 5)),
    "perturbation_curve": lambda w: perturbed(w),
    "prototype_tree": lambda w: probes.prototype_tree({"a": w.x(2, 3), "b": w.x(3, 3, seed=1)}),
    "certify": lambda w: float(
        probes.certify(w.new(lambda: models.MonotonicNet([1, 0, -1], (16,))), [1, 0, -1]).proven
    ),
    "monotonicity_violations": lambda w: probes.monotonicity_violations(
        w.mlp(8, 4, 1), w.examples(), [1, -1, 0, 0, 0, 0, 0, 1]
    ),
    "sharpness": lambda w: probes.sharpness(w.mlp(8, 4, 3), loose, w.examples(), w.y(), generator=seed()),
    # theory
    "crosstalk": lambda w: theory.crosstalk(4, w.positive(3), 0.8, 10, "supervised", "all"),
    "dataset_entropy": lambda w: theory.dataset_entropy(w.positive(3), 10),
    "energy_from_losses": lambda w: theory.energy_from_losses(w.spins(3, 20), w.spins(2, 20, seed=1)),
    "loss_from_overlap": lambda w: theory.loss_from_overlap(w.positive(3)),
    "multitasking_step": lambda w: theory.multitasking_step(w.positive(3), 0.2, 0.1),
    "one_step_overlap": lambda w: theory.one_step_overlap(4, w.positive(3)),
    "overlap_from_loss": lambda w: theory.overlap_from_loss(w.positive(3)),
    "phase_of": lambda w: theory.phase_of(w.positive(3)),
    "phase_diagram": lambda w: theory.phase_diagram(2, 0.1 * w.positive(2), 0.1 * w.positive(2, seed=1)),
    "replica_symmetric": lambda w: theory.replica_symmetric(2, 0.1 * w.positive(2), 0.1),
    "retrieval_losses": lambda w: theory.retrieval_losses(w.spins(20), w.spins(20, seed=1)),
    # speech
    "alignment_graph": lambda w: speech.alignment_graph("ctc", w.whole([1, 2], [2, 2]), w.whole(2, 2)),
    "best_path_loss": lambda w: speech.best_path_loss(w.logp(6, 2, 4), graph(w)),
    "bigram_viterbi": lambda w: speech.bigram_viterbi(w.logp(2, 6, 4), w.positive(4, 4)),
    "ctc_graph": lambda w: graph(w),
    "estimate_transitions": lambda w: speech.estimate_transitions(w.whole([0, 1, 2, 1], [1, 1, 0, 2]), 3),
    "exact_occupation": lambda w: speech.exact_occupation(graph(w), 4, 3),
    "count": lambda w: speech.count(graph(w), 4),
    "label_counts": lambda w: torch.as_tensor(speech.label_counts(graph(w), 4, 3).astype(float)),
    "first_step": lambda w: speech.first_step(w.logp(6, 2, 4), w.whole([1, 2], [2, 2]), target_lengths=w.whole(2, 2)),
    "frame_error_rate": lambda w: speech.frame_error_rate(w.whole([0, 1, 2]), w.whole([0, 1, 1])),
    "phone_error_rate": lambda w: speech.phone_error_rate(w.whole([0, 1, 2]), w.whole([0, 1, 1])),
    "full_sum": lambda w: speech.full_sum(w.logp(6, 2, 4), graph(w)),
    "greedy_labels": lambda w: speech.greedy_labels(w.logp(6, 2, 4)),
    "join_words": lambda w: speech.join_words([w.x(7, 3), w.x(5, 3, seed=1)], w.whole(1, 2), 2, generator=seed()),
    "label_loop_graph": lambda w: speech.label_loop_graph(w.whole([1, 2], [2, 2]), w.whole(2, 2)),
    "log_mel": lambda w: speech.log_mel(w.x(4000), 8000),
    "log_prior": lambda w: speech.log_prior(w.logp(6, 2, 4), w.whole(6, 5)),
    "occupation": lambda w: speech.occupation(w.logp(6, 2, 4), graph(w)),
    "sample": lambda w: speech.sample(w.logp(6, 2, 4), graph(w), n=2, generator=seed()),
    "shortest": lambda w: speech.shortest(graph(w)),
    "silence_graph": lambda w: speech.silence_graph(w.whole([1, 2], [2, 2]), w.whole(2, 2)),
    "viterbi": lambda w: speech.viterbi(w.logp(6, 2, 4), graph(w)),
    # continual
    "StreamClassifier": lambda w: stream(w),
    "updated_availability": lambda w: continual.updated_availability(w.positive(5), w.positive(5, seed=1)),
    # compression
    "KnowledgeConcentration": lambda w: concentrated(w),
    "LotteryTicket": lambda w: compression.LotteryTicket(pixels(w)).report(),
    "LowRankFineTuning": lambda w: compression.LowRankFineTuning(pixels(w), 2, generator=seed()).model(w.x(5, 8)),
    "Masks": lambda w: compression.Masks(compression.prunable(pixels(w))).density,
    "NeuronFineTuning": lambda w: tuned_neurons(w),
    "SparseEvolution": lambda w: evolved(w),
    "account": lambda w: compression.account(w.classifier(), w.x(2, 8)).flops,
    "activation_neurons": lambda w: compression.activation_neurons(w.classifier(), [w.x(9, 8)], [w.x(9, 8, seed=1)]),
    "ask_teacher": lambda w: compression.ask_teacher(w.classifier(), w.batches()),
    "calibrate": lambda w: list(compression.calibrate(gelu_net(w), w.batches())),
    "convert_activations": lambda w: compression.convert_activations(gelu_net(w), example=w.x(3, 8)).model(w.x(5, 8)),
    "gradient_neurons": lambda w: gradient_neurons(w),
    "judge": lambda w: compression.judge(pixels(w), answers(w)),
    "largest": lambda w: compression.largest(w.x(9), 3, w.x(9) > -1),
    "mamba_student": lambda w: compression.mamba_student(
        0.5, w.x(1, 28, 28), 3, 2_000_000
    ).to(w.dtype)(w.x(2, 28, 28)).shape,
    "operations": lambda w: compression.operations(pixels(w), w.x(2, 8)),
    "plain_student": lambda w: compression.plain_student(0.5, w.x(1, 8).float(), 3, 2000)(w.x(2, 8).float()).shape,
    "prunable": lambda w: compression.prunable(pixels(w)),
    "random_neurons": lambda w: compression.random_neurons(pixels(w), generator=seed()),
    "random_sparse": lambda w: compression.random_sparse(pixels(w), density=0.5, generator=seed()).model(w.x(5, 8)),
    "record": lambda w: compression.record(w.classifier(), w.batches()),
    "recurrent_student": lambda w: w.put(compression.recurrent_student((6, 8), 3, 500))(w.x(2, 6, 8)).shape,
    "sensitive_neurons": lambda w: compression.sensitive_neurons(pixels(w), w.mlp(8, 10, 10, 3, seed=1)),
    "small_student": lambda w: w.put(compression.small_student((8,), 3, 200))(w.x(2, 8)).shape,
    "sparse_layers": lambda w: [
        layer.values for _, layer in compression.sparse_layers(
            compression.random_sparse(pixels(w), density=0.5, generator=seed()).model
        )
    ],
    "store": lambda w: stored(w),
    "read": lambda w: stored(w),
    "NeuronSet": lambda w: compression.random_neurons(pixels(w), generator=seed()),
    "capacity": lambda w: compression.capacity(bits(w, trainable=1).model),
    "train_students": lambda w: compression.train_students([pixels(w)], answers(w), epochs=1),
    "train_hopeful_students": lambda w: compression.train_hopeful_students(
        [pixels(w)], answers(w), answers(w), epochs=2
    ),
    "vertical_precision": lambda w: compression.vertical_precision(w.x(12, 4), w.y() % 4, tree()),
    # search
    "LayerRemovalSearch": lambda w: searched(w, search.LayerRemovalSearch),
    "LayerShrinkSearch": lambda w: searched(w, search.LayerShrinkSearch),
    "ActorCriticRemovalSearch": lambda w: searched(w, search.ActorCriticRemovalSearch),
    "ActorCriticShrinkSearch": lambda w: searched(w, search.ActorCriticShrinkSearch),
}  # fmt: skip
"""Component's name -> one use of it."""


def guided(w: World) -> Tensor:
    """One guided loss."""
    model = pixels(w)
    with objectives.Guidance(model, w.mlp(8, 6, 6, 3, seed=1)) as guidance:
        model(w.x(16, 8))
        return guidance.penalty()


def tapped(w: World) -> dict[str, Tensor]:
    """Outputs of all layers."""
    model = pixels(w)
    with objectives.Taps(model) as taps:
        model(w.x(5, 8))
        return dict(taps.outputs)


def quadratic(w: World) -> Tensor:
    """A spring on every parameter."""
    parameters = {name: p.detach() for name, p in pixels(w).named_parameters()}
    penalty = objectives.QuadraticPenalty().to(w.device)
    penalty.add({n: torch.ones_like(p) for n, p in parameters.items()}, {n: p + 1 for n, p in parameters.items()})
    return penalty(parameters)


def forecast(w: World, forecaster: Any) -> Tensor:
    """Future states of a small network."""
    model = w.mlp(3, 4, 2)
    count = sum(p.numel() for p in model.parameters())
    return forecaster.bind(model).forecasts(w.x(1, count, 3))


def denoised(w: World) -> Any:
    """A denoised label embedding."""
    block = w.new(lambda: models.DenoisingBlock((1, 8, 8), 6, 6, channels=(4,), width=8))
    return block(w.x(2, 6), w.x(2, 1, 8, 8))


def cut_out(w: World) -> Tensor:
    """A network's output while nothing is cut."""
    with models.sliced(pixels(w)) as model:
        return model(w.x(5, 8))


def shrunk(w: World) -> Tensor:
    """A network with half the units in its first group."""
    model, example = pixels(w), w.x(2, 8)
    architecture = models.trace_architecture(model, example)
    group = next(iter(architecture.groups))
    return models.shrink(model, example, architecture, {group: 5}, {})(w.x(5, 8))


def stepped(w: World, attach: Callable[[torch.optim.Optimizer], Any]) -> list[Tensor]:
    """Weights after a step with something attached."""
    model = w.mlp(8, 4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with attach(optimizer):
        cross_entropy(model(w.examples()), w.y().long()).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def optimized(w: World, kind: Any) -> list[Tensor]:
    """Weights after a step."""
    model = w.mlp(8, 4, 3)
    optimizer = kind(model.parameters(), lr=0.125)
    model(w.examples()).square().sum().backward()
    optimizer.step()
    return [p.detach() for p in model.parameters()]


def labelled(w: World) -> Tensor:
    """The energy of a memory that learned examples with labels."""
    kept = learning.HebbianMemory(20, 4, center=True).to(w.device, w.dtype).learn(w.spins(12, 20), w.y())
    return kept.energy(w.spins(4, 20, seed=1))


def recalled(w: World) -> Any:
    """What a labelled memory makes of a probe."""
    kept = learning.LabelledMemory(20).to(w.device, w.dtype)
    return kept.store({"a": w.spins(20), "b": w.spins(20, seed=1)}).recall(w.spins(20)).state


def nowcast(w: World) -> list[Tensor]:
    """Weights after six steps and a jump."""
    model = w.mlp(8, 4, 3)
    inner = torch.optim.SGD(model.parameters(), 0.01)
    optimizer = learning.Nowcaster(inner, model, learning.LinearNowcast(3, 2), period=6, max_steps=6)
    for _ in range(6):
        if optimizer.needs_gradient:
            optimizer.zero_grad()
            model(w.examples()).square().mean().backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


def constrained(w: World) -> Any:
    """A Lagrangian after a dual step."""
    dual = learning.PrimalDual(learning.MaxRowSum(nn.Parameter(w.x(4, 4)), 0.5)).to(w.device)
    dual.dual_step()
    return dual()


def hebbian(w: World) -> Any:
    """The gradient of a Hebbian layer."""
    layer = w.mlp(8, 4)[0]
    rule = learning.SoftHebbian(layer)
    layer(w.examples())
    del rule
    return layer.weight.grad


def mirrored(w: World) -> Any:
    """Feedback after a mirror step."""
    rule = pepita(w, factored=True)
    learning.WeightMirror(rule, generator=seed()).step()
    return list(rule.buffers())


def cuts(w: World) -> list[Tensor]:
    """Outputs at the cuts of a network."""
    model = pixels(w)
    with learning.cut_at([model[1], model[3]]) as found:  # type: ignore[index]
        model(w.x(5, 8))
    return [cut.output for cut in found]


def boosted(w: World) -> Tensor:
    """A head fitted by boosting."""
    head = learning.GradientBoostedHead(8, 3, units=2, subsample=1.0).to(w.device, w.dtype)
    torch.manual_seed(0)
    learning.fit_heads([head], w.examples(), w.y())
    return head(w.x(5, 8))


def trajectory(w: World) -> Any:
    """A recorded run."""
    model = w.mlp(8, 4, 3)
    recorder = probes.TrajectoryRecorder(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with recorder.attach(optimizer):
        for _ in range(3):
            model(w.examples()).square().mean().backward()
            optimizer.step()
    return recorder.decompose().residual.tolist()


def dfa(w: World) -> Any:
    """A rule that gives signals."""
    return learning.DirectFeedbackAlignment(w.mlp(8, 10, 10, 3), loose, generator=seed()).to(w.device, w.dtype)


def pepita(w: World, **options: Any) -> Any:
    """A rule with feedback to the input."""
    return w.new(lambda: learning.Pepita(nested(), cross_entropy, **options))


def loose(output: Tensor, y: Tensor) -> Tensor:
    """A loss that takes labels of any whole kind."""
    return cross_entropy(output, y.long())


def bits(w: World, **options: Any) -> layers.Conversion:
    """A copy of a network with bits for weights."""
    return layers.bitwise(copy.deepcopy(pixels(w)), 4, generator=seed(), **options)


def standardized(w: World) -> Any:
    """Rows of a table."""
    table = models.TableStandardizer()
    table.observe(w.x(9, 3))
    return table(w.x(9, 3))


def fishers(w: World) -> Any:
    """The overlap of two Fisher diagonals."""
    both = [probes.fisher_diagonal(w.classifier(), w.batches(seed=s), generator=seed()) for s in (0, 5)]
    return probes.fisher_overlap(*both)


def paths(w: World) -> Any:
    """The gradient of a residual network by paths."""
    model = w.new(lambda: models.DeepMlp(8, 3, 8, 4))
    return probes.path_spectrum(learning.HighwayBackprop(model, loose), w.examples(), w.y())


def perturbed(w: World) -> Any:
    """Accuracy under noise."""
    model = w.classifier()
    fisher = probes.fisher_diagonal(model, w.batches(), generator=seed())
    return probes.perturbation_curve(model, fisher, w.batches(), [0.1], repeats=1, generator=seed())


def stream(w: World) -> Any:
    """Classes named by words after two batches."""
    learner = continual.StreamClassifier(nn.Flatten(), continual.NearestMeanClassifier())
    learner.partial_fit(w.examples(), w.y().tolist())
    return learner.predict_scores(w.examples(6, seed=1))


def tree() -> LabelTree:
    """Four classes under two."""
    return LabelTree({"a": ("c", "d"), "b": ("e", "f")})


def concentrated(w: World) -> Tensor:
    """The loss of a student of two teachers."""
    teachers = {"a": w.mlp(8, 4, 2), "b": w.mlp(8, 4, 2, seed=1)}
    method = compression.KnowledgeConcentration(teachers, tree())
    return method.loss(w.x(12, 4), w.examples(), w.y() % 4)


def tuned_neurons(w: World) -> Tensor:
    """A network of which some neurons are trained."""
    model = pixels(w)
    chosen = compression.random_neurons(model, fraction=0.3, generator=seed())
    return compression.NeuronFineTuning(model, chosen).model(w.x(5, 8))


def evolved(w: World) -> list[Tensor]:
    """Sparse weights after an evolution."""
    model = compression.random_sparse(pixels(w), density=0.5, generator=seed()).model
    compression.SparseEvolution(model, generator=seed()).evolve()
    return [p.detach() for p in model.parameters()]


def gelu_net(w: World) -> nn.Module:
    """A network with an activation to convert."""
    return w.put(nn.Sequential(w.mlp(8, 16)[0], nn.GELU(), w.mlp(16, 3)[0]))


def gradient_neurons(w: World) -> Any:
    """Neurons by their gradients."""
    model = pixels(w)
    return compression.gradient_neurons(model, lambda: cross_entropy(model(w.examples()), w.y().long()))


def stored(w: World) -> str:
    """Bytes put into a network's untrained bits, and read again."""
    model = bits(w, trainable=1).model
    compression.store(model, b"bytes")
    return compression.read(model).hex()


def searched(w: World, kind: Any) -> int:
    """One candidate of an architecture search."""
    found = kind(pixels(w), w.x(2, 8), 0.9)
    candidate = found.ask()
    found.tell(candidate, 0.5)
    return candidate.parameters


def based(w: World) -> Tensor:
    """One KAN product."""
    basis = w.new(lambda: layers.BSplineBasis(8))
    return layers.basis_linear(w.x(5, 8), basis, w.x(3, 8, basis(w.x(1, 8)).shape[-1]))


def head_input(w: World) -> Any:
    """What reaches the last layer."""
    model = pixels(w)
    with objectives.HeadInput(model) as head:
        model(w.x(5, 8))
        return head.features


def feature_loss(w: World) -> Tensor:
    """A loss on outputs and features."""
    model = pixels(w)
    penalty = objectives.NeuralCollapseRegularizer(3, 10, generator=seed()).to(w.device, w.dtype)
    with objectives.FeatureLoss(model, loose, penalty) as loss:
        return loss(model(w.examples()), w.y().long())
