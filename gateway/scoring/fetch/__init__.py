"""From a URL that a stranger wrote to bytes, without reaching what it should not."""

from gateway.scoring.fetch.fetcher import Fetcher
from gateway.scoring.fetch.url import loggable

__all__ = ["Fetcher", "loggable"]
