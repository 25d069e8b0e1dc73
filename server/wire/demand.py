"""What travels over HTTP about the work that there is for workers of one sort."""

from pydantic import Field

from server.wire.messages import View


class HeldBy(View):
    """A worker, and how much it has to do."""

    name: str
    slots: int
    jobs: int = Field(description="That it holds.")
    attempts: int = Field(description="That it has made, of any job.")


class Demand(View):
    """How many workers of one sort there is work for, for whoever starts them."""

    waiting: int = Field(description="Jobs that wait, may run, and such a worker can take.")
    workers: list[HeldBy] = Field(
        description="Those whose names begin so, and that were heard of in the last five minutes."
    )
