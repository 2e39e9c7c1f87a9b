"""Whether the process that wrote a file still runs."""

import subprocess
import sys
from dataclasses import replace

import pytest

from latentrt.runtime.system.process_identity import ProcessIdentity


def test_this_process_runs_and_its_text_gives_it_again() -> None:
    own = ProcessIdentity.own()
    assert not own.has_ended()
    assert ProcessIdentity.from_text(own.to_text()) == own


@pytest.mark.skipif(sys.platform == "win32", reason="there it is never known")
def test_a_process_that_ended_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    assert replace(ProcessIdentity.own(), number=child.pid).has_ended()


@pytest.mark.skipif(sys.platform != "linux", reason="start times of processes are read from /proc")
def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    other = replace(ProcessIdentity.own(), started="1")
    assert other.has_ended()
    assert not replace(other, namespace="pid:[1]").has_ended(), "unknown from here"


@pytest.mark.parametrize("text", ["", "{", "null", "a b", "a -1 c", "a 1.5 c", "a ² c", f"a {'9' * 5000} c", "[" * 900])
def test_a_damaged_text_gives_no_identity(text: str) -> None:
    assert ProcessIdentity.from_text(text) is None
