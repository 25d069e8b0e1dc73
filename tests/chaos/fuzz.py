"""Requests that schemathesis makes of the OpenAPI document, valid and not, aimed at things that
exist, and walks along the links between answers: no answer may be a 5xx, or none.

The requests are those of the contract's tests, many more of them.
"""

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from typing import Any

import requests
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.chaos.proof import Counted

AT_ONCE = 25  # requests of one operation, and steps of walks, before the next
MOST_JOBS = 2000  # in one database


class Asked:
    """What was asked, and what was wrong with an answer."""

    def __init__(self) -> None:
        self.requests = 0
        self.found: list[str] = []

    def look(self, what: str, ask: Callable[[], Any]) -> Any:
        """Ask, and look at the answer."""
        self.requests += 1
        try:
            answer = ask()
        except requests.RequestException as error:
            self.found.append(f"{what}: {error!r}"[:300])
            raise
        if answer.status_code >= 500:
            self.found.append(f"{what}: {answer.status_code} {answer.text[:200]}")
        return answer


def run(random: Random, rounds: int, folder: Path, protected: bool) -> Counted:
    """Each round is a request."""
    from tests.server.conftest import OrreryServer
    from tests.server.web import test_contract as contract

    asked = Asked()
    with nullcontext() if protected else _a_missing_job_is_not_handled():
        while asked.requests < rounds and (protected or not asked.found):
            place = Path(tempfile.mkdtemp(dir=folder))
            with OrreryServer(place) as server, requests.Session() as session:
                session.trust_env = False
                most = min(rounds, asked.requests + MOST_JOBS * 5)
                _ask_all(asked, most, contract, server, session, random)
    return Counted(asked.requests, len(asked.found), found=asked.found[:20])


def _ask_all(
    asked: Asked,
    most: int,
    contract: Any,
    server: Any,
    session: requests.Session,
    random: Random,
) -> None:
    limits = settings(
        max_examples=AT_ONCE,
        stateful_step_count=6,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    operations = [result.ok() for result in contract.CONTRACT.get_all_operations()]
    random.shuffle(operations)
    while asked.requests < most:
        for operation in operations:
            server.empty()
            _ask_one(asked, operation, contract.World(server, session), limits, random)
        _walk(asked, contract, server, session, limits)


def _ask_one(asked: Asked, operation: Any, world: Any, limits: settings, random: Random) -> None:
    from schemathesis import GenerationMode

    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @seed(random.getrandbits(64))
        @limits
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            asked.look(case.operation.label, lambda: world.answer(case))

        try:
            ask()
        except Exception as error:
            if "Unsatisfiable" not in type(error).__name__:
                raise


def _walk(
    asked: Asked, contract: Any, server: Any, session: requests.Session, limits: settings
) -> None:
    links = contract.contract("positive").exclude(path_regex=contract.NOT_WALKED)

    class Walk(links.as_state_machine()):
        """What one answer names is what the next request asks for."""

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {server.admin_token}"}
            return {"base_url": server.url, "session": session, "headers": headers}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            asked.look(case.operation.label, lambda: response)

    Walk.run(settings=limits)


@contextmanager
def _a_missing_job_is_not_handled() -> Generator[None]:
    """The control: what is not there is an error of its own kind no more."""
    from server.queue import ownership

    whole: Any = ownership.NotFound
    ownership.NotFound = KeyError
    try:
        yield
    finally:
        ownership.NotFound = whole
