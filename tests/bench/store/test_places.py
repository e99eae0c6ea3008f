"""Folders and their copies in a store: what travels, in which order, and who may write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import BUCKET, S3, serving

from bench import publish, verify
from bench.report.__main__ import main as report
from bench.store import files
from bench.store.files import StoreError
from bench.store.lease import Lease, TakenOver, take
from bench.store.mirror import Mirror
from bench.store.places import LEASE, copied, fetched, shared, trial_copied, trial_free, trial_held
from bench.store.remote import Entry, Remote, Version, by_folder
from bench.store.results import read

TRIAL = "trials/task/happo/seed-00"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving() as server:
        yield server


@pytest.fixture(params=["s3", "file"])
def suite(request: pytest.FixtureRequest, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    at(tmp_path, "here", monkeypatch)
    return Remote(f"s3://{BUCKET}/{tmp_path.name}/mine" if request.param == "s3" else f"file://{tmp_path}/store/mine")


def at(tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this is another machine, with folders of its own."""
    monkeypatch.setenv("MARL_BENCH_CACHE", str(tmp_path / machine))


def folder(suite: Remote) -> Path:
    found = suite.folder / TRIAL
    found.mkdir(parents=True, exist_ok=True)
    return found


def mirror(suite: Remote) -> Mirror:
    """The trial, held by this machine although another one may think that it holds it."""
    suite.delete(f"{TRIAL}/{LEASE}")
    own = take(suite, f"{TRIAL}/{LEASE}", "somebody")
    assert own
    return Mirror(suite, TRIAL, folder(suite), own)


def write(suite: Remote, **contents: str) -> None:
    """Write files of the trial here: `trial_json="..."` is that in `trial.json`."""
    for name, text in contents.items():
        (folder(suite) / name.replace("_", ".")).write_text(text)


def stored(suite: Remote) -> dict[str, str]:
    """What the store has of the trial."""
    found = {}
    for entry in by_folder(suite.entries()).get(TRIAL, []):
        content = suite.read(f"{TRIAL}/{entry.name}")
        found[entry.name] = content.content.decode() if content else ""
    return found


