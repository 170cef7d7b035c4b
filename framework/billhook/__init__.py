"""billhook prunes pre-trained transformers without training and repairs every cut in closed form.

Importing this package loads neither torch nor transformers; names come in when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from billhook.heterogeneous.auto_classes import register_in_time as _register_in_time
from billhook.version import __version__ as __version__

_HOME = {
    "ActivationCache": "activations.activation_cache",
    "Adapter": "model.adapter",
    "BillhookError": "errors",
    "Blend": "data.blend",
    "BranchLayout": "model.branch_layout",
    "Budget": "plans.budget",
    "CacheBudget": "activations.activation_cache",
    "Calibration": "data.calibration",
    "Cut": "cuts.cut",
    "CutReport": "plans.report",
    "DeclaredAdapter": "model.declared_adapter",
    "DropBranch": "cuts.drop_branch",
    "DropLayers": "cuts.drop_layers",
    "Estimator": "roles.estimator",
    "Journal": "plans.journal",
    "KeepChannels": "cuts.keep_units",
    "KeepHeads": "cuts.keep_units",
    "LinearMap": "regression.linear_map",
    "Merger": "roles.merger",
    "ModelView": "model.view",
    "Moments": "regression.moments",
    "Needs": "roles.estimator",
    "Objective": "roles.objective",
    "Plan": "plans.plan",
    "Predictions": "roles.objective",
    "PruneResult": "results.result",
    "Pruner": "pruning.pruner",
    "PruningState": "roles.state",
    "Published": "interchange.published",
    "Race": "search.race",
    "Recipe": "roles.recipe",
    "Refused": "model.branch_layout",
    "Registry": "plugins.registry",
    "Regression": "regression.regression",
    "Repair": "plans.repair",
    "RepairSite": "cuts.sites",
    "Rows": "regression.regression",
    "Search": "search.search",
    "SearchProgress": "progress",
    "Selector": "roles.selector",
    "SelfGenerated": "data.self_generated",
    "SiteReport": "plans.report",
    "TensorRegression": "regression.regression",
    "TaskAccuracy": "evaluation.task_accuracy",
    "Tokens": "data.tokens",
    "WindowDistances": "measures.windows",
    "accuracy": "evaluation.zero_shot",
    "apply": "pruning.applying",
    "default_registry": "plugins.registry",
    "evaluate": "evaluation.perplexity",
    "hookimpl": "plugins.hookspecs",
    "load": "model.loading",
    "measure_windows": "measures.windows",
    "paired": "evaluation.task_accuracy",
    "recipe": "plugins.registry",
}
"""Public names, and the module each lives in."""

if TYPE_CHECKING:
    from billhook.activations.activation_cache import ActivationCache as ActivationCache
    from billhook.activations.activation_cache import CacheBudget as CacheBudget
    from billhook.cuts.cut import Cut as Cut
    from billhook.cuts.drop_branch import DropBranch as DropBranch
    from billhook.cuts.drop_layers import DropLayers as DropLayers
    from billhook.cuts.keep_units import KeepChannels as KeepChannels
    from billhook.cuts.keep_units import KeepHeads as KeepHeads
    from billhook.cuts.sites import RepairSite as RepairSite
    from billhook.data.blend import Blend as Blend
    from billhook.data.calibration import Calibration as Calibration
    from billhook.data.self_generated import SelfGenerated as SelfGenerated
    from billhook.data.tokens import Tokens as Tokens
    from billhook.errors import BillhookError as BillhookError
    from billhook.evaluation.perplexity import evaluate as evaluate
    from billhook.evaluation.task_accuracy import TaskAccuracy as TaskAccuracy
    from billhook.evaluation.task_accuracy import paired as paired
    from billhook.evaluation.zero_shot import accuracy as accuracy
    from billhook.interchange.published import Published as Published
    from billhook.measures.windows import WindowDistances as WindowDistances
    from billhook.measures.windows import measure_windows as measure_windows
    from billhook.model.adapter import Adapter as Adapter
    from billhook.model.branch_layout import BranchLayout as BranchLayout
    from billhook.model.branch_layout import Refused as Refused
    from billhook.model.declared_adapter import DeclaredAdapter as DeclaredAdapter
    from billhook.model.loading import load as load
    from billhook.model.view import ModelView as ModelView
    from billhook.plans.budget import Budget as Budget
    from billhook.plans.journal import Journal as Journal
    from billhook.plans.plan import Plan as Plan
    from billhook.plans.repair import Repair as Repair
    from billhook.plans.report import CutReport as CutReport
    from billhook.plans.report import SiteReport as SiteReport
    from billhook.plugins.hookspecs import hookimpl as hookimpl
    from billhook.plugins.registry import Registry as Registry
    from billhook.plugins.registry import default_registry as default_registry
    from billhook.plugins.registry import recipe as recipe
    from billhook.progress import SearchProgress as SearchProgress
    from billhook.pruning.applying import apply as apply
    from billhook.pruning.pruner import Pruner as Pruner
    from billhook.regression.linear_map import LinearMap as LinearMap
    from billhook.regression.moments import Moments as Moments
    from billhook.regression.regression import Regression as Regression
    from billhook.regression.regression import Rows as Rows
    from billhook.regression.regression import TensorRegression as TensorRegression
    from billhook.results.result import PruneResult as PruneResult
    from billhook.roles.estimator import Estimator as Estimator
    from billhook.roles.estimator import Needs as Needs
    from billhook.roles.merger import Merger as Merger
    from billhook.roles.objective import Objective as Objective
    from billhook.roles.objective import Predictions as Predictions
    from billhook.roles.recipe import Recipe as Recipe
    from billhook.roles.selector import Selector as Selector
    from billhook.roles.state import PruningState as PruningState
    from billhook.search.race import Race as Race
    from billhook.search.search import Search as Search


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'billhook' has no attribute {name!r}")
    return getattr(import_module(f"billhook.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*_HOME, "__version__"]


_register_in_time()
