"""Requests that make a job, and make it once however often they come."""

import time
from collections.abc import Callable

from fastapi import Response
from sqlalchemy import Connection

from server.queue import idempotency, ownership
from server.queue.changes import Changes
from server.service import Service
from server.views import jobs as job_views
from server.web.routes.parameters import name_new
from server.wire.jobs import JobView


async def make_job(
    service: Service,
    response: Response,
    key: idempotency.Key | None,
    make: Callable[[Connection, float], str],
    *topics: str,
) -> JobView:
    """Make a job, or show the one that the same request made before."""

    def work(connection: Connection) -> tuple[JobView, bool]:
        job_id = known = idempotency.made_before(connection, key)
        if job_id is None:
            now = time.time()
            job_id = make(connection, now)
            idempotency.remember(connection, key, job_id=job_id, now=now)
        row, waiting = ownership.find_job(connection, job_id, None), service.waiting(connection)
        view = job_views.job_view(connection, row, waiting)
        return view, known is not None

    view, is_repeat = await service.write(work, Changes.QUEUE, *topics)
    service.changes.notify(view.id)
    name_new(response, f"/v1/jobs/{view.id}", is_repeat=is_repeat)
    return view
