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
    "Branch": "model.branch",
    "BranchLayout": "model.branch_layout",
    "Budget": "plans.budget",
    "CacheBudget": "activations.activation_cache",
    "CacheKey": "activations.activation_cache",
    "Calibration": "data.calibration",
    "CalibrationRecord": "data.record",
    "Candidate": "cuts.candidate",
    "Comparison": "search.comparison",
    "Cut": "cuts.cut",
    "CutReport": "plans.report",
    "Decision": "plans.journal",
    "DeclaredAdapter": "model.declared_adapter",
    "DropBranch": "cuts.drop_branch",
    "DropLayers": "cuts.drop_layers",
    "Elimination": "regression.elimination",
    "Estimator": "roles.estimator",
    "Evaluation": "evaluation.perplexity",
    "Flow": "activations.flow",
    "InnerStatistics": "measures.unit_scores",
    "Journal": "plans.journal",
    "KeepChannels": "cuts.keep_units",
    "KeepHeads": "cuts.keep_units",
    "LayerVersion": "model.layer_version",
    "LinearMap": "regression.linear_map",
    "Merger": "roles.merger",
    "Method": "pruning.method",
    "Metric": "measures.windows",
    "ModelIdentity": "plans.plan",
    "ModelView": "model.view",
    "Moments": "regression.moments",
    "Needs": "roles.estimator",
    "Objective": "roles.objective",
    "OpenBatch": "activations.runner",
    "PLUGIN_API": "plugins.plugin_rules",
    "PairedDifference": "evaluation.task_accuracy",
    "PartRecord": "data.record",
    "Place": "model.branch",
    "Placed": "cuts.placed",
    "Plan": "plans.plan",
    "PluginInfo": "plugins.plugin_info",
    "Predictions": "roles.objective",
    "Progress": "progress",
    "PruneResult": "results.result",
    "Pruner": "pruning.pruner",
    "PruningState": "roles.state",
    "Published": "interchange.published",
    "Question": "evaluation.task",
    "Race": "search.race",
    "Recipe": "roles.recipe",
    "Refused": "model.branch_layout",
    "Registry": "plugins.registry",
    "Regression": "regression.regression",
    "Regressor": "regression.regression",
    "Removals": "interchange.removals",
    "Repair": "plans.repair",
    "RepairSite": "cuts.sites",
    "Role": "roles.role",
    "Rows": "regression.regression",
    "Runner": "activations.runner",
    "Search": "search.search",
    "SearchProgress": "progress",
    "Selector": "roles.selector",
    "SelfGenerated": "data.self_generated",
    "SiteReport": "plans.report",
    "Size": "model.branch_layout",
    "Strategy": "roles.role",
    "Table": "tables",
    "StrategySpec": "plans.strategy_spec",
    "Task": "evaluation.task",
    "TaskAccuracy": "evaluation.task_accuracy",
    "TensorRegression": "regression.regression",
    "TokenBatch": "data.tokens",
    "Tokens": "data.tokens",
    "Trials": "roles.trials",
    "UnitRule": "measures.unit_scores",
    "Units": "model.view",
    "Walk": "activations.flow",
    "WindowDistances": "measures.windows",
    "WriterCurvature": "measures.curvature",
    "Written": "activations.runner",
    "accuracy": "evaluation.zero_shot",
    "analyze": "pruning.analyzing",
    "apply": "pruning.applying",
    "bias_of": "model.writer",
    "can_be_uniform": "cuts.uniform",
    "compare": "search.comparison",
    "default_registry": "plugins.registry",
    "double_device": "model.writer",
    "eliminate": "regression.elimination",
    "evaluate": "evaluation.perplexity",
    "hookimpl": "plugins.hookspecs",
    "insert_after": "model.inserted",
    "is_linear": "model.writer",
    "keeping": "cuts.keep_units",
    "load": "model.loading",
    "loss_tokens": "evaluation.loss",
    "summed_divergence": "evaluation.loss",
    "measure_curvature": "measures.curvature",
    "measure_inner": "measures.unit_scores",
    "measure_windows": "measures.windows",
    "paired": "evaluation.task_accuracy",
    "power_of_two": "regression.fast_products",
    "read_task": "evaluation.task",
    "recipe": "plugins.registry",
    "refuse_hopeless": "search.search",
    "replace_weight": "model.writer",
    "score": "search.scoring",
    "score_units": "measures.unit_scores",
    "site_before": "cuts.sites",
    "site_within": "cuts.sites",
    "summed_loss": "evaluation.loss",
    "typed": "value_kinds",
    "to_blockpruner": "interchange.export",
    "to_multipruner": "interchange.export",
    "weight_rows": "model.writer",
    "without_branch": "model.surgery",
}
"""Public names, and the module each lives in."""

