"""Every error billhook raises on purpose. Each says whose rule broke, what was offered, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from billhook.foreign_text import harmless, shortened


class BillhookError(Exception):
    """Base of all deliberate errors; the command line shows its text as one line and exits with 1.

    Texts tell what was offered, which may come from anywhere: they are kept short, and control nothing.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shortened(harmless(arg, lines=True)) if isinstance(arg, str) else arg for arg in args))


class InvalidConfig(BillhookError, ValueError):
    """An option or value is outside its documented range."""


class ShapeMismatch(BillhookError, ValueError):
    """Tensors that must agree in shape do not."""


class InvalidCut(BillhookError, ValueError):
    """A cut cannot be made in this model."""


class InvalidPlan(BillhookError, ValueError):
    """A plan file cannot be read, or does not fit the model it is applied to."""


class InvalidJournal(BillhookError, ValueError):
    """The journal of a search cannot be read or written, belongs to another run, or another run works on it."""


class SingularProblem(BillhookError, ArithmeticError):
    """The calibration data cannot determine a map, or holds NaN or infinity."""


class CannotMerge(BillhookError, TypeError):
    """A merger cannot express this map in this architecture."""


class UnsupportedArchitecture(BillhookError, TypeError):
    """No adapter knows this model, or the model uses a variant that its adapter cannot serve."""


class UnusableModel(BillhookError, ValueError):
    """A model that loads but must not be pruned: quantised, or with weights that are not finite."""


class ModelNotFound(BillhookError, FileNotFoundError):
    """Neither a folder, nor a GGUF file, nor a name that the hub answers to."""


class CalibrationError(BillhookError, ValueError):
    """Calibration or evaluation data that is missing, empty, too short, or not what a plan was made with."""


class NotFinite(BillhookError, ArithmeticError):
    """Activations or logits of a model that are NaN or infinite: nothing can be measured on them."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} not finite: this model overflows in its dtype on these data, or its weights are broken. Run it in "
            f"bfloat16 or float32 (load(..., dtype='bfloat16'), --dtype bfloat16)."
        )


class OutputExists(BillhookError, FileExistsError):
    """Something is at the output already that may not be replaced, or another run is writing there."""


class CheckpointError(BillhookError, RuntimeError):
    """A checkpoint that cannot be written, or that does not reproduce the model in memory."""


class PluginError(BillhookError, RuntimeError):
    """A plugin breaks a rule of the plugin system."""


class UnknownStrategy(BillhookError, LookupError):
    """No registered strategy has the asked name. ``known`` are the names that there are."""

    def __init__(self, role: str, asked: str, known: Collection[str], hint: str = "") -> None:
        hint = f" {hint}" if hint else ""
        super().__init__(f"No {role} is named {asked!r}.{did_you_mean(asked, known)}{hint} Known: {listing(known)}.")
        self.known = tuple(known)


class AmbiguousStrategy(BillhookError, LookupError):
    """Two distributions offer the same name, and neither was singled out."""

    def __init__(self, role: str, asked: str, offered_by: Collection[str]) -> None:
        qualified = " or ".join(f"{dist}:{asked}" for dist in sorted(offered_by))
        super().__init__(f"The {role} name {asked!r} is offered by {listing(offered_by)}. Write {qualified}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing, on the CPU or an accelerator; by names and texts, since torch has no class for it."""
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return True
    told = isinstance(error, RuntimeError | OSError) or type(error).__name__ == "SafetensorError"
    return told and not isinstance(error, BillhookError) and any(text in str(error) for text in _NO_MEMORY)


_NO_MEMORY = ("DefaultCPUAllocator", "out of memory", "not enough memory", "Cannot allocate memory")
"""What torch says in a ``RuntimeError``, and the system where a file is mapped."""


def did_you_mean(asked: str, known: Collection[str]) -> str:
    """`` Did you mean 'x'?`` with a leading space, or nothing when no known name is near."""
    near = difflib.get_close_matches(asked, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def listing(names: Collection[str]) -> str:
    """Names in order, separated by commas; ``none`` for none."""
    return ", ".join(sorted(names)) or "none"


def first_line(error: BaseException) -> str:
    """The first line of somebody else's error that says something, for use within a line of ours."""
    return next((line.strip(" :") for line in str(error).splitlines() if line.strip(" :")), type(error).__name__)
