"""Law: one promise of a role, which can be tested by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import attrs

from billhook.errors import InvalidConfig, did_you_mean, listing
from billhook.testing.conformance.global_state import GlobalState


class BrokenLaw(AssertionError):
    """Something breaks its contract.

    Attributes:
        law: the name of the law that is broken.
    """

    def __init__(self, message: str, law: str) -> None:
        super().__init__(message)
        self.law = law


@attrs.frozen(eq=False, repr=False)
class Law:
    """One promise of a role, ready to be tested on one object: call it.

    In pytest every law is a test of its own::

        @pytest.mark.parametrize("law", estimator_laws(Mine()), ids=str)
        def test_mine_keeps(law):
            law()

    Attributes:
        name: words joined by ``-``; the name of the test.
        promise: what must hold, and how to bring it about, in one sentence.
        subject: what is tested.
        expected_failure: why it is known not to hold; empty if it must. Such a law must fail: once it holds, calling it
            raises, so that nobody goes on apologising for what is mended.
    """

    name: str
    promise: str
    subject: object
    check: Callable[[], None]
    expected_failure: str = ""

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Law({self.name!r}: {self.promise})"

    def __call__(self) -> None:
        """Test it. The process is left as it was: random numbers, dtypes, gradients.

        Raises:
            BrokenLaw: it does not hold, or it does and was expected not to.
        """
        try:
            with _tidied():
                self._try()
        except BrokenLaw:
            if not self.expected_failure:
                raise
            return
        if self.expected_failure:
            raise BrokenLaw(
                f"{self.subject!r} keeps the law {self.name!r}, which was expected to fail: {self.expected_failure}. "
                f"Take it off the expected failures.",
                self.name,
            )

    def _try(self) -> None:
        about = f"(law {self.name!r}: {self.promise})"
        try:
            self.check()
        except BrokenLaw as error:  # of a part: it has said so
            said = str(error).replace(f"(law {error.law!r}", f"(law {self.name!r}")
            raise BrokenLaw(said, self.name) from error
        except AssertionError as error:
            raise BrokenLaw(f"{error} {about}", self.name) from error
        except Exception as error:  # whatever comes out of a stranger's code is the finding
            said = f"{type(error).__name__} was raised: {error}"
            raise BrokenLaw(f"{self.subject!r} breaks its contract: {said} {about}", self.name) from error


Promise = tuple[str, str, Callable[[], None]]
"""Name, promise and check of a law to be."""


def suite(
    subject: object,
    promises: Iterable[Promise],
    expected_failures: Mapping[str, str] | None = None,
) -> list[Law]:
    """Laws for ``subject`` of names, promises and checks.

    Raises:
        InvalidConfig: a failure is expected of a law that there is not, or no reason is given.
    """
    expected = dict(expected_failures or {})
    made = [Law(name, promise, subject, check, expected.pop(name, "")) for name, promise, check in promises]
    for name in expected:
        known = [law.name for law in made]
        raise InvalidConfig(f"There is no law {name!r}.{did_you_mean(name, known)} Known: {listing(known)}.")
    for name, reason in (expected_failures or {}).items():
        if not (isinstance(reason, str) and reason.strip()):
            raise InvalidConfig(f"Say why the law {name!r} is expected to fail; got {reason!r}.")
    return made


def keep(laws: Iterable[Law]) -> None:
    """Test all; the first that is broken raises."""
    for law in laws:
        law()


@contextmanager
def _tidied() -> Iterator[None]:
    before = GlobalState()
    try:
        yield
    finally:
        before.restore()
