"""A gateway process whose application cannot be made."""

from typing import Any

from gateway.__main__ import start
from gateway.settings import Settings


def make_application(_metrics: object) -> Any:
    """Fail, as an application does whose parts cannot be made."""
    raise RuntimeError("no application today")


if __name__ == "__main__":
    start(Settings.from_environment(), make_application)
