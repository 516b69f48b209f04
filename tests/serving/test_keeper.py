"""Leases under work: a worker that has a job a second time keeps the later one."""

from serving.config import ServeConfig
from serving.keeper import LeaseKeeper
from serving.store.jobs import JobTable, Lease, NewJob
from serving.store.served import ServedTable


def test_an_earlier_attempt_at_the_same_job_lets_go_of_itself_alone(config: ServeConfig, jobs: JobTable) -> None:
    jobs.create(NewJob(model="skyloom", prompt="p", seconds="1", size="48x32", settings={}))
    first = jobs.claim("one", lease_s=-1)
    second = jobs.claim("one", lease_s=60)
    assert first
    assert second
    assert second.fence == first.fence + 1
    keeper = LeaseKeeper(config, jobs, ServedTable(jobs.database))
    keeper.hold([first])
    assert first in keeper
    keeper.hold([second])
    assert first not in keeper
    keeper.let_go([first])
    assert second in keeper
    keeper.let_go([Lease(second.job, second.fence)])
    assert second not in keeper
