"""Requests that schemathesis makes of the OpenAPI document, valid and not, aimed at things that
exist, and walks along the links between answers: no answer may be a 5xx, or none.

The requests are those of the contract's tests, many more of them.
"""

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import requests
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable

from tests.chaos.proof import Counted

AT_ONCE = 25  # most requests of one operation, and walks, before the next
OPERATIONS = 100  # and some less: of which each is asked
MOST_REQUESTS = 10_000  # of one server


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

    def is_enough(most: int = rounds) -> bool:
        return asked.requests >= most or (not protected and bool(asked.found))

    with nullcontext() if protected else _a_missing_job_is_not_handled():
        while not is_enough():
            place = Path(tempfile.mkdtemp(dir=folder))
            with OrreryServer(place) as server, requests.Session() as session:
                session.trust_env = False
                most = min(rounds, asked.requests + MOST_REQUESTS)
                at_once = max(1, min(AT_ONCE, rounds // OPERATIONS))
                limits = settings(
                    max_examples=at_once,
                    stateful_step_count=6,
                    database=None,
                    deadline=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                world = World(contract, server, session, limits)
                _ask_all(asked, partial(is_enough, most), world, random)
    return Counted(asked.requests, len(asked.found), found=asked.found[:20])


class World(NamedTuple):
    """Whom to ask, how, and as often."""

    contract: Any  # the module of the tests
    server: Any
    session: requests.Session
    limits: settings


def _ask_all(asked: Asked, is_enough: Callable[[], bool], world: World, random: Random) -> None:
    operations = [result.ok() for result in world.contract.CONTRACT.get_all_operations()]
    random.shuffle(operations)
    while not is_enough():
        for operation in operations:
            if not is_enough():
                world.server.empty()
                _ask_one(asked, operation, world, random)
        _walk(asked, world)


def _ask_one(asked: Asked, operation: Any, world: World, random: Random) -> None:
    from schemathesis import GenerationMode

    things = world.contract.World(world.server, world.session)
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

        @seed(random.getrandbits(64))
        @world.limits
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            asked.look(case.operation.label, lambda: things.answer(case))

        try:
            ask()
        except Unsatisfiable:  # nothing can be made wrong in this operation
            continue


def _walk(asked: Asked, world: World) -> None:
    links = world.contract.contract("positive").exclude(path_regex=world.contract.NOT_WALKED)
    headers = {"Authorization": f"Bearer {world.server.admin_token}"}

    class Walk(links.as_state_machine()):
        """What one answer names is what the next request asks for."""

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": world.server.url, "session": world.session, "headers": headers}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            asked.look(case.operation.label, lambda: response)

    Walk.run(settings=world.limits)


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
