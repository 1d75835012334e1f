"""The one error that the core raises and each front turns into its protocol's answer."""

from typing import NoReturn

import grpc


class ServingError(Exception):
    """A request or a load failed, with the code and text that TensorFlow Serving gives."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """The form of a status in logs and in status messages: `NOT_FOUND: text`."""
        return f"{self.code.name}: {self.message}"


def invalid(message: str) -> NoReturn:
    """Raise INVALID_ARGUMENT with this text."""
    raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def failed_precondition(message: str) -> NoReturn:
    """Raise FAILED_PRECONDITION with this text."""
    raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def not_found(message: str) -> NoReturn:
    """Raise NOT_FOUND with this text."""
    raise ServingError(grpc.StatusCode.NOT_FOUND, message)


def unimplemented(message: str) -> NoReturn:
    """Raise UNIMPLEMENTED with this text."""
    raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
