"""Public data sets, read from the folder that HEADGATE_DATA_DIR names; skipped where there is none."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("HEADGATE_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("HEADGATE_DATA_DIR names no folder")
    return Path(folder)
