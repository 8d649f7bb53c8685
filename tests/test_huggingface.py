"""A small transformers classifier and language model in rules, strategies, compressors, probes, and under `Trainer`."""

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy

from neurarium.compression import Compressor, LotteryTicket, convert_activations, prunable
from neurarium.continual import EWC, Strategy
from neurarium.layers import bitwise, sparsify
from neurarium.learning import Backprop, GradientNoise, LearningRule
from neurarium.probes import cka_matrix, fisher_diagonal, loss_along_line, sharpness
from neurarium.testing import public
from neurarium.training import evaluate, fit

transformers = pytest.importorskip("transformers")


def classifier(seed=0):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, num_labels=3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


def gpt(seed=0):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
    )
    return transformers.GPT2LMHeadModel(config)


def batches(count=3):
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        y = torch.arange(12) % 3
        words = torch.randint(3, 10, (12, 8), generator=generator) + 10 * y[:, None]
        found.append(
            transformers.BatchEncoding({"input_ids": words, "attention_mask": torch.ones_like(words), "labels": y})
        )
    return found


def inputs(batch):
    return {name: value for name, value in batch.items() if name != "labels"}


REFUSING = {"AdaptiveFeedbackAlignment", "ForwardForward", "NoProp", "Pepita"}  # they need a stack, or tensors


@pytest.mark.parametrize("rule_class", public("learning", LearningRule).values(), ids=lambda c: c.__name__)
def test_rules_train_a_classifier_or_say_why_not(rule_class):
    def train():
        rule = rule_class(classifier(), cross_entropy)
        return rule, fit(rule, batches(), torch.optim.Adam(rule.parameters(), 1e-2), epochs=8)

    if rule_class.__name__ in REFUSING:
        with pytest.raises((ValueError, TypeError), match=r"tensor|Sequential"):
            train()
        return
    rule, losses = train()
    assert losses[-1] < losses[0]
    assert evaluate(rule, batches()) > 0.4


@pytest.mark.parametrize("strategy_class", public("continual", Strategy).values(), ids=lambda c: c.__name__)
def test_strategies_learn_two_tasks(strategy_class):
    strategy = strategy_class(classifier())
    for task in range(2):
        strategy.begin_task(task)
        if any(p.requires_grad for p in strategy.model.parameters()):
            rule = Backprop(strategy.model, cross_entropy)
            optimizer = torch.optim.SGD(rule.parameters(), 0.01)
            with strategy.attach(optimizer):
                fit(rule, batches(), optimizer, penalties=[strategy.penalty])
        for batch in batches():
            strategy.observe(inputs(batch), batch["labels"])
        strategy.end_task(batches())
    assert strategy.predict(inputs(batches(1)[0])).shape == (12, 3)
    assert torch.isfinite(strategy.penalty())


SHRINKING = {"IterativeMagnitudePruning", "SparseEvolutionaryTraining"}  # the others make students for tensors


@pytest.mark.parametrize("compressor", public("compression", Compressor).values(), ids=lambda c: c.__name__)
def test_compressors_shrink_a_classifier_or_say_why_not(compressor):
    model = classifier()
    state = copy.deepcopy(model.state_dict())
    if compressor.__name__ not in SHRINKING:
        with pytest.raises((ValueError, TypeError), match=r"tensor|KAN"):
            compressor().compress(model, batches())
        return
    smaller = compressor().compress(model, batches())
    assert sum(int(p.count_nonzero()) for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    assert evaluate(smaller, batches()) >= 0


def test_the_fisher_diagonal_of_a_classifier_is_that_of_its_logits():
    """The exact estimator, against the same network behind a plain tensor in and out."""
    model = classifier().eval()

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, words):
            return self.inner(input_ids=words, attention_mask=torch.ones_like(words)).logits

    batch = batches(1)[0]
    found = fisher_diagonal(model, [batch], "exact").values
    plain = fisher_diagonal(Plain(), [(batch["input_ids"], batch["labels"])], "exact").values
    for name, value in found.items():
        torch.testing.assert_close(value, plain[f"inner.{name}"], rtol=1e-4, atol=1e-7)


def test_probes_take_it():
    model, loader = classifier(), batches()
    assert cka_matrix(model, model, loader).values.diagonal().min() > 0.99
    assert (
        sharpness(model, cross_entropy, inputs(loader[0]), loader[0]["labels"], generator=torch.Generator()).largest > 0
    )
    line = loss_along_line(model, cross_entropy, loader, model, classifier(1), points=3, span=(0.0, 1.0))
    assert line.loss[0] == pytest.approx(evaluate(model, loader, cross_entropy), rel=1e-4)


def test_a_language_model_is_pruned_converted_and_what_is_left_is_named():
    model = gpt()
    names = list(prunable(model))
    assert "transformer.h.0.attn.c_attn.weight" in names  # a Conv1D
    made = bitwise(copy.deepcopy(model), 4)
    assert "Conv1D" in made.skipped["transformer.h.0.attn.c_attn"]
    with pytest.raises(ValueError, match="Conv1D"):
        sparsify(model)
    torch.manual_seed(0)
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            hidden_act="gelu",
        )
    )
    words = batches(1)[0]["input_ids"]
    light = convert_activations(llama, 2, example=words)
    assert len(light.changed) == 2
    torch.testing.assert_close(light.model(words).logits, llama(words).logits)
    assert light.kept_after < light.kept_before


def test_trainer_under_springs_masks_and_noise(tmp_path):
    pytest.importorskip("accelerate")
    model = classifier()
    ewc, ticket, noise = EWC(model, strength=10.0, implicit=True), LotteryTicket(model, rate=0.5), GradientNoise(0.01)
    ewc.begin_task(0)
    ewc.end_task(batches())
    ewc.begin_task(1)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.01 * torch.randn_like(p)
    ticket.prune_and_rewind()
    handles = []

    class Attach(transformers.TrainerCallback):
        def on_train_begin(self, args, state, control, optimizer=None, **_):
            handles.extend(method.attach(optimizer) for method in (ewc, ticket, noise))

    batch = batches(1)[0]
    rows = [{name: value[i] for name, value in batch.items()} for i in range(12)]
    arguments = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=2, per_device_train_batch_size=4, report_to=[], save_strategy="no",
        disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[Attach()]).train()
    assert noise.step == 6
    for name, weight in ticket.masks.targets.items():
        assert not weight.detach()[~ticket.masks[name].to(weight.device)].any()
    assert all(handle.attached for handle in handles)
