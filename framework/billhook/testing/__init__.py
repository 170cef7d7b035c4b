"""The test kit: tiny models of every family, hypothesis strategies, and a conformance suite for each role.

Testing an estimator of your own takes one line; the suite checks what :class:`billhook.Estimator` promises::

    from billhook.testing import check_estimator, planted_problems
    from hypothesis import given

    def test_it_keeps_the_promises_of_an_estimator():
        check_estimator(MyEstimator(strength=0.1), recovers="full")

    @given(problem=planted_problems(noise=0.1))
    def test_noise_does_not_carry_it_away(problem):
        found = MyEstimator(strength=0.1).estimate(problem.regression)
        assert (found.weight - problem.truth.weight).abs().max() < 0.5

``check_selector``, ``check_merger``, ``check_objective``, ``check_adapter``, ``check_recipe``, ``check_hooks`` and
``check_plugin`` do the same for other roles, and ``estimator_laws`` and so on give the laws one by one, each to be a
test of its own. ``tiny_state``, ``planted_model`` and ``learnt_model`` are there to try an idea. Only what draws
examples needs hypothesis (``pip install 'billhook[test]'``).
"""

from importlib import import_module
from typing import TYPE_CHECKING

_HOME = {
    "BrokenLaw": "conformance.law",
    "Law": "conformance.law",
    "PlantedProblem": "samples.planted",
    "adapter_laws": "conformance.adapter_law",
    "adapters": "samples.generated",
    "budgets": "samples.generated",
    "check_adapter": "conformance.adapter_law",
    "check_estimator": "conformance.estimator_law",
    "check_hooks": "conformance.hook_law",
    "check_merger": "conformance.merger_law",
    "check_objective": "conformance.objective_law",
    "check_plugin": "conformance.plugin_law",
    "check_recipe": "conformance.recipe_law",
    "check_selector": "conformance.selector_law",
    "cut_sequences": "samples.generated",
    "cuts": "samples.generated",
    "estimator_laws": "conformance.estimator_law",
    "hook_laws": "conformance.hook_law",
    "laws": "conformance.plugin_law",
    "learnt_model": "samples.learnt",
    "learnt_tokens": "samples.learnt",
    "linear_maps": "samples.generated",
    "linearised": "samples.linearisation",
    "merger_laws": "conformance.merger_law",
    "objective_laws": "conformance.objective_law",
    "plans": "samples.generated",
    "planted_model": "samples.planting",
    "planted_problem": "samples.planted",
    "planted_problems": "samples.generated",
    "plugin_laws": "conformance.plugin_law",
    "random_map": "samples.planted",
    "recipe_laws": "conformance.recipe_law",
    "save_tiny_checkpoint": "samples.models",
    "selector_laws": "conformance.selector_law",
    "spans": "samples.generated",
    "tiny_model": "samples.models",
    "tiny_models": "samples.generated",
    "tiny_state": "samples.states",
    "tiny_tokenizer": "samples.models",
    "tiny_tokens": "samples.models",
    "tiny_view": "samples.models",
    "token_batches": "samples.generated",
    "zeroed": "samples.zeroing",
}
"""Public names, and the module each lives in."""

if TYPE_CHECKING:
    from billhook.testing.conformance.adapter_law import adapter_laws as adapter_laws
    from billhook.testing.conformance.adapter_law import check_adapter as check_adapter
    from billhook.testing.conformance.estimator_law import check_estimator as check_estimator
    from billhook.testing.conformance.estimator_law import estimator_laws as estimator_laws
    from billhook.testing.conformance.hook_law import check_hooks as check_hooks
    from billhook.testing.conformance.hook_law import hook_laws as hook_laws
    from billhook.testing.conformance.law import BrokenLaw as BrokenLaw
    from billhook.testing.conformance.law import Law as Law
    from billhook.testing.conformance.merger_law import check_merger as check_merger
    from billhook.testing.conformance.merger_law import merger_laws as merger_laws
    from billhook.testing.conformance.objective_law import check_objective as check_objective
    from billhook.testing.conformance.objective_law import objective_laws as objective_laws
    from billhook.testing.conformance.plugin_law import check_plugin as check_plugin
    from billhook.testing.conformance.plugin_law import laws as laws
    from billhook.testing.conformance.plugin_law import plugin_laws as plugin_laws
    from billhook.testing.conformance.recipe_law import check_recipe as check_recipe
    from billhook.testing.conformance.recipe_law import recipe_laws as recipe_laws
    from billhook.testing.conformance.selector_law import check_selector as check_selector
    from billhook.testing.conformance.selector_law import selector_laws as selector_laws
    from billhook.testing.samples.generated import adapters as adapters
    from billhook.testing.samples.generated import budgets as budgets
    from billhook.testing.samples.generated import cut_sequences as cut_sequences
    from billhook.testing.samples.generated import cuts as cuts
    from billhook.testing.samples.generated import linear_maps as linear_maps
    from billhook.testing.samples.generated import plans as plans
    from billhook.testing.samples.generated import planted_problems as planted_problems
    from billhook.testing.samples.generated import spans as spans
    from billhook.testing.samples.generated import tiny_models as tiny_models
    from billhook.testing.samples.generated import token_batches as token_batches
    from billhook.testing.samples.learnt import learnt_model as learnt_model
    from billhook.testing.samples.learnt import learnt_tokens as learnt_tokens
    from billhook.testing.samples.linearisation import linearised as linearised
    from billhook.testing.samples.models import save_tiny_checkpoint as save_tiny_checkpoint
    from billhook.testing.samples.models import tiny_model as tiny_model
    from billhook.testing.samples.models import tiny_tokenizer as tiny_tokenizer
    from billhook.testing.samples.models import tiny_tokens as tiny_tokens
    from billhook.testing.samples.models import tiny_view as tiny_view
    from billhook.testing.samples.planted import PlantedProblem as PlantedProblem
    from billhook.testing.samples.planted import planted_problem as planted_problem
    from billhook.testing.samples.planted import random_map as random_map
    from billhook.testing.samples.planting import planted_model as planted_model
    from billhook.testing.samples.states import tiny_state as tiny_state
    from billhook.testing.samples.zeroing import zeroed as zeroed


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'billhook.testing' has no attribute {name!r}")
    return getattr(import_module(f"billhook.testing.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(_HOME)
