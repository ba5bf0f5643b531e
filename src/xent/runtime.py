"""What runs, and on how many threads."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from xent import _kernels
from xent._blas import accumulation

__all__ = ["__version__", "config", "get_num_threads", "set_num_threads", "show_config"]

__version__: str = _kernels.version()


def get_num_threads() -> int:
    """The number of threads a call may use, the calling one included.

    Until `set_num_threads` is called: ``XENT_NUM_THREADS``, else ``OMP_NUM_THREADS``, else the CPUs that the process
    may run on (affinity mask, cgroup quota).

    Examples
    --------
    >>> import xent
    >>> xent.get_num_threads() >= 1
    True
    """
    return int(_kernels.get_num_threads())


def set_num_threads(n: int) -> None:
    """Let calls of this process use up to `n` threads (1 to 256). No result depends on it.

    Raises
    ------
    ValueError
        `n` is not a positive integer.

    Examples
    --------
    >>> import xent
    >>> before = xent.get_num_threads()
    >>> xent.set_num_threads(1)
    >>> xent.get_num_threads()
    1
    >>> xent.set_num_threads(before)
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"the number of threads must be a positive integer, got {n!r}")
    _kernels.set_num_threads(min(int(n), 256))


def config() -> dict[str, Any]:
    """What `show_config` prints, as a dict."""
    return {
        "version": __version__,
        "tier": _kernels.tier(),
        "tiers": _kernels.tiers(),
        "threads": get_num_threads(),
        "compiler": _kernels.compiler(),
        "accumulation": accumulation(),
        "numpy": np.__version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def show_config() -> None:
    """Print the version, the tiers usable here, the one that is live, threads, compiler and NumPy.

    The live tier is read from the table of kernels that calls go through.
    """
    width = max(map(len, config()))
    for key, value in config().items():
        print(f"{key:<{width}}  {', '.join(value) if isinstance(value, list) else value}")


def _force_tier() -> None:
    """Honour ``XENT_TIER``: a tier that is not to be had here is an error, not a fallback."""
    wanted = os.environ.get("XENT_TIER")
    if wanted:
        try:
            _kernels.set_tier(wanted)
        except ValueError as error:
            raise ImportError(f"XENT_TIER={wanted}: {error}") from None


def _tell_threadpoolctl() -> None:
    """Let threadpoolctl, where it is installed, see and limit our threads."""
    try:
        import threadpoolctl
    except ImportError:
        return

    class XentController(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = "xent"
        internal_api = "xent"
        filename_prefixes = ("_kernels",)
        check_symbols = ("xent_get_num_threads", "xent_set_num_threads")

        def get_num_threads(self) -> int:
            return int(self.dynlib.xent_get_num_threads())

        def set_num_threads(self, num_threads: int) -> None:
            self.dynlib.xent_set_num_threads(num_threads)

        def get_version(self) -> str:
            return __version__

        def set_additional_attributes(self) -> None:
            self.tier = _kernels.tier()

    threadpoolctl.register(XentController)


_force_tier()
_tell_threadpoolctl()
