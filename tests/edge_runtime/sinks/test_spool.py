"""Messages on disk: in order, whatever is cut, flipped, full or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.sinks.spool import Record, Spool, pack, parse

MEGABYTES, HOURS = 1.0, 1.0


def spool_in(folder: Path, megabytes: float = MEGABYTES, hours: float = HOURS) -> Spool:
    return Spool(folder, megabytes, hours)


def fill(spool: Spool, count: int, begin: int = 0, size: int = 0) -> None:
    for number in range(begin, begin + count):
        spool.append("topic", str(number).encode().ljust(size))


def rest(spool: Spool) -> list[int]:
    """All that is there, and done with it."""
    found = []
    while record := spool.take():
        found.append(int(record.payload))
        spool.done(record.number)
    return found


def test_what_is_done_never_comes_again_and_the_rest_in_order(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    fill(spool, 1000, size=300)
    taken = [spool.take() for _ in range(400)]
    assert [int(r.payload) for r in taken if r] == list(range(400))
    # Out of order, and one that never arrived.
    for record in reversed(taken):
        assert record
        if record.number != taken[390].number:  # type: ignore[union-attr]
            spool.done(record.number)
    assert spool.queued == 601
    spool.close()
    again = spool_in(tmp_path)
    assert again.queued == 610  # from the first that is not done
    assert rest(again) == list(range(390, 1000))
    assert again.queued == again.dropped == again.damaged == 0
    again.close()
    assert spool_in(tmp_path).queued == 0


def test_out_of_order_to_the_end_is_the_end(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    fill(spool, 3)
    numbers = [record.number for _ in range(3) if (record := spool.take())]
    for number in reversed(numbers):
        spool.done(number)
    spool.close()
    assert spool_in(tmp_path).queued == 0


def test_only_its_user_can_read_it_and_what_is_sent_at_once_takes_no_room(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    spool = spool_in(folder)
    for number in range(500):
        spool.append("topic", str(number).encode())
        assert rest(spool) == [number]
    assert spool.size == 0
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(list(folder.glob("*.seg"))) == 1


def test_a_full_buffer_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, 0.1)
    fill(spool, 2000, size=200)
    assert spool.size <= 100_000
    found = rest(spool)
    assert found == list(range(2000 - len(found), 2000))
    assert len(found) > 300  # of 228 bytes each: at most an eighth is given up at once
    assert spool.dropped == 2000 - len(found)
    spool.append("topic", b"x" * 200_000)
    assert spool.dropped == 2001 - len(found)
    assert spool.take() is None


def test_what_is_too_old_is_dropped_and_counted(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, hours=1e-4)  # 0.36 s
    fill(spool, 10)
    spool.sync()
    assert spool.queued == 10
    time.sleep(0.5)
    fill(spool, 1, begin=10)
    spool.sync()
    assert rest(spool) == [10]
    assert spool.dropped == 10


def test_a_clock_that_is_set_makes_nothing_old_but_what_another_process_left(
    tmp_path: Path,
) -> None:
    spool = spool_in(tmp_path)
    fill(spool, 10)
    (segment,) = tmp_path.glob("*.seg")
    os.utime(segment, (0, 0))  # as it is once the clock of a board goes from 1970 to now
    spool.sync()
    assert (spool.queued, spool.dropped) == (10, 0)
    spool.close()
    again = spool_in(tmp_path)
    again.sync()
    assert (again.queued, again.dropped) == (0, 10)
    fill(again, 10)
    (segment,) = tmp_path.glob("*.seg")
    later = time.time() + 1e6  # and where it is set back
    os.utime(segment, (later, later))
    again.close()
    third = spool_in(tmp_path)
    third.sync()
    assert (third.queued, third.dropped) == (10, 0)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_of_a_damaged_file_come_only_messages_that_were_written(
    data: st.DataObject,
) -> None:
    bodies = data.draw(st.lists(st.text(max_size=40), min_size=1, max_size=12))
    written = [Record(n, f"a/{n}", body.encode()) for n, body in enumerate(bodies, 7)]
    packed = [pack(record) for record in written]
    file = bytearray(b"".join(packed))
    at = data.draw(st.integers(0, len(file) - 1))
    damage = data.draw(st.sampled_from(["cut", "flip", "remove", "insert"]))
    if damage == "cut":
        del file[at:]
    elif damage == "flip":
        file[at] ^= data.draw(st.integers(1, 255))
    elif damage == "remove":
        del file[at : at + data.draw(st.integers(1, 30))]
    else:
        file[at:at] = data.draw(st.binary(min_size=1, max_size=30))
    records, end, damaged = parse(bytes(file))
    numbers = [record.number for record in records]
    assert numbers == sorted(set(numbers))
    assert all(record in written for record in records)
    # All before the place are there, and of a single byte, all but one.
    before = [r for i, r in enumerate(written) if sum(map(len, packed[: i + 1])) <= at]
    assert records[: len(before)] == before
    if damage in ("flip", "insert"):
        assert len(records) >= len(written) - 1
        assert damaged >= len(written) - len(records)
    assert end <= len(file)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_whatever_is_in_the_folder_a_spool_opens_and_works(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        spool = spool_in(folder)
        fill(spool, 20)
        for _ in range(3):
            record = spool.take()
            assert record
            spool.done(record.number)
        spool.close()
        path = data.draw(st.sampled_from(sorted(folder.iterdir())))
        content = bytearray(path.read_bytes())
        if content and data.draw(st.booleans()):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 0x55
        else:
            content = bytearray(data.draw(st.binary(max_size=200)))
        path.write_bytes(content)
        (folder / "0000000000000099.seg").write_bytes(data.draw(st.binary(max_size=50)))
        again = spool_in(folder)
        fill(again, 5, begin=20)
        found = rest(again)
        assert found == sorted(set(found))
        assert found[-5:] == list(range(20, 25))
        again.close()


def test_a_torn_last_record_is_counted_and_what_follows_is_written_over_it(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    fill(spool, 5)
    spool.close()
    (segment,) = tmp_path.glob("*.seg")
    segment.write_bytes(segment.read_bytes()[:-3])
    again = spool_in(tmp_path)
    assert (again.queued, again.damaged) == (4, 1)
    fill(again, 2, begin=5)
    again.close()
    third = spool_in(tmp_path)
    assert third.damaged == 0
    assert rest(third) == [0, 1, 2, 3, 5, 6]


WRITER = """
import sys
from pathlib import Path
from edge_runtime.sinks.spool import Spool
spool = Spool(Path(sys.argv[1]), 2.0, 1.0)
for number in range(10**9):
    spool.append("topic", str(number).encode().ljust(200))
    print("+", number, flush=True)
    if number % 3 == 0:
        record = spool.take()
        spool.done(record.number)
        print("-", int(record.payload), flush=True)
