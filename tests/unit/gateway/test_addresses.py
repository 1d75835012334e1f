import threading

import pytest

from gateway.deadline import Deadline
from gateway.errors import ModelUnavailable
from gateway.model_client.addresses import Address, Addresses, look_up, target_uri

NAME = ("serving", 8500)


@pytest.mark.parametrize(
    ("addresses", "uri"),
    [
        ([("serving.default.svc", 8500)], "dns:///serving.default.svc:8500"),
        ([("10.0.0.1", 8500)], "ipv4:10.0.0.1:8500"),
        ([("10.0.0.1", 8500), ("10.0.0.2", 8501)], "ipv4:10.0.0.1:8500,10.0.0.2:8501"),
        ([("::1", 8500)], "ipv6:[::1]:8500"),
        ([("::1", 1), ("fd00::2", 2)], "ipv6:[::1]:1,[fd00::2]:2"),
    ],
)
def test_a_name_is_resolved_by_grpc_and_addresses_are_taken_as_they_are(
    addresses: list[Address], uri: str
) -> None:
    assert target_uri(addresses) == uri


@pytest.mark.parametrize(
    "addresses",
    [[], [("a", 1), ("b", 1)], [("a", 1), ("10.0.0.1", 1)], [("::1", 1), ("10.0.0.1", 1)]],
)
def test_what_grpc_cannot_balance_over_is_refused(addresses: list[Address]) -> None:
    with pytest.raises(ValueError, match="IP addresses of one family"):
        target_uri(addresses)


class Resolver:
    """Answers with what it is told to, and counts."""

    def __init__(self, *answers: tuple[Address, ...] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[Address] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, name: Address) -> tuple[Address, ...]:
        self.asked.append(name)
        self.may_answer.wait(20)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_addresses_are_not_looked_up() -> None:
    resolver = Resolver()
    addresses = Addresses([("10.0.0.1", 1), ("10.0.0.2", 2)], resolver)
    assert addresses.resolve(Deadline.after(5)) == (("10.0.0.1", 1), ("10.0.0.2", 2))
    assert not resolver.asked
    assert not addresses.alone()
    assert Addresses([("10.0.0.1", 1)]).alone()


def test_a_name_is_looked_up_again_once_its_answer_is_old() -> None:
    first, second = (("10.0.0.1", 8500),), (("10.0.0.2", 8500),)
    resolver = Resolver(first, second)
    addresses = Addresses([NAME], resolver, fresh_seconds=0.0)
    assert addresses.resolve(Deadline.after(5)) == first
    assert addresses.resolve(Deadline.after(5)) == second
    assert resolver.asked == [NAME, NAME]
    assert not addresses.alone()


def test_a_fresh_answer_is_used_again() -> None:
    resolver = Resolver((("10.0.0.1", 8500),))
    addresses = Addresses([NAME], resolver, fresh_seconds=600.0)
    assert addresses.resolve(Deadline.after(5)) == addresses.resolve(Deadline.after(5))
    assert resolver.asked == [NAME]


@pytest.mark.parametrize("error", [OSError("no such name"), UnicodeError("label too long")])
def test_while_a_name_cannot_be_resolved_the_older_addresses_hold(error: Exception) -> None:
    known = (("10.0.0.1", 8500),)
    addresses = Addresses([NAME], Resolver(known, error), fresh_seconds=0.0)
    assert addresses.resolve(Deadline.after(5)) == known
    assert addresses.resolve(Deadline.after(5)) == known


def test_a_name_that_was_never_resolved_is_unavailable() -> None:
    addresses = Addresses([NAME], Resolver(OSError("no such name")))
    with pytest.raises(ModelUnavailable) as caught:
        addresses.resolve(Deadline.after(5))
    assert "serving" not in caught.value.message
    assert "serving:8500" in caught.value.log_detail


def test_a_resolver_that_hangs_holds_nobody_past_the_deadline_and_is_asked_once() -> None:
    resolver = Resolver((("10.0.0.1", 8500),))
    resolver.may_answer.clear()
    addresses = Addresses([NAME], resolver)
    for _ in range(3):
        with pytest.raises(ModelUnavailable):
            addresses.resolve(Deadline.after(0.02))
    resolver.may_answer.set()
    assert addresses.resolve(Deadline.after(5)) == (("10.0.0.1", 8500),)
    assert resolver.asked == [NAME]


def test_the_systems_resolver_gives_each_address_once() -> None:
    found = look_up(("localhost", 8500))
    assert len(found) == len(set(found))
    assert set(found) <= {("127.0.0.1", 8500), ("::1", 8500)}
    assert found


@pytest.mark.parametrize(
    ("target", "address", "spare"),
    [
        (("localhost", 1), ("::1", 1), True),
        (("localhost", 1), ("10.0.0.1", 1), False),
        (("127.0.0.1", 1), ("127.0.0.1", 1), False),
    ],
)
def test_loopback_behind_a_name_is_spare(target: Address, address: Address, spare: bool) -> None:
    assert Addresses([target]).is_spare(address) is spare