if TYPE_CHECKING:
    from billhook.activations.activation_cache import ActivationCache as ActivationCache
    from billhook.activations.activation_cache import CacheBudget as CacheBudget
    from billhook.activations.activation_cache import CacheKey as CacheKey
    from billhook.activations.flow import Flow as Flow
    from billhook.activations.flow import Walk as Walk
    from billhook.activations.runner import OpenBatch as OpenBatch
    from billhook.activations.runner import Runner as Runner
    from billhook.activations.runner import Written as Written
    from billhook.cuts.candidate import Candidate as Candidate
    from billhook.cuts.cut import Cut as Cut
    from billhook.cuts.drop_branch import DropBranch as DropBranch
    from billhook.cuts.drop_layers import DropLayers as DropLayers
    from billhook.cuts.keep_units import KeepChannels as KeepChannels
    from billhook.cuts.keep_units import KeepHeads as KeepHeads
    from billhook.cuts.keep_units import keeping as keeping
    from billhook.cuts.placed import Placed as Placed
    from billhook.cuts.sites import RepairSite as RepairSite
    from billhook.cuts.sites import site_before as site_before
    from billhook.cuts.sites import site_within as site_within
    from billhook.cuts.uniform import can_be_uniform as can_be_uniform
    from billhook.data.blend import Blend as Blend
    from billhook.data.calibration import Calibration as Calibration
    from billhook.data.record import CalibrationRecord as CalibrationRecord
    from billhook.data.record import PartRecord as PartRecord
    from billhook.data.self_generated import SelfGenerated as SelfGenerated
    from billhook.data.tokens import TokenBatch as TokenBatch
    from billhook.data.tokens import Tokens as Tokens
    from billhook.errors import BillhookError as BillhookError
    from billhook.evaluation.loss import loss_tokens as loss_tokens
    from billhook.evaluation.loss import summed_divergence as summed_divergence
    from billhook.evaluation.loss import summed_loss as summed_loss
    from billhook.evaluation.perplexity import Evaluation as Evaluation
    from billhook.evaluation.perplexity import evaluate as evaluate
    from billhook.evaluation.task import Question as Question
    from billhook.evaluation.task import Task as Task
    from billhook.evaluation.task import read_task as read_task
    from billhook.evaluation.task_accuracy import PairedDifference as PairedDifference
    from billhook.evaluation.task_accuracy import TaskAccuracy as TaskAccuracy
    from billhook.evaluation.task_accuracy import paired as paired
    from billhook.evaluation.zero_shot import accuracy as accuracy
    from billhook.interchange.export import to_blockpruner as to_blockpruner
    from billhook.interchange.export import to_multipruner as to_multipruner
    from billhook.interchange.published import Published as Published
    from billhook.interchange.removals import Removals as Removals
    from billhook.measures.curvature import WriterCurvature as WriterCurvature
    from billhook.measures.curvature import measure_curvature as measure_curvature
    from billhook.measures.unit_scores import InnerStatistics as InnerStatistics
    from billhook.measures.unit_scores import UnitRule as UnitRule
    from billhook.measures.unit_scores import measure_inner as measure_inner
    from billhook.measures.unit_scores import score_units as score_units
    from billhook.measures.windows import Metric as Metric
    from billhook.measures.windows import WindowDistances as WindowDistances
    from billhook.measures.windows import measure_windows as measure_windows
    from billhook.model.adapter import Adapter as Adapter
    from billhook.model.branch import Branch as Branch
    from billhook.model.branch import Place as Place
    from billhook.model.branch_layout import BranchLayout as BranchLayout
    from billhook.model.branch_layout import Refused as Refused
    from billhook.model.branch_layout import Size as Size
    from billhook.model.declared_adapter import DeclaredAdapter as DeclaredAdapter
    from billhook.model.inserted import insert_after as insert_after
    from billhook.model.layer_version import LayerVersion as LayerVersion
    from billhook.model.loading import load as load
    from billhook.model.surgery import without_branch as without_branch
    from billhook.model.view import ModelView as ModelView
    from billhook.model.view import Units as Units
    from billhook.model.writer import bias_of as bias_of
    from billhook.model.writer import double_device as double_device
    from billhook.model.writer import is_linear as is_linear
    from billhook.model.writer import replace_weight as replace_weight
    from billhook.model.writer import weight_rows as weight_rows
    from billhook.plans.budget import Budget as Budget
    from billhook.plans.journal import Decision as Decision
    from billhook.plans.journal import Journal as Journal
    from billhook.plans.plan import ModelIdentity as ModelIdentity
    from billhook.plans.plan import Plan as Plan
    from billhook.plans.repair import Repair as Repair
    from billhook.plans.report import CutReport as CutReport
    from billhook.plans.report import SiteReport as SiteReport
    from billhook.plans.strategy_spec import StrategySpec as StrategySpec
    from billhook.plugins.hookspecs import hookimpl as hookimpl
    from billhook.plugins.plugin_info import PluginInfo as PluginInfo
    from billhook.plugins.plugin_rules import PLUGIN_API as PLUGIN_API
    from billhook.plugins.registry import Registry as Registry
    from billhook.plugins.registry import default_registry as default_registry
    from billhook.plugins.registry import recipe as recipe
    from billhook.progress import Progress as Progress
    from billhook.progress import SearchProgress as SearchProgress
    from billhook.pruning.analyzing import analyze as analyze
    from billhook.pruning.applying import apply as apply
    from billhook.pruning.method import Method as Method
    from billhook.pruning.pruner import Pruner as Pruner
    from billhook.regression.elimination import Elimination as Elimination
    from billhook.regression.elimination import eliminate as eliminate
    from billhook.regression.fast_products import power_of_two as power_of_two
    from billhook.regression.linear_map import LinearMap as LinearMap
    from billhook.regression.moments import Moments as Moments
    from billhook.regression.regression import Regression as Regression
    from billhook.regression.regression import Regressor as Regressor
    from billhook.regression.regression import Rows as Rows
    from billhook.regression.regression import TensorRegression as TensorRegression
    from billhook.results.result import PruneResult as PruneResult
    from billhook.roles.estimator import Estimator as Estimator
    from billhook.roles.estimator import Needs as Needs
    from billhook.roles.merger import Merger as Merger
    from billhook.roles.objective import Objective as Objective
    from billhook.roles.objective import Predictions as Predictions
    from billhook.roles.recipe import Recipe as Recipe
    from billhook.roles.role import Role as Role
    from billhook.roles.role import Strategy as Strategy
    from billhook.roles.selector import Selector as Selector
    from billhook.roles.state import PruningState as PruningState
    from billhook.roles.trials import Trials as Trials
    from billhook.search.comparison import Comparison as Comparison
    from billhook.search.comparison import compare as compare
    from billhook.search.race import Race as Race
    from billhook.search.scoring import score as score
    from billhook.search.search import Search as Search
    from billhook.search.search import refuse_hopeless as refuse_hopeless
    from billhook.tables import Table as Table
    from billhook.value_kinds import typed as typed


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'billhook' has no attribute {name!r}")
    return getattr(import_module(f"billhook.{_HOME[name]}"), name)


__all__ = [*_HOME, "__version__"]


def __dir__() -> list[str]:
    return __all__


_register_in_time()
