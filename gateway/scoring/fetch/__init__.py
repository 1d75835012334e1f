"""From a URL that a stranger wrote to bytes, without reaching what it should not."""

from gateway.scoring.fetch.fetcher import Fetcher

__all__ = ["Fetcher"]
