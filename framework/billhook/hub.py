"""One short question to the hub, so that a wrong name or a missing network is told at once."""

from __future__ import annotations

from typing import Literal

from billhook.errors import first_line

HUB_SECONDS = 10.0
"""How long the hub may take to answer. Its own client retries for half a minute."""

Answer = Literal["found", "no such name", "no such file", "unreachable"]


def ask(name: str, file: str, kind: Literal["model", "dataset"] = "model") -> tuple[Answer, str]:
    """Whether the hub shows ``file`` of the repository ``name``; and the reason where it does not.

    Private and gated repositories have no such name for those who may not see them.
    """
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    try:
        get_hf_file_metadata(hf_hub_url(name, file, repo_type=kind), timeout=HUB_SECONDS)
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        return "no such name", first_line(error)
    except errors.EntryNotFoundError as error:
        return "no such file", first_line(error)
    except Exception as error:  # each version of the hub's client raises those of another HTTP library
        return "unreachable", first_line(error)
    return "found", ""


def is_cached(name: str, file: str, kind: Literal["model", "dataset"] = "model") -> bool:
    """Whether the hub's cache on this machine has the file."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, file, repo_type=kind), str)
