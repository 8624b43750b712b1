"""python -m devicevault_cli"""

from __future__ import annotations

from devicevault_cli.cli.entry import main

main()
