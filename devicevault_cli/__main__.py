"""python -m devicevault_cli"""

from __future__ import annotations

import sys

from devicevault_cli.entry import main

sys.exit(main())