def test_a_trial_is_taken_to_the_store_with_its_status_last(suite: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    write(suite, trial_json="running", records_parquet="r", checkpoint_pt="c", progress_json="p")
    order: list[str] = []
    send = Mirror._send

    def noted(self: Mirror, name: str) -> None:
        order.append(name)
        send(self, name)

    monkeypatch.setattr(Mirror, "_send", noted)
    mirror(suite).save()
    assert order == ["records.parquet", "checkpoint.pt", "trial.json"]
    assert stored(suite) == {"checkpoint.pt": "c", "records.parquet": "r", "trial.json": "running"}


def test_only_what_has_changed_travels(suite: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    write(suite, trial_json="running", records_parquet="r")
    own = mirror(suite)
    own.save()
    write(suite, records_parquet="more")
    order: list[str] = []
    monkeypatch.setattr(Mirror, "_send", lambda self, name: order.append(name))
    own.save()
    assert order == ["records.parquet"]


def test_the_checkpoint_before_is_kept_and_copied_within_the_store(
    suite: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(suite, checkpoint_pt="one")
    own = mirror(suite)
    own.save()
    (folder(suite) / "checkpoint.pt").rename(folder(suite) / "checkpoint.previous.pt")
    write(suite, checkpoint_pt="two, which is longer")
    sent: list[str] = []
    write_it = Remote.write

    def noted(self: Remote, name: str, content: bytes | Path) -> Version:
        sent.append(name)
        return write_it(self, name, content)

    monkeypatch.setattr(Remote, "write", noted)
    own.save()
    assert stored(suite) == {"checkpoint.pt": "two, which is longer", "checkpoint.previous.pt": "one"}
    assert f"{TRIAL}/checkpoint.previous.pt" not in sent


def test_what_somebody_deleted_in_the_store_is_taken_there_again(suite: Remote) -> None:
    write(suite, checkpoint_pt="one", records_parquet="one")
    own = mirror(suite)
    own.save()
    for entry in by_folder(suite.entries())[TRIAL]:
        suite.delete(f"{TRIAL}/{entry.name}")
    suite.delete(f"{TRIAL}/{LEASE}")
    (folder(suite) / "checkpoint.pt").rename(folder(suite) / "checkpoint.previous.pt")
    write(suite, checkpoint_pt="two", records_parquet="two")
    own.save()
    assert stored(suite) == {"checkpoint.pt": "two", "checkpoint.previous.pt": "one", "records.parquet": "two"}


def test_checkpoints_that_a_finished_trial_deletes_are_deleted_there(suite: Remote) -> None:
    write(suite, checkpoint_pt="one", records_parquet="r")
    own = mirror(suite)
    own.save()
    for name in ("checkpoint.pt", "records.parquet"):
        (folder(suite) / name).unlink()
    own.save()
    assert stored(suite) == {"records.parquet": "r"}  # what nobody deletes on purpose stays


def test_a_trial_goes_on_on_another_machine(suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with trial_held(suite, folder(suite), lambda: None) as held:
        assert held
        write(suite, trial_json="running", checkpoint_pt="one")
    at(tmp_path, "there", monkeypatch)
    with trial_held(suite, folder(suite), lambda: None) as held:
        assert held
        assert (folder(suite) / "checkpoint.pt").read_text() == "one"
        write(suite, trial_json="done")
    assert stored(suite)["trial.json"] == "done"


def test_a_trial_that_is_held_elsewhere_is_not_free(
    suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trial_held(suite, folder(suite), lambda: None):
        at(tmp_path, "there", monkeypatch)
        assert not trial_free(suite, folder(suite))
        with trial_held(suite, folder(suite), lambda: None) as held:
            assert held is None
        at(tmp_path, "here", monkeypatch)
    assert trial_free(suite, folder(suite))


def test_who_was_taken_over_writes_nothing_any_more(
    suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(suite, records_parquet="old")
    old = mirror(suite)
    old.save()
    at(tmp_path, "there", monkeypatch)
    new = mirror(suite)
    new.pull(by_folder(suite.entries())[TRIAL], lambda _: True, ahead=True)
    write(suite, records_parquet="newer")
    new.save()
    at(tmp_path, "here", monkeypatch)
    write(suite, records_parquet="of the old one")
    with pytest.raises(TakenOver):
        old.save()
    assert old.lost
    assert stored(suite) == {"records.parquet": "newer"}


def test_a_write_between_two_looks_at_the_lease_overwrites_nothing_newer(
    suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(suite, records_parquet="old")
    old = mirror(suite)
    old.save()
    at(tmp_path, "there", monkeypatch)
    new = mirror(suite)
    new.pull(by_folder(suite.entries())[TRIAL], lambda _: True, ahead=True)
    write(suite, records_parquet="newer")
    new.save()
    at(tmp_path, "here", monkeypatch)
    write(suite, records_parquet="of the old one")
    renew, asked = Lease.renew, iter([lambda self: None])  # the old one slept after it had looked
    monkeypatch.setattr(Lease, "renew", lambda self: next(asked, renew)(self))
    with pytest.raises(TakenOver):
        old.save()
    assert stored(suite) == {"records.parquet": "newer"}


def test_the_holder_overwrites_what_a_former_one_wrote_late(suite: Remote) -> None:
    write(suite, records_parquet="r")
    own = mirror(suite)
    own.save()
    suite.write(f"{TRIAL}/records.parquet", b"of a former holder")
    write(suite, records_parquet="more")
    own.save()
    assert stored(suite) == {"records.parquet": "more"}


def test_what_is_newer_here_is_kept_where_the_store_is_as_it_was_left(suite: Remote) -> None:
    write(suite, checkpoint_pt="one")
    mirror(suite).save()
    write(suite, checkpoint_pt="two, which the store never got")
    suite.delete(f"{TRIAL}/{LEASE}")
    with trial_held(suite, folder(suite), lambda: None):
        assert (folder(suite) / "checkpoint.pt").read_text() == "two, which the store never got"
    assert stored(suite) == {"checkpoint.pt": "two, which the store never got"}


def test_the_store_counts_where_another_machine_went_on(
    suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(suite, checkpoint_pt="one")
    mirror(suite).save()
    write(suite, checkpoint_pt="two, which the store never got", policy_pt="nor this")
    at(tmp_path, "there", monkeypatch)
    write(suite, checkpoint_pt="two of another machine")
    mirror(suite).save()
    suite.delete(f"{TRIAL}/{LEASE}")
    at(tmp_path, "here", monkeypatch)
    with trial_held(suite, folder(suite), lambda: None):
        assert (folder(suite) / "checkpoint.pt").read_text() == "two of another machine"
        assert not (folder(suite) / "policy.pt").exists()


def test_readers_get_all_but_checkpoints_and_only_what_has_changed(
    suite: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared(suite) as own:
        files.write_text(own / "suite.yaml", "name: mine")
    write(suite, trial_json="done", records_parquet="r", checkpoint_pt="c")
    mirror(suite).save()
    copy = copied(suite)
    assert sorted(p.name for p in (copy / TRIAL).iterdir() if p.name[0] != ".") == ["records.parquet", "trial.json"]
    assert (copy / "suite.yaml").read_text() == "name: mine"
    brought: list[str] = []
    monkeypatch.setattr(Remote, "download", lambda self, name, entry, path: brought.append(name))
    assert copied(suite) == copy
    assert brought == []


def test_a_reader_takes_files_that_were_written_before_the_status_it_read(
    suite: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(suite, trial_json="running", records_parquet="old")
    own = mirror(suite)
    own.save()
    copied(suite)
    bring = Remote.download

    def slowly(self: Remote, name: str, entry: Entry, path: Path) -> None:
        bring(self, name, entry, path)
        if name.endswith("trial.json"):  # the trial ends after this was read
            write(suite, records_parquet="the last")
            own.save()

    write(suite, trial_json="still running")
    own.save()
    monkeypatch.setattr(Remote, "download", slowly)
    assert (copied(suite) / TRIAL / "records.parquet").read_text() == "the last"


def test_a_copy_is_not_mixed_with_other_results(suite: Remote, tmp_path: Path) -> None:
    with shared(suite) as own:
        files.write_text(own / "suite.yaml", "name: mine")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "suite.yaml").write_text("name: other")
    with pytest.raises(StoreError, match="holds other results than those of"):
        copied(suite, tmp_path / "results")
    with pytest.raises(StoreError, match="no results there"):
        copied(suite / "nothing")


def test_a_copy_of_another_place_with_the_same_name_is_not_overwritten(suite: Remote, tmp_path: Path) -> None:
    with shared(suite) as own:
        files.write_text(own / "suite.yaml", "name: mine")
    other = Remote(suite.url.replace("/mine", "/other/mine"))
    with shared(other) as own:
        files.write_text(own / "suite.yaml", "name: other")
    copied(suite, tmp_path / "results")
    with pytest.raises(StoreError, match=f"holds other results than those of {other}; move them"):
        copied(other, tmp_path / "results")
    assert (tmp_path / "results" / "suite.yaml").read_text() == "name: mine"


def test_a_trial_in_a_store_is_found_as_one_in_a_folder_and_copied(suite: Remote) -> None:
    with shared(suite) as own:
        files.write_text(own / "resolved.json", "{}")
    about = {"suite": "mine", "task": "task", "algorithm": "happo", "seed": 0, "config_hash": "", "status": "done"}
    files.write_sealed_json(folder(suite) / "trial.json", about | {"steps": 1, "evaluate": {}})
    mirror(suite).save()
    for named in ("task/happo/0", TRIAL):
        assert trial_copied(suite / named) == suite.copy / TRIAL
    with pytest.raises(StoreError, match=f"{suite}/task/ippo/0: no trial there; no algorithm 'ippo' in {suite}; valid"):
        trial_copied(suite / "task/ippo/0")
    with pytest.raises(StoreError, match="no suite's results there; a trial is SUITE/task/algorithm/seed"):
        trial_copied(Remote(f"{suite.url}s") / "task/happo/0")


def test_what_is_wrong_with_a_copy_is_said_of_the_place(
    suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(suite, trial_json="damaged", records_parquet="r")
    mirror(suite).save()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=f"^{suite}/{TRIAL}/trial.json: "):
        read(str(suite))
    assert publish.main([str(suite), "--into", str(tmp_path / "into")]) == 2
    assert verify.main([str(suite)]) == 1
    assert report([str(suite)]) == 2
    out, err = capsys.readouterr()
    assert f"FAILED  trials: {suite}/{TRIAL}/trial.json: " in out
    published, reported = err.splitlines()
    assert published.startswith(f"{suite}/{TRIAL}/trial.json: ")
    assert reported.startswith(f"bench.report: {suite}/{TRIAL}/trial.json: ")


def test_texts_for_others_name_no_folder_of_this_machine(suite: Remote) -> None:
    own = Mirror(suite, TRIAL, folder(suite))
    text = f'{suite.folder}/trials/x: broken\n  File "{files.__file__}", line 1\n  File "{Path.home()}/mine.py"'
    shown = f'{suite}/trials/x: broken\n  File "bench/store/files.py", line 1\n  File "~/mine.py"'
    assert own.shown(text) == shown


def test_a_folder_of_this_machine_is_not_cut_out_of_another_path(
    suite: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Mirror(suite, TRIAL, folder(suite))
    for text in (f"file://{tmp_path}/store/tiny: no", f"/mnt{tmp_path}/store/tiny: no"):
        assert own.shown(text) == text
    assert own.shown(f'File "{tmp_path}/mine.py"; {tmp_path}/mine.py') == 'File "mine.py"; mine.py'


def test_a_run_that_reads_waits_for_one_that_writes_what_belongs_to_no_trial(suite: Remote) -> None:
    with shared(suite) as own:
        files.write_text(own / "suite.yaml", "name: mine")
        reader = threading.Thread(target=fetched, args=(suite,))
        reader.start()
        reader.join(0.5)
        assert reader.is_alive()
        assert (own / "suite.yaml").read_text() == "name: mine"
    reader.join(10)
    assert not reader.is_alive()
    assert (suite.folder / "suite.yaml").read_text() == "name: mine"


def test_what_people_put_beside_the_copy_of_a_trial_stays(suite: Remote) -> None:
    with shared(suite) as own:
        files.write_text(own / "suite.yaml", "name: mine")
    write(suite, trial_json="t", policy_pt="p")
    mirror(suite).save()
    copy = copied(suite)
    (copy / TRIAL / "play.mp4").write_bytes(b"a video")
    suite.delete(f"{TRIAL}/policy.pt")
    copied(suite)
    assert (copy / TRIAL / "play.mp4").read_bytes() == b"a video"
    assert not (copy / TRIAL / "policy.pt").exists()
