"""Which jobs are meant, and what is shown of them, as query parameters."""

import re
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AfterValidator

from server.wire.columns import ColumnText, ConditionText
from server.wire.job_lists import JobFilter
from server.wire.kinds import JobKind, Upload
from server.wire.messages import Instant
from server.wire.states import JobStatus

LABEL = re.compile(r"[A-Za-z0-9._:-]{1,64}=.*", re.DOTALL)


def _check_label(label: str) -> str:
    if not LABEL.fullmatch(label):
        raise ValueError("use KEY=TEXT; letters, digits and . _ : - in the key")
    return label


def _label(label: str) -> tuple[str, str]:
    key, _, text = label.partition("=")
    return key, text


Label = Annotated[
    str,
    Query(max_length=300, json_schema_extra={"pattern": "^[A-Za-z0-9._:-]{1,64}="}),
    AfterValidator(_check_label),
]


async def _wanted(
    status: Annotated[list[JobStatus] | None, Query(description="Only these states.")] = None,
    kind: Annotated[list[JobKind | Upload] | None, Query(description="Only these kinds.")] = None,
    name: Annotated[
        str | None,
        Query(max_length=200, description="Only this name; `*` stands for any characters."),
    ] = None,
    fragment: Annotated[
        str | None,
        Query(
            alias="id",
            pattern=r"^[0-9a-z_]{1,30}$",
            description="Only ids that begin or end so, with or without `job_`.",
        ),
    ] = None,
    metadata: Annotated[
        list[Label] | None,
        Query(max_length=10, description="Only jobs with this label, KEY=TEXT; all where several."),
    ] = None,
    created_after: Annotated[
        Instant | None,
        Query(description="Only younger ones; with a time zone."),
    ] = None,
    created_before: Annotated[
        Instant | None,
        Query(description="Only older ones; with a time zone."),
    ] = None,
    conditions: Annotated[
        list[ConditionText] | None,
        Query(
            alias="filter",
            max_length=20,
            description="Only where this is true, COLUMN OPERATOR VALUE, as in "
            "`part2/efficiency:max>0.9`; all where several. Operators: = != < <= > >=; in texts "
            "`*` stands for any characters; `null` is no value.",
        ),
    ] = None,
) -> JobFilter:
    return JobFilter.model_construct(
        status=status or [],
        kind=kind or [],
        name=name,
        id=fragment,
        metadata=dict(_label(label) for label in metadata or ()),
        created_after=created_after,
        created_before=created_before,
        filter=conditions or [],
    )


Wanted = Annotated[JobFilter, Depends(_wanted)]
Columns = Annotated[
    list[ColumnText] | None,
    Query(max_length=20, description="What to show of each job besides, as in `config/lr`."),
]
