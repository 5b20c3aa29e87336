"""nbval runs the labs' source notebooks with the network blocked, as it does the lectures."""

import os
from pathlib import Path

OFFLINE = Path(__file__).resolve().parents[1] / "tests" / "offline"

# Notebook kernels inherit the environment; in this process it is too late, and not needed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
os.environ["OPTCOURSE_PROGRESS"] = "off"
