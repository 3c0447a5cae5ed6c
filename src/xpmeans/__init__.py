"""K-means and vector quantization for every Python array library."""

from importlib.metadata import version
from typing import Any

from xpmeans._dispatch import array_api
from xpmeans.capabilities import Capabilities, UnsupportedBackendError, capabilities

__version__ = version("xpmeans")
__all__ = ["Capabilities", "UnsupportedBackendError", "__version__", "array_api", "capabilities", "vq"]


def __getattr__(name: str) -> Any:
    if name == "vq":  # loaded when first used
        import xpmeans.vq

        return xpmeans.vq
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
