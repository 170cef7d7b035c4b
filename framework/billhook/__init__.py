"""billhook prunes pre-trained transformers without training and repairs every cut in closed form.

Importing this package loads neither torch nor transformers; names come in when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from billhook.auto_classes import register_in_time as _register_in_time
from billhook.version import __version__ as __version__

_HOME = {
    "ActivationCache": "activation_cache",
    "Adapter": "adapter",
    "BillhookError": "errors",
    "Blend": "blend",
    "BranchLayout": "branch_layout",
    "Budget": "budget",
    "CacheBudget": "activation_cache",
    "Calibration": "calibration",
    "Cut": "cut",
    "CutReport": "report",
    "DeclaredAdapter": "declared_adapter",
    "DropBranch": "drop_branch",
    "DropLayers": "drop_layers",
    "Estimator": "estimator",
    "Journal": "journal",
    "KeepChannels": "keep_units",
    "KeepHeads": "keep_units",
    "LinearMap": "linear_map",
    "Merger": "merger",
    "ModelView": "model_view",
    "Moments": "moments",
    "Needs": "estimator",
    "Objective": "objective",
    "Plan": "plan",
    "Predictions": "objective",
    "PruneResult": "result",
    "Pruner": "pruner",
    "PruningState": "state",
    "Published": "published",
    "Race": "race",
    "Recipe": "recipes",
    "Refused": "branch_layout",
    "Registry": "registry",
    "Regression": "regression",
    "Repair": "repair",
    "RepairSite": "cut",
    "Rows": "regression",
    "Search": "search",
    "SearchProgress": "search_progress",
    "Selector": "selector",
    "SelfGenerated": "self_generated",
    "SiteReport": "report",
    "TensorRegression": "regression",
    "TaskAccuracy": "task_accuracy",
    "Tokens": "tokens",
    "WindowDistances": "windows",
    "accuracy": "zero_shot",
    "apply": "applying",
    "default_registry": "registry",
    "evaluate": "evaluation",
    "hookimpl": "hookspecs",
    "load": "loading",
    "measure_windows": "windows",
    "paired": "task_accuracy",
    "recipe": "recipes",
}
"""Public names, and the module each lives in."""

if TYPE_CHECKING:
    from billhook.activation_cache import ActivationCache as ActivationCache
    from billhook.activation_cache import CacheBudget as CacheBudget
    from billhook.adapter import Adapter as Adapter
    from billhook.applying import apply as apply
    from billhook.blend import Blend as Blend
    from billhook.branch_layout import BranchLayout as BranchLayout
    from billhook.branch_layout import Refused as Refused
    from billhook.budget import Budget as Budget
    from billhook.calibration import Calibration as Calibration
    from billhook.cut import Cut as Cut
    from billhook.cut import RepairSite as RepairSite
    from billhook.declared_adapter import DeclaredAdapter as DeclaredAdapter
    from billhook.drop_branch import DropBranch as DropBranch
    from billhook.drop_layers import DropLayers as DropLayers
    from billhook.errors import BillhookError as BillhookError
    from billhook.estimator import Estimator as Estimator
    from billhook.estimator import Needs as Needs
    from billhook.evaluation import evaluate as evaluate
    from billhook.hookspecs import hookimpl as hookimpl
    from billhook.journal import Journal as Journal
    from billhook.keep_units import KeepChannels as KeepChannels
    from billhook.keep_units import KeepHeads as KeepHeads
    from billhook.linear_map import LinearMap as LinearMap
    from billhook.loading import load as load
    from billhook.merger import Merger as Merger
    from billhook.model_view import ModelView as ModelView
    from billhook.moments import Moments as Moments
    from billhook.objective import Objective as Objective
    from billhook.objective import Predictions as Predictions
    from billhook.plan import Plan as Plan
    from billhook.pruner import Pruner as Pruner
    from billhook.published import Published as Published
    from billhook.race import Race as Race
    from billhook.recipes import Recipe as Recipe
    from billhook.recipes import recipe as recipe
    from billhook.registry import Registry as Registry
    from billhook.registry import default_registry as default_registry
    from billhook.regression import Regression as Regression
    from billhook.regression import Rows as Rows
    from billhook.regression import TensorRegression as TensorRegression
    from billhook.repair import Repair as Repair
    from billhook.report import CutReport as CutReport
    from billhook.report import SiteReport as SiteReport
    from billhook.result import PruneResult as PruneResult
    from billhook.search import Search as Search
    from billhook.search_progress import SearchProgress as SearchProgress
    from billhook.selector import Selector as Selector
    from billhook.self_generated import SelfGenerated as SelfGenerated
    from billhook.state import PruningState as PruningState
    from billhook.task_accuracy import TaskAccuracy as TaskAccuracy
    from billhook.task_accuracy import paired as paired
    from billhook.tokens import Tokens as Tokens
    from billhook.windows import WindowDistances as WindowDistances
    from billhook.windows import measure_windows as measure_windows
    from billhook.zero_shot import accuracy as accuracy


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'billhook' has no attribute {name!r}")
    return getattr(import_module(f"billhook.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*_HOME, "__version__"]


_register_in_time()
