"""nbval runs the lectures with the network blocked.

Cells for a GPU are skipped where there is none, or rehearsed on the CPU in miniature with ``OPTCOURSE_REHEARSE=1``.
"""

import os
from pathlib import Path

import pytest
import torch

OFFLINE = Path(__file__).resolve().parents[1] / "tests" / "offline"

# Notebook kernels inherit the environment; in this process it is too late, and not needed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
os.environ["OPTCOURSE_PROGRESS"] = "off"


def pytest_collection_modifyitems(items):
    if os.environ.get("OPTCOURSE_REHEARSE") == "1" or torch.cuda.is_available():
        return
    for item in items:
        tags = getattr(item, "cell", {}).get("metadata", {}).get("tags", [])
        if "gpu" in tags:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
