"""Finds the versions of a model below its base path, and chooses those to serve."""

import logging
import posixpath
import re
from typing import Any

import tensorflow as tf

from model.server.errors import invalid

log = logging.getLogger(__name__)

INT64 = range(-(2**63), 2**63)
NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")


def find_versions(name: str, base_path: str, policy: Any) -> dict[int, str]:
    """The paths of the versions that the policy wants, by version.

    Raises:
        ServingError: INVALID_ARGUMENT, the base path does not exist.
    """
    if not tf.io.gfile.exists(base_path):
        invalid(
            f"Could not find base path {base_path} for servable {name} "
            f"with error NOT_FOUND: {base_path} not found"
        )
    children = children_by_version(base_path)
    chosen = _chosen(name, children, policy)
    if not chosen:
        log.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your "
            "leaf directory as a number (eg. '/1/')?",
            name,
            base_path,
        )
    return {version: posixpath.join(base_path, child) for version, child in chosen.items()}


def children_by_version(base_path: str) -> dict[int, str]:
    """Children whose names are int64 numbers; of two with one number the last by name counts."""
    found: dict[int, str] = {}
    # Object stores list whole trees, so only the first part of each name counts.
    for child in sorted({path.split("/")[0] for path in tf.io.gfile.listdir(base_path)}):
        version = version_number(child)
        if version is None:
            continue
        if version in found:
            log.warning(
                "Duplicate version directories detected. Version %d will be loaded from %s, "
                "%s will be ignored.",
                version,
                child,
                found[version],
            )
        found[version] = child
    return found


def version_number(child: str) -> int | None:
    """The number that a directory's name says, if it says one: `00000123` is 123."""
    if not NUMBER.fullmatch(child) or not child.isascii():
        return None
    number = int(child)
    return number if number in INT64 else None


def _chosen(name: str, children: dict[int, str], policy: Any) -> dict[int, str]:
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return children
    if choice == "specific":
        return _specific(name, children, list(policy.specific.versions))
    count = max(policy.latest.num_versions, 1)
    return {version: children[version] for version in sorted(children, reverse=True)[:count]}


def _specific(name: str, children: dict[int, str], wanted: list[int]) -> dict[int, str]:
    for version in wanted:
        if version not in children:
            log.warning(
                "Version %d of servable %s, which was requested to be served as a 'specific' "
                "version in the servable's version policy, was not found in the file system",
                version,
                name,
            )
    return {version: children[version] for version in wanted if version in children}
