"""The tests of the built-in strategies; and, for all tests, what hypothesis draws from.

Both are called strategies, and the folder mirrors the room of that name, so this is the one place for
``from tests.strategies import …``.
"""

from billhook.testing import adapters as adapters
from billhook.testing import budgets as budgets
from billhook.testing import cut_sequences as cut_sequences
from billhook.testing import cuts as cuts
from billhook.testing import linear_maps as linear_maps
from billhook.testing import plans as plans
from billhook.testing import planted_problems as planted_problems
from billhook.testing import spans as spans
from billhook.testing import tiny_models as tiny_models
from billhook.testing import token_batches as token_batches
