"""Failures that only the client tells apart: to callers, each is a model that is not available."""

from gateway.errors import ModelUnavailable


class Unreachable(ModelUnavailable):
    """No server took the call, or the connection broke: another try may meet one that is there."""


class VersionMoved(Unreachable):
    """The server that had the version unloaded it before it was asked."""
