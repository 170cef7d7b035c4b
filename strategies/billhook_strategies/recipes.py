"""Billhook's own recipe, and published methods as their papers have them: what one does not repair is not repaired."""

from __future__ import annotations

from collections.abc import Callable

from billhook import Recipe, Repair, hookimpl
from billhook_strategies.estimators.cosine import Cosine
from billhook_strategies.estimators.identity import Identity
from billhook_strategies.estimators.least_squares import LeastSquares
from billhook_strategies.estimators.ridge import Ridge
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.refit import Refit
from billhook_strategies.objectives.perplexity import Perplexity
from billhook_strategies.selectors.block_pruner import BlockPruner
from billhook_strategies.selectors.curvature import Curvature
from billhook_strategies.selectors.multi_pruner import MultiPruner
from billhook_strategies.selectors.short_gpt import ShortGpt
from billhook_strategies.selectors.sleb import Sleb
from billhook_strategies.selectors.window_distance import WindowDistance

BILLHOOK = Recipe(
    name="billhook",
    summary="of all MLPs the channels that the loss and the others miss least; then their writers solved anew",
    selector=Curvature(),
    estimator=Ridge(strength="auto"),
    merger=Refit(),
    repair=Repair(when="final", target="halfway", held_out=0.1, guard=0.1),
)
"""The default of ``billhook prune``; docs/results.md has it beside the published ones."""

REPLACEME = Recipe(
    name="replaceme",
    summary="the nearest window of layers, repaired by the map that keeps the tokens' direction best",
    paper="ReplaceMe: Network Simplification via Depth Pruning and Transformer Block Linearization",
    arxiv="2505.02819",
    selector=WindowDistance(metric="cosine"),
    estimator=Cosine(),
    merger=Fold(),
)

PUBLISHED = (
    REPLACEME,
    Recipe(
        name="replaceme-ls",
        summary="the nearest window of layers, repaired by least squares",
        paper=REPLACEME.paper,
        arxiv=REPLACEME.arxiv,
        selector=WindowDistance(metric="cosine"),
        estimator=LeastSquares(),
        merger=Fold(),
    ),
    Recipe(
        name="uidl",
        summary="the window of layers that turns each text's last token least",
        paper="The Unreasonable Ineffectiveness of the Deeper Layers",
        arxiv="2403.17887",
        selector=WindowDistance(metric="angular", tokens="last"),
        estimator=Identity(),
        merger=Fold(),
    ),
    Recipe(
        name="shortgpt",
        summary="the single layers that turn the stream least, all at once",
        paper="ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
        arxiv="2403.03853",
        selector=ShortGpt(),
        estimator=Identity(),
        merger=Fold(),
    ),
    Recipe(
        name="sleb",
        summary="layer by layer the one that perplexity misses least",
        paper="SLEB: Streamlining LLMs through Redundancy Verification and Elimination of Transformer Blocks",
        arxiv="2402.09025",
        selector=Sleb(),
        estimator=Identity(),
        merger=Fold(),
        objective=Perplexity(),
    ),
    Recipe(
        name="blockpruner",
        summary="branch by branch, attention or MLP, the one that perplexity misses least",
        paper="BlockPruner: Fine-grained Pruning for Large Language Models",
        arxiv="2406.10594",
        selector=BlockPruner(),
        estimator=Identity(),
        merger=Fold(),
        objective=Perplexity(),
    ),
    Recipe(
        name="multipruner",
        summary="branches, then MLP channels, then attention heads, each time those that perplexity misses least",
        paper="MultiPruner: Balanced Structure Removal in Foundation Models",
        arxiv="2501.09949",
        selector=MultiPruner(),
        estimator=Identity(),
        merger=Fold(),
        objective=Perplexity(),
    ),
)


RECIPES = (BILLHOOK, *PUBLISHED)


@hookimpl
def billhook_register_recipes(register: Callable[[Recipe], None]) -> None:
    """``billhook``, and the published ones."""
    for recipe in RECIPES:
        register(recipe)
