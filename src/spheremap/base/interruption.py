"""Interruptions from the keyboard (SIGINT) that reach whom they should, and are not lost."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN = 0.01  # s


@contextmanager
def lasting_interrupts() -> Iterator[None]:
    """Within the block Ctrl-C raises KeyboardInterrupt wherever it falls.

    In a finaliser or a callback of a weak reference Python can only report an exception and go on; there the
    interruption is raised anew once the callback is over. A library that answers it with an error of its
    own does not hide it: the block ends with KeyboardInterrupt, whose cause is that error. Outside the main
    thread, which alone is interrupted, the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    report, interrupted = sys.unraisablehook, False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            report(unraisable)

    alarm = signal.signal(signal.SIGALRM, signal.default_int_handler)
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not in a shell's background
    if heeded:
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = hook
    try:
        yield
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        signal.signal(signal.SIGALRM, alarm)
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Within the block Ctrl-C waits for its end; processes started in it are never interrupted.

    It reaches every process of a terminal; the one that started the others is to answer alone.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
