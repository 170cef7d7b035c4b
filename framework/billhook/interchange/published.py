"""Published: a published pruning result, as its file holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from billhook.cuts.drop_branch import DropBranch
from billhook.data.record import NO_DATA
from billhook.errors import InvalidConfig, InvalidPlan, listing
from billhook.interchange.removals import Removals, without
from billhook.json_text import BadJson, content_of, parsed
from billhook.model.branch import Branch
from billhook.plans.budget import Budget
from billhook.plans.plan import ModelIdentity, Plan
from billhook.plans.repair import Repair
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import Registry, default_registry
from billhook.version import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from billhook.cuts.cut import Cut
    from billhook.model.view import ModelView

DROPPED: dict[str, Branch] = {"pruned_attn_idx": "attention", "pruned_mlp_idx": "mlp"}
"""Keys of MultiPruner's lists of branches that go, by branch."""

WIDTHS: dict[str, Branch] = {"pruned_attn_width": "attention", "pruned_mlp_width": "mlp"}
"""Keys of MultiPruner's widths, by branch."""

BRANCH_NAMES: dict[str, Branch] = {"mha": "attention", "mlp": "mlp"}
"""What BlockPruner calls the branches."""

ORIGIN = "billhook:published"
"""What a plan made of a published result says in the place of the selector: nobody selected here."""

Format = Literal["multipruner", "blockpruner"]


@attrs.frozen(kw_only=True)
class Published:
    """What MultiPruner or BlockPruner have published for a model; :meth:`plan` says how to cut a model by it.

    MultiPruner (arXiv 2501.09949): ``pruning_config.json``, an object with the layers whose attention and whose MLP
    go, and the widths that the others keep, in columns of their writers. BlockPruner (arXiv 2406.10594):
    ``…_del_order_list.json``, an object that says for every number of removals which branches are gone by then.

    Attributes:
        content: the JSON of the file.
        steps: of a BlockPruner list, how many removals; None for all.
        reordered: whether the units of a branch were sorted by weight norm before it got narrower (MultiPruner's
            ``--weight_reorder``), so that the largest stay. If not, the first ones stay. The files do not say it.

    Raises:
        InvalidPlan: ``content`` has neither shape, or contradicts itself.
        InvalidConfig: ``steps`` of something else than a BlockPruner list.
    """

    content: Mapping[str, Any]
    steps: int | None = None
    reordered: bool = True

    def __attrs_post_init__(self) -> None:
        _ = self.removals  # refuses what cannot be read

    @classmethod
    def load(cls, path: str | Path, *, steps: int | None = None, reordered: bool = True) -> Published:
        """Read a file.

        Args:
            path: of the JSON file.
            steps: of a BlockPruner list, how many removals; None for all.
            reordered: whether a narrowed branch keeps its units of the largest weight norm; if not, the first ones.

        Raises:
            InvalidPlan: it cannot be read, is neither kind of file, or contradicts itself.
            InvalidConfig: ``steps`` of something else than a BlockPruner list.
        """
        try:
            content = parsed(content_of(Path(path)))
        except BadJson as error:
            raise InvalidPlan(f"No published result can be read from {path}: {error}.") from error
        return cls(content=content, steps=steps, reordered=reordered)

    @property
    def format(self) -> Format:
        """Whose file it is: ``multipruner`` or ``blockpruner``."""
        found = format_of(self.content)
        if found is None:
            raise InvalidPlan(
                "This is no published result: an object with "
                f"{listing([*DROPPED, *WIDTHS])} (MultiPruner), or with the keys 1, 2, … (BlockPruner) was expected."
            )
        return found

    @property
    def removals(self) -> Removals:
        """Which branches go, in their order, and how wide the others become."""
        if self.format == "blockpruner":
            return _blockpruner(self.content, self.steps)
        if self.steps is not None:
            raise InvalidConfig("Only BlockPruner lists have steps; this is a MultiPruner file. Leave out the steps.")
        return _multipruner(self.content)

    def plan(self, model: PreTrainedModel, registry: Registry | None = None) -> Plan:
        """The plan that makes these cuts in ``model`` and repairs nothing; its budget is what they come to.

        Args:
            model: the whole model that the file was made for, with its weights: those say which units stay.
            registry: where its adapter is; all installed plugins if None.

        Raises:
            InvalidPlan: the file names branches or widths that the model does not have, or nothing would go.
            UnsupportedArchitecture: no adapter knows the model.
        """
        view = (default_registry() if registry is None else registry).view(model)
        cuts = self.cuts(view)
        return Plan(
            cuts=cuts,
            model=ModelIdentity.of(view),
            budget=Budget(parameters=1 - without(view, cuts).parameter_count / view.parameter_count),
            selector=StrategySpec(name=ORIGIN, options=self._options),
            estimator=StrategySpec(name="billhook:identity"),
            merger=StrategySpec(name="billhook:fold"),
            repair=Repair(),
            calibration=NO_DATA,
            billhook=__version__,
        )

    def cuts(self, view: ModelView) -> tuple[Cut, ...]:
        """The cuts in ``view``, the whole model: branches in their order, then channels, then heads, layer by layer.

        Raises:
            InvalidPlan: the file does not fit the model, or nothing would go.
        """
        return self.removals.cuts(view, reordered=self.reordered)

    @property
    def _options(self) -> dict[str, Any]:
        """The arguments that are not the defaults."""
        given = ((field, getattr(self, field.name)) for field in attrs.fields(Published))
        return {field.name: value for field, value in given if value != field.default}


