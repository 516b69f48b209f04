"""What every test may lean on: services that are quiet, keep to this machine and write to a folder of their own."""

import os
import tempfile

from jaxtyping import install_import_hook

# Services read these when they are imported, so they stand before every other import.
_home = tempfile.mkdtemp(prefix="skyloom-tests-")
os.environ |= {
    "DO_NOT_TRACK": "1",
    "MUJOCO_GL": "egl",
    "PREFECT_HOME": f"{_home}/prefect",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SKYLOOM_HOME": f"{_home}/artifacts",
}
for _name in ("RAY_ADDRESS", "PREFECT_API_URL"):
    os.environ.pop(_name, None)

# Shapes in the signatures of model/ are checked in tests only: they cannot rot, and production pays nothing. Modules
# whose methods give `Self` are left out, since beartype takes that word only on classes that it decorates itself.
SHAPED = (
    "autoencoder",
    "autoencoder_blocks",
    "diffusion",
    "guidance",
    "layers",
    "pixels",
    "rope",
    "sampling",
    "streaming",
    "transformer",
)
install_import_hook([f"model.{name}" for name in SHAPED], "beartype.beartype")
