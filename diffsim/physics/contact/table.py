"""The contact models by name; what is listed here inherits the contract tests of the table."""

from typing import Any

from diffsim.physics.contact.base import Contact
from diffsim.physics.contact.compliant import Compliant
from diffsim.physics.contact.impulse import Impulse
from diffsim.physics.contact.smoothed import Smoothed

CONTACTS: dict[str, Any] = {"impulse": Impulse, "compliant": Compliant, "smoothed": Smoothed}


def make(name: str, **settings) -> Contact:
    """A contact model by name, with checked settings.

    Raises:
        ValueError: an unknown name, or a setting out of range.
        TypeError: an unknown setting.

    >>> make("impulse", rest_speed=0.02).rest_speed.item() > 0
    True
    >>> make("glue")
    Traceback (most recent call last):
    ...
    ValueError: contact: expected one of impulse, compliant, smoothed, got 'glue'
    """
    if name not in CONTACTS:
        raise ValueError(f"contact: expected one of {', '.join(CONTACTS)}, got {name!r}")
    return CONTACTS[name].create(**settings)
