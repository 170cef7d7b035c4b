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
    "BrokenLaw": "law",
    "Law": "law",
    "PlantedProblem": "planted",
    "adapter_laws": "adapter_law",
    "adapters": "generated",
    "budgets": "generated",
    "check_adapter": "adapter_law",
    "check_estimator": "estimator_law",
    "check_hooks": "hook_law",
    "check_merger": "merger_law",
    "check_objective": "objective_law",
    "check_plugin": "plugin_law",
    "check_recipe": "recipe_law",
    "check_selector": "selector_law",
    "cut_sequences": "generated",
    "cuts": "generated",
    "estimator_laws": "estimator_law",
    "hook_laws": "hook_law",
    "laws": "plugin_law",
    "learnt_model": "learnt",
    "learnt_tokens": "learnt",
    "linear_maps": "generated",
    "linearised": "linearisation",
    "merger_laws": "merger_law",
    "objective_laws": "objective_law",
    "plans": "generated",
    "planted_model": "planted_model",
    "planted_problem": "planted",
    "planted_problems": "generated",
    "plugin_laws": "plugin_law",
    "random_map": "planted",
    "recipe_laws": "recipe_law",
    "save_tiny_checkpoint": "models",
    "selector_laws": "selector_law",
    "spans": "generated",
    "tiny_model": "models",
    "tiny_models": "generated",
    "tiny_state": "tiny_state",
    "tiny_tokenizer": "models",
    "tiny_tokens": "models",
    "tiny_view": "models",
    "token_batches": "generated",
    "zeroed": "zeroing",
}
"""Public names, and the module each lives in."""

if TYPE_CHECKING:
    from billhook.testing.adapter_law import adapter_laws as adapter_laws
    from billhook.testing.adapter_law import check_adapter as check_adapter
    from billhook.testing.estimator_law import check_estimator as check_estimator
    from billhook.testing.estimator_law import estimator_laws as estimator_laws
    from billhook.testing.generated import adapters as adapters
    from billhook.testing.generated import budgets as budgets
    from billhook.testing.generated import cut_sequences as cut_sequences
    from billhook.testing.generated import cuts as cuts
    from billhook.testing.generated import linear_maps as linear_maps
    from billhook.testing.generated import plans as plans
    from billhook.testing.generated import planted_problems as planted_problems
    from billhook.testing.generated import spans as spans
    from billhook.testing.generated import tiny_models as tiny_models
    from billhook.testing.generated import token_batches as token_batches
    from billhook.testing.hook_law import check_hooks as check_hooks
    from billhook.testing.hook_law import hook_laws as hook_laws
    from billhook.testing.law import BrokenLaw as BrokenLaw
    from billhook.testing.law import Law as Law
    from billhook.testing.learnt import learnt_model as learnt_model
    from billhook.testing.learnt import learnt_tokens as learnt_tokens
    from billhook.testing.linearisation import linearised as linearised
    from billhook.testing.merger_law import check_merger as check_merger
    from billhook.testing.merger_law import merger_laws as merger_laws
    from billhook.testing.models import save_tiny_checkpoint as save_tiny_checkpoint
    from billhook.testing.models import tiny_model as tiny_model
    from billhook.testing.models import tiny_tokenizer as tiny_tokenizer
    from billhook.testing.models import tiny_tokens as tiny_tokens
    from billhook.testing.models import tiny_view as tiny_view
    from billhook.testing.objective_law import check_objective as check_objective
    from billhook.testing.objective_law import objective_laws as objective_laws
    from billhook.testing.planted import PlantedProblem as PlantedProblem
    from billhook.testing.planted import planted_problem as planted_problem
    from billhook.testing.planted import random_map as random_map
    from billhook.testing.planted_model import planted_model as planted_model
    from billhook.testing.plugin_law import check_plugin as check_plugin
    from billhook.testing.plugin_law import laws as laws
    from billhook.testing.plugin_law import plugin_laws as plugin_laws
    from billhook.testing.recipe_law import check_recipe as check_recipe
    from billhook.testing.recipe_law import recipe_laws as recipe_laws
    from billhook.testing.selector_law import check_selector as check_selector
    from billhook.testing.selector_law import selector_laws as selector_laws
    from billhook.testing.tiny_state import tiny_state as tiny_state
    from billhook.testing.zeroing import zeroed as zeroed


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'billhook.testing' has no attribute {name!r}")
    return getattr(import_module(f"billhook.testing.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(_HOME)
