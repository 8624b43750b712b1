"""For a `dvctl` whose consumer names must not depend on what else consumes on this machine: it has a host of its own.

Python imports this by itself where the folder is on PYTHONPATH. See `tests.support.process.Dvctl.on_its_own_host`.
"""

import os
import socket

socket.gethostname = lambda: os.environ["DVCTL_TEST_HOST"]
