"""Config files of TensorFlow Serving: read, and checked with its own sentences."""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from model.server.errors import ServingError, invalid

log = logging.getLogger(__name__)

PLATFORM = "tensorflow"
"""The one platform that the official server has adapters for."""

URI = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")


def read_text_proto(path: str, message: Any) -> Any:
    """Fill a message from a text file.

    Raises:
        ServingError: NOT_FOUND, it cannot be read; INVALID_ARGUMENT, it does not parse.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ServingError(
            grpc.StatusCode.NOT_FOUND, f"{path}; {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT, f"Invalid protobuf file: '{path}': {error}"
        ) from error
    return parse_text_proto(text, message, path)


def parse_text_proto(text: str, message: Any, source: str) -> Any:
    """Fill a message from text; `source` is what the error names."""
    try:
        return text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ServingError(
            grpc.StatusCode.INVALID_ARGUMENT, f"Invalid protobuf file: '{source}': {error}"
        ) from error


def single_model(name: str, base_path: str) -> Any:
    """The config that --model_name and --model_base_path stand for."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=PLATFORM)
    return config


def platform_of(model: Any) -> str:
    """The platform that a model asks for, by either of the two fields."""
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        platform = str(model.model_platform)
    else:
        platform = _platform_of_type(model)
    if not platform:
        invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    return platform


def _platform_of_type(model: Any) -> str:
    log.warning(
        "Deprecated ModelServerConfig::model_type field used. "
        "Prefer ModelServerConfig::model_platform."
    )
    if model.model_platform:
        invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    if model.model_type != model_server_config_pb2.TENSORFLOW:
        invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return PLATFORM


def check_models(models: Any) -> None:
    """Refuse a list that names a model twice or has a relative path.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
    for model in models:
        if not posixpath.isabs(model.base_path) and not URI.match(model.base_path):
            invalid(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )


def check_platforms(models: Any) -> None:
    """Refuse a platform that no adapter is for.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    for model in models:
        platform = platform_of(model)
        if platform != PLATFORM:
            invalid(f"Model {model.name} requests unsupported platform {platform}")


def check_unchanged_platforms(old: Any, new: Any) -> None:
    """Refuse to change the platform of a model that is served.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    platforms = {model.name: platform_of(model) for model in old}
    for model in new:
        before = platforms.get(model.name)
        if before is not None and platform_of(model) != before:
            invalid(
                f"Illegal to change a model's platform. For model {model.name} platform was "
                f"{before} and new platform requested is {platform_of(model)}"
            )
