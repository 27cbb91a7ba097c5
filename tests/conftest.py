"""For all tests."""

import os

# before torch is loaded, as the command line and the service do it: waiting threads must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
