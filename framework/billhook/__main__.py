"""``python -m billhook``."""

import sys

from billhook.cli import main

if __name__ == "__main__":
    sys.exit(main())
