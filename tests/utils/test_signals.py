"""Requests to stop: noted, not obeyed at once; the second Ctrl-C is."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from utils.signals import StopRequest, stop_requests


def send(name: str) -> None:
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_is_noted(name, capfd):
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with stop_requests() as request:
        assert request.by == ""
        send(name)
        assert request.by == name
        send("SIGTERM")
        send("SIGUSR1")
        assert request.by == name
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before
    assert capfd.readouterr().err == f"\n{name}: stopping as soon as everything is saved; Ctrl-C twice exits at once\n"


def test_the_second_interrupt_ends_at_once(capfd):
    before = signal.getsignal(signal.SIGINT)
    with stop_requests(quiet=True):
        send("SIGTERM")
        send("SIGINT")
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")
    assert signal.getsignal(signal.SIGINT) is before
    assert capfd.readouterr().err == ""


def test_an_echo_of_the_interrupt_is_none(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("utils.signals.time.monotonic", lambda: now[0])
    with stop_requests(apart=2, quiet=True) as request:
        send("SIGINT")
        now[0] += 1.9
        send("SIGINT")
        assert request.by == "SIGINT"
        now[0] += 0.2
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as request:
            send("SIGINT")
            assert request.by == ""
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_a_thread_nothing_changes():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stop_requests() as request:
            found.append((request.by, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [("", before)]


def test_a_copy_in_a_forked_process_notes_nothing():
    request = StopRequest(quiet=True)
    request._owner += 1
    request.take(signal.SIGINT, None)
    request.take(signal.SIGINT, None)
    assert request.by == ""
