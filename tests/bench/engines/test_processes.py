"""Processes that train: a single call in one, their environment, and that none outlives who asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from multiprocessing import forkserver
from pathlib import Path

import pytest

from adma.bench.engines import processes
from seen_processes import servers_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the call is made in this process")


def told(name: str) -> tuple[int, str | None, str]:
    warnings.warn("a word of warning", UserWarning, stacklevel=2)
    return os.getpid(), os.environ.get(name), os.getcwd()


def failing(words: str) -> None:
    raise ValueError(words)


def dying() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def imported() -> set[str]:
    return set(sys.modules)


def test_a_call_has_its_own_process_and_this_ones_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes.call("cpu", imported)  # the server is there, with the environment of now
    monkeypatch.setenv("ADMA_TOLD", "later")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="a word of warning"):
        pid, value, folder = processes.call("cpu", told, "ADMA_TOLD")
    assert pid != os.getpid()
    assert (value, Path(folder)) == ("later", tmp_path)
    monkeypatch.delenv("ADMA_TOLD")
    with pytest.warns(UserWarning, match="of warning"):
        assert processes.call("cpu", told, name="ADMA_TOLD")[1] is None


def test_what_it_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="the step failed"):
        processes.call("cpu", failing, "the step failed")


def test_a_process_that_ends_without_a_word_is_told() -> None:
    with pytest.raises(processes.EndedError, match=r"its process was killed \(SIGKILL\)"):
        processes.call("cpu", dying)


def test_where_the_server_is_killed_at_that_moment_another_one_begins_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is killed after it was asked and before it answers."""
    answer, asked = forkserver.read_signed, []

    def killed(handle: int) -> int:
        asked.append(handle)
        if len(asked) <= times:
            while not servers_of(os.getpid()):  # it may be forked and not be Python yet
                time.sleep(0.01)
            os.kill(servers_of(os.getpid())[0], signal.SIGKILL)
            while servers_of(os.getpid()):
                time.sleep(0.01)
            raise EOFError("unexpected EOF")
        return answer(handle)

    monkeypatch.setattr(forkserver, "read_signed", killed)
    times = 2
    assert processes.call("cpu", os.getpid) != os.getpid()
    asked.clear()
    times = 3
    with pytest.raises(processes.EndedError, match="was killed 3 times"):
        processes.call("cpu", os.getpid)
    asked.clear()
    times = 0
    assert processes.call("cpu", os.getpid) != os.getpid()


def test_it_begins_with_what_trains_imported_and_the_gpu_untouched() -> None:
    there = processes.call("cpu", imported)
    assert {"adma.bench.train", "torch._dynamo"} <= there
    assert "adma.bench.commands" not in there


def test_for_a_gpu_none_is_forked() -> None:
    assert processes.context("cuda:0").get_start_method() == "spawn"
    assert processes.context("cpu").get_start_method() == "forkserver"
    with pytest.warns(UserWarning, match="of warning"):
        assert processes.call("cuda", told, "HOME")[0] == os.getpid()


def test_where_a_socket_would_have_too_long_a_name_none_is_forked(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    code = (
        "import os\nfrom adma.bench.engines import processes\n"
        "if __name__ == '__main__':\n"
        "    one = processes.context('cpu')\n    print(one.get_start_method(), processes.call('cpu', os.getpid) > 0)"
    )
    program = tmp_path / "program.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, program], env={**os.environ, "TMPDIR": str(deep)}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["spawn", "True"], done.stderr


CODE = """
import os, time
from adma.bench.engines import processes

def wait(folder):
    processes.die_with()
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(600)

if __name__ == "__main__":
    import sys
    one = processes.context("cpu").Process(target=wait, args=(sys.argv[1],))
    one.start()
    one.join()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_who_asked_for_it(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "program.py"
    program.write_text(CODE)
    (tmp_path / "there").mkdir()
    asking = subprocess.Popen([sys.executable, program, tmp_path / "there"])
    try:
        waits = _of(tmp_path / "there")
        asking.send_signal(number)
        assert asking.wait(60) == -number
    finally:
        asking.kill()
    end = time.monotonic() + 60
    while _alive(waits):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_does_not_hear_what_all_processes_of_a_command_are_told(number: signal.Signals) -> None:
    """A terminal's Ctrl-C in the middle of its imports too."""
    code = (
        "import os, signal, time\nfrom adma.bench.engines import processes\n"
        "if __name__ == '__main__':\n"
        f"    signal.signal({int(number)}, lambda *_: print('heard', flush=True))\n"
        "    processes.expect('local', 'cpu')\n    time.sleep(0.5)\n"
        f"    os.killpg(0, {int(number)})\n    print(processes.call('cpu', abs, -1))\n"
        f"    os.killpg(0, {int(number)})\n    print(processes.call('cpu', abs, -2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, start_new_session=True
    )
    assert (done.stdout.split(), done.stderr) == (["heard", "1", "heard", "2"], "")


def _of(folder: Path) -> int:
    end = time.monotonic() + 120
    while not list(folder.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return int(next(folder.iterdir()).name)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
