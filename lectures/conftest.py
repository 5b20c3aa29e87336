"""nbval runs the lectures with the network blocked, and skips GPU cells where there is no GPU."""

import os
from pathlib import Path

import pytest
import torch

OFFLINE = Path(__file__).resolve().parents[1] / "tests" / "offline"

# Notebook kernels inherit the environment; in this process it is too late, and not needed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH", "")]))
os.environ["OPTCOURSE_PROGRESS"] = "off"


def pytest_collection_modifyitems(items):
    for item in items:
        tags = getattr(item, "cell", {}).get("metadata", {}).get("tags", [])
        if "gpu" in tags and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
