"""Ctrl-C ends the work wherever it falls."""

import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from spheremap.base.interruption import held_interrupts, lasting_interrupts


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C; these tests must not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Thing:
    """Something that can be referred to weakly."""


def test_an_interruption_in_a_callback_of_the_interpreter_is_not_lost() -> None:
    things = [Thing()]
    calls: list[str] = []

    def callback(reference: "weakref.ref[Thing]") -> None:
        calls.append("called")
        signal.raise_signal(signal.SIGINT)

    reference = weakref.ref(things[0], callback)

    def work() -> None:
        things.clear()
        assert calls == ["called"]
        assert reference() is None
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), lasting_interrupts():
        work()


def test_it_is_raised_anew_until_it_falls_outside_callbacks() -> None:
    calls: list[int] = []

    class Clumsy:
        def __del__(self) -> None:
            calls.append(1)
            raise KeyboardInterrupt

    def work() -> None:
        Clumsy()
        Clumsy()
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), lasting_interrupts():
        work()
    assert calls == [1, 1]


def test_an_error_that_a_library_makes_of_it_does_not_hide_it() -> None:
    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ValueError("this file is damaged") from None

    with pytest.raises(KeyboardInterrupt) as caught, lasting_interrupts():
        work()
    assert isinstance(caught.value.__cause__, ValueError)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_errors_in_callbacks_are_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable.exc_type))

    class Faulty:
        def __del__(self) -> None:
            raise ValueError("of a finaliser")

    hook = sys.unraisablehook
    with lasting_interrupts():
        Faulty()
    assert reported == [ValueError]
    assert sys.unraisablehook is hook


def test_everything_is_as_before_after_the_block() -> None:
    hook, alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    with pytest.raises(ZeroDivisionError), lasting_interrupts():
        _ = 1 / 0
    assert (sys.unraisablehook, signal.getsignal(signal.SIGALRM)) == (hook, alarm)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_thread_other_than_the_main_one_is_left_alone() -> None:
    ended: list[str] = []

    def work() -> None:
        with lasting_interrupts():
            ended.append("no error")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == ["no error"]


def test_a_held_interruption_comes_at_the_end_of_the_block() -> None:
    reached: list[str] = []

    def work() -> None:
        with held_interrupts():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["the end"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_process_started_while_interruptions_are_held_is_not_interrupted() -> None:
    program = "import time; print('ready', flush=True); time.sleep(0.3); print('whole')"
    with held_interrupts():
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate()
    assert (rest, process.returncode) == ("whole\n", 0)
