"""What all tests share."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exact",
        action="store_true",
        help="compare all 500 generated pictures with Keras, not only the fixed 60",
    )
