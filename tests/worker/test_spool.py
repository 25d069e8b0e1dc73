"""The file between a training process and its agent."""

import errno
import os
from pathlib import Path

import pytest

from worker.spool import LogReader, ProgressFile, SpoolReader, SpoolWriter, recorded_outcome


def test_records_come_in_order_and_again_until_they_are_confirmed(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    for epoch in range(3):
        spool.append("epoch", {"epoch": epoch})
    reader = SpoolReader(tmp_path / "spool")
    first = reader.peek(2)
    assert [record["data"]["epoch"] for record in first] == [0, 1]
    assert reader.peek(2) == first
    reader.confirm()
    assert [record["data"]["epoch"] for record in reader.peek(2)] == [2]
    spool.close()


def test_a_half_written_line_is_not_a_record_yet(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b'{"kind": "epoch", "data": {"epoch": 0}}\n{"kind": "epo')
    reader = SpoolReader(path)
    assert len(reader.peek(10)) == 1
    reader.confirm()
    assert reader.peek(10) == []
    with path.open("ab") as file:
        file.write(b'ch", "data": {"epoch": 1}}\n')
    assert [record["data"]["epoch"] for record in reader.peek(10)] == [1]


def test_a_second_writer_appends_to_what_is_there(tmp_path: Path) -> None:
    for text in ("one", "two"):
        spool = SpoolWriter(tmp_path / "spool")
        spool.append("outcome", {"detail": text})
        spool.close()
    records = SpoolReader(tmp_path / "spool").peek(10)
    assert [record["data"]["detail"] for record in records] == ["one", "two"]


def test_a_number_that_is_not_finite_is_refused_by_the_writer(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    with pytest.raises(ValueError, match="not JSON compliant"):
        spool.append("epoch", {"value": float("nan")})
    spool.close()


def test_a_missing_spool_is_empty(tmp_path: Path) -> None:
    assert SpoolReader(tmp_path / "none").peek(10) == []
    assert LogReader(tmp_path / "none").peek(10) == b""
    assert ProgressFile(tmp_path / "none").read() is None


def test_log_bytes_come_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"abcdef")
    reader = LogReader(tmp_path / "log")
    assert reader.peek(4) == b"abcd"
    reader.confirm(4)
    assert (reader.offset, reader.peek(4)) == (4, b"ef")


def test_progress_says_what_was_written_last(tmp_path: Path) -> None:
    progress = ProgressFile(tmp_path / "progress")
    progress.write(1, "collect")
    progress.write(7, "generalize")
    assert progress.read() == (7, "generalize")


def test_nothing_is_read_beyond_a_damaged_record(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    good = b'{"kind": "epoch", "data": {"epoch": %d}}\n'
    path.write_bytes(good % 0 + b"\x00\x00garbage\n" + good % 2)
    assert [record["data"]["epoch"] for record in SpoolReader(path).peek(10)] == [0]


def test_a_success_after_a_damaged_record_does_not_count_but_a_failure_does(tmp_path: Path) -> None:
    for status, counts in (("succeeded", False), ("failed", True)):
        path = tmp_path / status
        path.write_bytes(b'{"kind": "epo\n')
        spool = SpoolWriter(path)
        spool.append("outcome", {"status": status})
        spool.close()
        assert (recorded_outcome(path) is not None) == counts


def test_the_last_outcome_is_the_one_that_counts(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    spool.append("outcome", {"status": "stopped"})
    spool.append("outcome", {"status": "failed"})
    spool.close()
    assert recorded_outcome(tmp_path / "spool") == {"status": "failed"}


def test_a_last_line_without_its_end_is_no_record_though_it_could_be_read(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    path.write_bytes(b'{"kind": "epoch", "data": {"epoch": 0}}')
    reader = SpoolReader(path)
    assert reader.peek(10) == []
    reader.confirm()
    with path.open("ab") as file:
        file.write(b"\n")
    assert [record["data"]["epoch"] for record in reader.peek(10)] == [0]


def test_a_confirmation_before_anything_was_handed_out_skips_nothing(tmp_path: Path) -> None:
    spool = SpoolWriter(tmp_path / "spool")
    spool.append("epoch", {"epoch": 0})
    spool.close()
    reader = SpoolReader(tmp_path / "spool")
    reader.confirm()
    assert len(reader.peek(10)) == 1


def test_what_a_full_disk_cut_off_is_not_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool"
    spool = SpoolWriter(path)
    spool.append("epoch", {"epoch": 0})
    whole, left = os.write, [10]

    def cut(descriptor: int, line: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "full")
        return whole(descriptor, line[: left.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", cut)
        with pytest.raises(OSError, match="full"):
            spool.append("epoch", {"epoch": 1})
    for epoch in (2, 3):
        spool.append("epoch", {"epoch": epoch})
    spool.close()
    lines = path.read_bytes().split(b"\n")
    assert lines[1] == b'{"kind": "'
    assert [b'"epoch": %d' % n in lines[n] for n in (2, 3)] == [True, True]
    assert lines[4:] == [b""]


def test_only_its_owner_reads_a_spool(tmp_path: Path) -> None:
    SpoolWriter(tmp_path / "spool").close()
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o600


def test_a_note_after_an_outcome_does_not_hide_it(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    spool = SpoolWriter(path)
    for epoch in range(3):
        spool.append("epoch", {"epoch": epoch})
    spool.append("outcome", {"status": "succeeded"})
    spool.append("note", {"about": "wandb", "text": "x"})
    spool.close()
    assert recorded_outcome(path) == {"status": "succeeded"}


def test_a_failure_is_found_at_the_end_of_a_damaged_spool_of_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    failed = b'{"kind": "outcome", "data": {"status": "failed"}}'
    path.write_bytes(b'{"kind": "epoch", "data": {}}\n{"dam\nmore damage\n' + failed + b"\n\n")
    assert recorded_outcome(path) == {"status": "failed"}


def test_a_log_goes_on_after_each_piece(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"abcdef")
    reader = LogReader(tmp_path / "log")
    for piece in (b"ab", b"cd", b"ef"):
        assert reader.peek(2) == piece
        reader.confirm(2)
    assert reader.peek(2) == b""
