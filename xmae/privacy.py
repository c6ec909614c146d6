"""Nothing phones home: usage statistics of the libraries that xmae uses are off.

Set before any of them is imported, in each process and those that it starts. Who wants one of them
sets its variable before, which is left as it is.
"""

import os

OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime looks up a host when a session opens
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # transformers and datasets too
    "DO_NOT_TRACK": "1",  # the common name, for whatever else is installed
}


def stay_home():
    """Turn off usage statistics of libraries, except where the user has set them."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
