"""``python -m d2l_deeprnn``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
