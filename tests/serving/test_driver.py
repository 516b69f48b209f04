"""Statements that go to SQLite's driver give what they give through SQLAlchemy, and fail as there."""

import pytest
from sqlalchemy import column, select, table
from sqlalchemy.exc import OperationalError

from serving.store.admission import WAITING
from serving.store.driver import first_row
from serving.store.jobs import JobTable, NewJob
from serving.store.statements import CLAIMABLE, HELD, OUTLOOK, UNFINISHED

NEW = NewJob(model="skyloom", prompt="a red ball", seconds="1", size="48x32", settings={})


def test_the_same_row_as_through_sqlalchemy(jobs: JobTable) -> None:
    for _ in range(3):
        jobs.create(NEW)
    lease = jobs.claim("w", lease_s=60)
    assert lease is not None
    mine = {"of_id": lease.job.id, "of_fence": lease.fence}
    asked = [
        (WAITING, {}, (2,)),
        (UNFINISHED, {}, (3,)),
        (OUTLOOK, {"sequence": 3}, (1, None)),
        (CLAIMABLE, {"now": 0.0}, (True, False)),
        (HELD, mine, (lease.job.sequence,)),
        (HELD, mine | {"of_fence": lease.fence + 1}, None),
    ]
    with jobs.database.connect() as connection:
        for query, values, expected in asked:
            assert first_row(connection, query, values) == connection.execute(query, values).first() == expected
    for query, values, expected in asked:
        assert jobs.database.first(query, values) == expected


def test_a_statement_that_cannot_be_run_fails_as_in_sqlalchemy(jobs: JobTable) -> None:
    if jobs.database.is_postgresql:
        pytest.skip("the driver of SQLite alone")
    with pytest.raises(OperationalError, match="no such table: absent"):
        jobs.database.first(select(column("id")).select_from(table("absent")))