"""


@pytest.mark.parametrize("milliseconds", [1, 15, 60, 200])
def test_a_killed_process_loses_nothing(tmp_path: Path, milliseconds: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "spool")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    lines = [process.stdout.readline()]
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait()
    whole = [line.split() for line in lines if line.endswith("\n")]
    written = [int(number) for sign, number in whole if sign == "+"]
    done = [int(number) for sign, number in whole if sign == "-"]
    found = rest(spool_in(tmp_path / "spool", 2.0))
    # What it did last it may not have had the time to say.
    assert found[0] in (len(done), len(done) + 1)
    assert found[-1] in (written[-1], written[-1] + 1)
    assert found == list(range(found[0], found[-1] + 1))


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    first, second = spool_in(tmp_path), spool_in(tmp_path)
    fill(first, 3)
    fill(second, 3, begin=10)
    assert second.trouble == "another process uses it"
    assert rest(second) == [10, 11, 12]
    assert rest(first) == [0, 1, 2]


def test_a_folder_that_cannot_be_made_is_told_and_memory_takes_a_thousand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = spool_in(tmp_path / "file" / "folder")
    fill(spool, 1500)
    assert spool.trouble
    assert (spool.queued, spool.dropped) == (1000, 500)
    assert rest(spool) == list(range(500, 1500))
    assert spool.queued == 0


ON_SMALL_DISK = """
import os, subprocess, sys
from pathlib import Path
from edge_runtime.sinks.spool import Spool
folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], check=True)
spool = Spool(folder / "spool", 16.0, 1.0)
def fill(begin, end):
    for number in range(begin, end):
        spool.append("topic", str(number).encode().ljust(200))
def rest():
    found = []
    while record := spool.take():
        found.append(int(record.payload))
        spool.done(record.number)
    return found
fill(0, 5000)
assert spool.trouble == "" and spool.dropped > 2500, (spool.trouble, spool.dropped)
found = rest()
assert found == list(range(5000 - len(found), 5000)) and spool.dropped + len(found) == 5000
print(len(found))
# Somebody else takes all of it.
with open(folder / "else", "wb", buffering=0) as other:
    try:
        while other.write(bytes(4096)): pass
    except OSError:
        pass
    dropped = spool.dropped
    fill(5000, 8000)
    assert spool.trouble == "No space left on device", spool.trouble
    found = rest()
    assert found == list(range(8000 - len(found), 8000)) and len(found) >= 1000
    assert spool.dropped - dropped + len(found) == 3000
os.unlink(folder / "else")
fill(8000, 8100)
assert spool.trouble == "" and spool.size > 0
spool.close()
assert int(Spool(folder / "spool", 16.0, 1.0).take().payload) == 8000
"""


READ_ONLY_DISK = """
import subprocess, sys
from pathlib import Path
from edge_runtime.sinks.spool import Spool
folder = Path(sys.argv[1])
spool = Spool(folder, 1.0, 1.0)
def fill(begin, end):
    for number in range(begin, end):
        spool.append("topic", str(number).encode().ljust(200))
fill(0, 2000)
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
fill(2000, 5000)
assert spool.trouble == "Read-only file system", spool.trouble
assert spool.queued + spool.dropped == 5000
subprocess.run(["umount", folder], check=True)
fill(5000, 5001)
assert spool.trouble == "", spool.trouble
found = []
while record := spool.take():
    found.append(int(record.payload))
    spool.done(record.number)
on_disk = found.index(next(b for a, b in zip(found, found[1:]) if b > a + 1))
assert found == [*range(on_disk), *range(4000, 5001)], found
print(on_disk)
"""


def in_own_mounts(program: str, folder: Path) -> str:
    """What a program prints that may mount what it likes."""
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    if subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    done = subprocess.run(
        [*own, sys.executable, "-c", program, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_turns_read_only_costs_nothing_that_it_holds(tmp_path: Path) -> None:
    assert int(in_own_mounts(READ_ONLY_DISK, tmp_path)) >= 2000


def test_a_full_disk_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    kept = int(in_own_mounts(ON_SMALL_DISK, tmp_path).split()[0])
    # 512 kB hold 2,300 of them; two segments fewer at the worst.
    assert 1500 < kept < 2400
