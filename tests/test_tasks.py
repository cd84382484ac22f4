"""Tasks in worker processes: each of them ends, whatever becomes of its worker."""

import os
import signal
import time

import pytest

from pase_msa import tasks
from pase_msa.errors import PaSEError
from pase_msa.tasks import KILLED, run_tasks


def square(x):
    return x * x


def killed_at_two(x):
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def killed_once(x, marker):
    if x == 2 and not os.path.exists(marker):
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def fails_at_two(x):
    if x == 2:
        raise KeyError("two")
    return x * x


def stops_at_two(x):
    if x == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
    return x * x


def leaves_at_two(x):
    if x == 2:
        os._exit(7)
    return x * x


def sleeps_at_two(x):
    time.sleep(600 if x == 2 else 0)
    return x * x


def without_memory_at_two(x):
    if x == 2:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
        return len(bytearray(2**33))
    return x * x


def outcomes(function, count=6, *more, **options):
    found = list(run_tasks(function, [(x, *more) for x in range(count)], jobs=2, **options))
    assert sorted(one.index for one in found) == list(range(count))
    return {one.index: one for one in found}


def squares(found, without=()):
    return all(found[x].value() == x * x for x in found if x not in without)


def test_every_task_gives_its_result():
    assert squares(outcomes(square))


def test_a_function_of_the_main_program_travels_by_value():
    assert squares(outcomes(lambda x: x * x))


def test_nothing_to_do_starts_nothing():
    assert list(run_tasks(square, [], jobs=2)) == []


def test_a_killed_worker_costs_its_own_task_only():
    found = outcomes(killed_at_two)
    assert found[2].lost == KILLED
    assert squares(found, {2})
    with pytest.raises(PaSEError, match="killed"):
        found[2].value()


def test_a_task_whose_worker_died_once_is_tried_again(tmp_path):
    assert squares(outcomes(killed_once, 6, str(tmp_path / "marker")))


def test_an_exception_is_the_tasks_own():
    found = outcomes(fails_at_two)
    assert isinstance(found[2].error, KeyError)
    assert squares(found, {2})


def test_a_frozen_worker_costs_its_own_task_only():
    found = outcomes(stops_at_two, 4, seconds=3)
    assert "longer than the limit of 3 s" in found[2].lost
    assert squares(found, {2})


def test_workers_that_are_killed_while_they_start_cost_their_own_task_only(monkeypatch, tmp_path):
    """The first four workers die before they hear of a task."""
    marks = f"import os; place = {str(tmp_path)!r}; early = len(os.listdir(place)) < 4;"
    die = "early and (os.mkdir(f'{place}/{os.getpid()}'), os.kill(os.getpid(), 9));"
    monkeypatch.setattr(tasks, "_START", marks + die + tasks._START)
    found = list(run_tasks(square, [(x,) for x in range(3)], jobs=1))
    assert {one.index for one in found} == {0, 1, 2}
    assert [one.lost for one in found].count(KILLED) == 1
    assert all(one.result == one.index**2 for one in found if one.lost is None)


def test_a_worker_that_leaves_says_its_status():
    found = outcomes(leaves_at_two, 3)
    assert "ended itself with status 7" in found[2].lost
    assert squares(found, {2})


def test_arguments_and_results_of_any_size_travel():
    assert [len(one.value()) for one in run_tasks(bytes.upper, [(b"a" * 10_000_000,)], jobs=1)] == [10_000_000]


def test_a_worker_without_memory_costs_its_own_task_only():
    found = outcomes(without_memory_at_two)
    assert isinstance(found[2].error, MemoryError)
    assert squares(found, {2})


def test_a_pool_that_loses_every_worker_at_once_goes_on():
    """The worst moment: each task kills its worker while the next one is being started."""
    found = list(run_tasks(killed_at_two, [(2,)] * 2 + [(3,)], jobs=2))
    assert [one.lost for one in sorted(found, key=lambda one: one.index)] == [KILLED] * 2 + [None]


def test_who_stops_listening_leaves_no_worker_behind():
    outcomes_ = run_tasks(sleeps_at_two, [(x,) for x in (0, 2, 2, 2)], jobs=2)
    assert next(outcomes_).value() == 0
    began = time.monotonic()
    outcomes_.close()
    assert time.monotonic() - began < 30


def test_a_time_limit_is_positive():
    with pytest.raises(PaSEError, match="above 0"):
        run_tasks(square, [(1,)], jobs=1, seconds=0)
