"""What nobody needs any more is forgotten."""

from __future__ import annotations

from trio.testing import MockClock, wait_all_tasks_blocked

from minions import Resource, open_gru


class Shared(Resource):
    pass


class Twice(Resource):
    """Needs it under one name, and would like it under another."""

    needed: Shared
    wanted: Shared | None


async def test_what_was_needed_and_wanted_by_one_goes_with_it(
    autojump_clock: MockClock,
) -> None:
    async with open_gru(None) as gru:
        async with gru.borrow(Twice):
            assert len(gru.snapshot().components) == 2
        await wait_all_tasks_blocked()

        assert gru.snapshot().components == {}
