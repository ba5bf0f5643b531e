"""The activations by name, and what of each its derivative is taken from."""

from __future__ import annotations

from typing import Any

# In the order of xent_activation in csrc/xent.h.
NAMES = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "gelu", "gelu_tanh", "silu")
CODES: dict[str | None, int] = {None: 0} | {name: code for code, name in enumerate(NAMES)}
OF_Z = frozenset((CODES["gelu"], CODES["gelu_tanh"], CODES["silu"]))  # the others follow from y


def activation_code(activation: Any) -> int:
    """The activation as the kernels know it."""
    try:
        return CODES[activation]
    except (KeyError, TypeError):
        accepted = ", ".join(map(repr, NAMES))
        raise ValueError(f"activation must be None or one of {accepted}; got {activation!r}") from None


def saved_kind(activation: str | None) -> str:
    """What `dense_backward` wants as `saved` for this activation: "y", the output, or "z", the pre-activation.

    Parameters
    ----------
    activation : str or None
        As for `dense`.

    Returns
    -------
    kind : {"y", "z"}
        "z" for "gelu", "gelu_tanh" and "silu", which are not monotonic: z does not follow from y. "y" for the others,
        so that nothing has to be kept beside the output.

    Raises
    ------
    ValueError
        An activation that there is not.

    See Also
    --------
    dense, dense_backward

    Examples
    --------
    >>> import xent
    >>> xent.saved_kind("relu"), xent.saved_kind("gelu")
    ('y', 'z')
    """
    return "z" if activation_code(activation) in OF_Z else "y"
