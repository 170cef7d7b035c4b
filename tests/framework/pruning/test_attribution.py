"""Whose exception it is: strangers' strategies, kinds of cut and hooks are named, with cut and phase; texts stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import attrs
import pytest
from tests.framework.plugins.plugin_files import install

from billhook import (
    BillhookError,
    Budget,
    Cut,
    DropLayers,
    Estimator,
    LinearMap,
    Merger,
    ModelView,
    Objective,
    Predictions,
    Pruner,
    PruningState,
    Registry,
    Regression,
    RepairSite,
    Selector,
    hookimpl,
)
from billhook.errors import InvalidConfig, PluginError
from billhook.plugins.culprit import culprit_of
from billhook.testing import tiny_model, tiny_tokens

MODEL, TOKENS = tiny_model(num_hidden_layers=6), tiny_tokens(8, 16)
OURS = "It was handed over by this program and is no part of billhook: mend it there."


def prune(**options: Any) -> None:
    chosen = {"selector": "cosine", **options}
    Pruner.following("replaceme-ls", **chosen).prune(MODEL, calibration=TOKENS, budget=Budget(layers=1))


@attrs.frozen
class BadEstimator(Estimator):
    def estimate(self, regression: Regression) -> LinearMap:
        raise ValueError("broke")


@attrs.frozen
class BadSelector(Selector):
    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        yield DropLayers(2, 3)
        raise ValueError("broke")


@attrs.frozen
class BadMerger(Merger):
    def check_site(self, view: ModelView, site: RepairSite) -> None:
        pass

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        raise ValueError("broke")


@attrs.frozen
class BadObjective(Objective):
    def loss(self, predictions: Predictions) -> float:
        return [0.0 for _ in self.none_such]  # type: ignore[attr-defined,return-value] # the fault


@attrs.frozen
class BadCut(DropLayers):
    kind: ClassVar[str] = "bad-cut"

    def changes(self, view: ModelView) -> Mapping[int, None]:
        raise ValueError("broke")


@attrs.frozen
class Yields(Selector):
    cut: Cut

    def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
        yield self.cut


HERE = f"{__name__}."


@pytest.mark.parametrize(
    ("options", "error", "note"),
    [
        (
            {"estimator": BadEstimator()},
            ValueError,
            f"estimate of the estimator ({HERE}BadEstimator), at the cut layers 4:5, while cutting",
        ),
        ({"selector": BadSelector()}, ValueError, f"select of the selector ({HERE}BadSelector), while selecting"),
        (
            {"merger": BadMerger()},
            ValueError,
            f"put of the merger ({HERE}BadMerger), at the cut layers 4:5, while cutting",
        ),
        (
            {"objective": BadObjective()},
            AttributeError,
            f"loss of the objective ({HERE}BadObjective), while scoring",
        ),
        (
            {"selector": Yields(BadCut(1, 2))},
            ValueError,
            "changes of the kind of cut 'bad-cut', at the cut layers 1:2, while cutting",
        ),
    ],
    ids=["estimator", "selector", "merger", "objective", "cut"],
)
def test_what_a_strategy_raises_is_noted_with_role_cut_and_phase(
    options: dict[str, Any], error: type[Exception], note: str
) -> None:
    with pytest.raises(error) as caught:
        prune(**options)
    assert caught.value.__notes__ == [f"Raised in {note}. {OURS}"]


def hooked(name: str, function: Any, **options: Any) -> object:
    return type("Theirs", (), {name: hookimpl(**options)(function)})()


def raising(error: BaseException) -> Any:
    def hook(self: object, cut: object) -> None:
        raise error

    return hook


def test_what_a_hook_raises_is_noted_with_its_cut() -> None:
    with pytest.raises(KeyError) as caught:
        prune(hooks=[hooked("billhook_after_cut", raising(KeyError("oops")))])
    (note,) = caught.value.__notes__
    assert note.startswith("Raised in billhook_after_cut of the plugin Theirs#")
    assert note.endswith(f", at the cut layers 4:5, while cutting. {OURS}")


def test_a_wrapper_is_not_blamed_for_what_it_wraps() -> None:
    def wrapper(self: object) -> Iterator[None]:
        yield

    inner, outer = (
        hooked("billhook_after_cut", raising(KeyError("oops"))),
        hooked("billhook_after_cut", wrapper, wrapper=True),
    )
    type(outer).__name__ = "Wrapping"
    with pytest.raises(KeyError) as caught:
        prune(hooks=[inner, outer])
    assert "Theirs#" in str(culprit_of(caught.value))


def test_the_text_of_a_deliberate_error_stays_as_it_is() -> None:
    with pytest.raises(BillhookError) as caught:
        prune(hooks=[hooked("billhook_after_cut", raising(BillhookError("Not on a Sunday.")))])
    assert str(caught.value) == "Not on a Sunday."
    assert "billhook_after_cut" in str(culprit_of(caught.value))


def test_errors_that_are_nobodys_but_the_users_carry_no_note() -> None:
    with pytest.raises(InvalidConfig) as caught:
        Pruner(selector="cosine").prune(MODEL, calibration=TOKENS, budget=Budget(layers=60))
    assert culprit_of(caught.value) is None


def test_an_installed_plugin_is_named_with_version_and_where_to_report(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = "from billhook import hookimpl\n\n@hookimpl\ndef billhook_before_prune(state): raise KeyError('oops')\n"
    entries = install(tmp_path, "their-package", {"theirs": source}, version="3.2")
    with (tmp_path / "their_package-3.2.dist-info" / "METADATA").open("a") as file:
        file.write(
            "Project-URL: Homepage, https://theirs.example\nProject-URL: Issues, https://theirs.example/issues\n"
        )
    registry = Pruner().registry
    whole = Registry.from_entry_points([*_built_in(), *entries], blocked=())
    assert registry.plugins != whole.plugins
    with pytest.raises(KeyError) as caught:
        prune(registry=whole)
    assert caught.value.__notes__ == [
        "Raised in billhook_before_prune of the plugin their-package:theirs. It is of the distribution their-package "
        "3.2, not of billhook: report it to https://theirs.example/issues."
    ]


def _built_in() -> list[Any]:
    from importlib import metadata

    return [entry for entry in metadata.entry_points(group="billhook") if entry.value.startswith("billhook_")]


def test_a_hook_that_exits_ends_the_run_with_an_error_that_names_it() -> None:
    with pytest.raises(
        PluginError, match=r"billhook_after_cut of the plugin Theirs#\d+ ended the program \(SystemExit: 3"
    ):
        prune(hooks=[hooked("billhook_after_cut", raising(SystemExit(3)))])


def test_a_strategy_that_exits_ends_the_run_with_an_error_that_names_it() -> None:
    @attrs.frozen
    class Exits(Selector):
        def select(self, state: PruningState, budget: Budget) -> Iterator[Cut]:
            sys.exit(4)
            yield

    with pytest.raises(PluginError, match=r"select of the selector \(.*Exits\) ended the program \(SystemExit: 4"):
        prune(selector=Exits())


def test_an_interrupt_passes_as_it_is() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        prune(hooks=[hooked("billhook_after_cut", raising(KeyboardInterrupt()))])
    assert culprit_of(caught.value) is None


@pytest.mark.parametrize("answer", [True, False, "", "  ", 0, 1, ("no", 1), ["no"], b"no", {}], ids=repr)
def test_a_veto_that_is_no_text_is_refused_by_plugin_and_hook(answer: object) -> None:
    def veto(self: object, cut: object) -> object:
        return answer

    with pytest.raises(
        PluginError,
        match=r"billhook_before_cut of the plugin Theirs#\d+ returned .* return the reason as text .* return None",
    ):
        prune(hooks=[hooked("billhook_before_cut", veto)])
