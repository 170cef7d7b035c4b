"""Whatever a reader of models raises, said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from billhook.errors import BillhookError, ModelNotFound, UnusableModel, first_line, is_out_of_memory

LONGEST = 400
"""Characters of somebody else's message that are passed on."""

_BARE = (KeyError, AttributeError, TypeError, ZeroDivisionError, IndexError, AssertionError)
"""Their texts do not say what they are: ``'gelu_11'`` alone is a KeyError's."""


@contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """Around calls of transformers, torch, safetensors or gguf that read the model ``name``; all of them do.

    What a file can make those raise is not for us to know: strict configs, refused pickles, divisions by a count of 0.

    Raises:
        UnusableModel: a package is missing.
        ModelNotFound: anything else went wrong; missing memory and what billhook itself says go through.
    """
    try:
        yield
    except BillhookError:
        raise
    except ImportError as error:
        raise UnusableModel(f"The model {name} needs a package that is not installed: {first_line(error)}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise unloadable(name, error) from error


def unloadable(name: str, error: BaseException) -> ModelNotFound:
    """The error that says why the model ``name`` cannot be loaded."""
    if "custom code" in str(error):  # transformers' own way out is an argument that billhook does not have
        return ModelNotFound(
            f"The model {name} cannot be loaded: it contains custom code, and billhook runs none. In Python, load it "
            f"with transformers (trust_remote_code=True) and hand the model to billhook.Pruner."
        )
    return ModelNotFound(f"The model {name} cannot be loaded: {reason(error)}")


def reason(error: BaseException) -> str:
    """All lines of an error's text in one, with its type where the text alone would say nothing."""
    said = " ".join(str(error).split()).strip(" :")
    if isinstance(error, _BARE) or not said:
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