def is_published(path: Path) -> bool:
    """Whether the file holds JSON of one of the two shapes."""
    try:
        return format_of(parsed(content_of(path))) is not None
    except BadJson:
        return False


def format_of(content: object) -> Format | None:
    """Whose file has this JSON; None for neither's."""
    if not isinstance(content, Mapping) or not content:
        return None
    if not content.keys().isdisjoint([*DROPPED, *WIDTHS]):
        return "multipruner"
    return "blockpruner" if all(map(_is_number, content)) else None


def _multipruner(content: Mapping[str, Any]) -> Removals:
    """Attention before MLP: the file does not say how the two lists were interleaved."""
    if unknown := content.keys() - DROPPED.keys() - WIDTHS.keys():
        raise InvalidPlan(f"This MultiPruner file has {listing(unknown)}, which nobody has published a meaning for.")
    branches: list[DropBranch] = []
    for key, branch in DROPPED.items():
        layers = content.get(key, [])
        if not isinstance(layers, list) or not all(map(_is_count, layers)) or len(set(layers)) < len(layers):
            raise InvalidPlan(f"The {key!r} of a MultiPruner file must be a list of layers, each once; got {layers!r}.")
        branches += [DropBranch(layer, branch) for layer in layers]
    widths: dict[Branch, dict[int, int]] = {
        branch: _widths(key, content.get(key, {})) for key, branch in WIDTHS.items()
    }
    widths["mlp"] = _counted_from_zero(widths["mlp"], len(widths["attention"]))
    return Removals(branches=tuple(branches), widths=widths)


def _widths(key: str, given: object) -> dict[int, int]:
    if not isinstance(given, Mapping):
        raise InvalidPlan(f"The {key!r} of a MultiPruner file must be an object of widths by layer; got {given!r}.")
    for layer, width in given.items():
        if not _is_number(layer) or not _is_count(width) or width < 1:
            raise InvalidPlan(
                f"The {key!r} of a MultiPruner file must give layers a width of 1 or more; got {layer!r}: {width!r}."
            )
    return {int(layer): width for layer, width in given.items()}


def _counted_from_zero(widths: dict[int, int], layers: int) -> dict[int, int]:
    """One published file (Qwen1.5-7B) numbers the MLPs of its 32 layers from 32 on, as if behind the attentions."""
    if layers and set(widths) == set(range(layers, 2 * layers)):
        return {layer - layers: width for layer, width in widths.items()}
    return widths


def _blockpruner(content: Mapping[str, Any], steps: int | None) -> Removals:
    """Each entry holds the ones before it, sorted by layer; what it adds was removed in that step."""
    numbers = sorted(map(int, content))
    if steps is not None and steps not in numbers:
        raise InvalidPlan(f"This BlockPruner list has no step {steps}, only {numbers[0]} to {numbers[-1]}.")
    order: list[DropBranch] = []
    known: set[DropBranch] = set()
    for number in numbers:
        present = [_block(number, entry) for entry in _entries(number, content[str(number)])]
        if len(set(present)) != number or len(present) != number or not known <= set(present):
            raise InvalidPlan(
                f"Step {number} of this BlockPruner list must hold {number} different branches, all of the step "
                f"before among them; got {', '.join(map(str, present)) or 'none'}."
            )
        order += [cut for cut in present if cut not in known]
        known |= set(present)
    return Removals(branches=tuple(order[:steps]))


def _entries(number: int, entries: object) -> list[Any]:
    if not isinstance(entries, list):
        raise InvalidPlan(f"Step {number} of a BlockPruner list must be a list of branches; got {entries!r}.")
    return entries


def _block(number: int, entry: object) -> DropBranch:
    match entry:
        case [str(name), int(layer)] if name in BRANCH_NAMES and _is_count(layer):
            return DropBranch(layer, BRANCH_NAMES[name])
    raise InvalidPlan(
        f'A branch in a BlockPruner list is ["mha", layer] or ["mlp", layer]; step {number} has {entry!r}.'
    )


def _is_number(key: object) -> bool:
    """Whether a key is a number as JSON writers write it."""
    return isinstance(key, str) and len(key) < 10 and key.isdecimal() and key == str(int(key))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
