"""The store: folders of records, looked up by fingerprint, whatever path they lie under.

Reading looks into the published study (`data/results`), this build's demo (`data/demo`), records of
shortened trials (`data/custom`) and `$KDNB_STORE`; the last one wins.  New records go to `$KDNB_STORE`
where it is set, else to the folder of their profile.

Arrays that figures need lie beside a record, in a file of its name.  They are written before it, and it carries
their digest: the arrays of another record, or half of them, are never taken for its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdnb import analysis, paths
from kdnb.errors import StoreError
from kdnb.kinds import parsed
from kdnb.lock import Lock, acquire
from kdnb.study import arrays as array_files
from kdnb.study.experiment import TEACHER_SEED, Experiment, Run
from kdnb.study.record import Record, read

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

#: A file that was written longer ago has other times once it is written again, on any file system.
STILL_SECONDS = 3.0
#: Claiming the runs of a cohort takes no longer; whoever waits longer goes on all the same.
CLAIM_SECONDS = 10.0
#: Path -> what told its content when it was read, and its record.
_known: dict[Path, tuple[tuple[int, ...], Record]] = {}


@dataclass(frozen=True)
class Problem:
    """A file in the store that is not used, and why and what to do, in words that go on after its name."""

    path: Path
    what: str

    @classmethod
    def told(cls, path: Path, error: StoreError) -> Problem:
        """The problem that an error tells of the file: its name is not said again."""
        what = str(error).removeprefix(f"{path}").lstrip(" ,").replace(f": '{path}'", "").rstrip(".")
        return cls(path, f"{what}; remove it, or import it again.")


@dataclass(frozen=True)
class Home:
    """A place for records and, apart from them, weights and running checkpoints."""

    results: Path
    checkpoints: Path


@dataclass
class Store:
    """All records that can be read here, and where new ones go."""

    published: Home
    demo: Home
    custom: Home
    own: Home | None = None
    problems: list[Problem] = field(default_factory=list)
    #: Fingerprint -> seed -> record.
    _index: dict[str, dict[int, Record]] = field(default_factory=dict)
    _arrays: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    #: The seeds at which any run diverged.
    _lost: set[int] = field(default_factory=set)

    @classmethod
    def open(cls) -> Store:
        """The store of this project, with `$KDNB_STORE` on top; reads every record once."""
        place = paths.own_store()
        demo, custom = paths.demo_results(), paths.demo_results().parent / "custom"
        store = cls(
            published=Home(paths.committed_results(), paths.committed_checkpoints()),
            demo=Home(demo, demo / "checkpoints"),
            custom=Home(custom, custom / "checkpoints"),
            own=Home(place / "results", place / "checkpoints") if place else None,
        )
        store.refresh()
        return store

    def homes(self) -> list[Home]:
        return [h for h in (self.published, self.demo, self.custom, self.own) if h is not None]

    def refresh(self) -> None:
        """Read the records again: another process may have written some."""
        self._index, self._arrays, self._lost, self.problems = {}, {}, set(), []
        if self.own is not None and (file := paths.file_above(self.own.results)) is not None:
            what = "is no folder, so nothing is read from $KDNB_STORE or kept there; point it to a folder."
            self.problems.append(Problem(file, what))
        for home in self.homes():
            for path in _record_files(home.results):
                try:
                    self._take(_own_record(path))
                except StoreError as error:
                    self.problems.append(Problem.told(path, error))
        self._set_aside_other_teachers()

    def _set_aside_other_teachers(self) -> None:
        """Leave out what was taught by other weights than most students of that teacher: these are never compared."""
        counts = self._counted_teachers()
        usual = {teacher: _most(counted) for teacher, counted in counts.items()}
        for record in self.all():
            teacher, weights = taught_by(record)
            if weights and weights != usual[teacher]:
                del self._index[record.fingerprint][record.seed], self._arrays[record.fingerprint, record.seed]
                what = f"was taught by weights {weights}, and its companions by {usual[teacher]}"
                remedy = "it is compared with nobody: remove it, and it is trained again by theirs"
                self.problems.append(Problem(record.path or Path(), f"{what}; {remedy}."))

    def _counted_teachers(self) -> dict[str, Counter[str]]:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for record in self.all():
            teacher, weights = taught_by(record)
            if weights:
                counts[teacher][weights] += 1
        return counts

    def teacher_digest(self, fingerprint: str) -> str:
        """The digest of the weights by which a teacher taught the stored students; empty where there are none."""
        return _most(self._counted_teachers()[fingerprint])

    def _take(self, record: Record) -> None:
        key = record.fingerprint, record.seed
        self._index.setdefault(record.fingerprint, {})[record.seed] = record
        self._lost |= {record.seed} if record.diverged else set()
        self._arrays[key] = frozenset()
        if record.arrays and record.path is not None:
            path = array_files.file_beside(record.path)
            try:
                self._arrays[key] = array_files.names(array_files.read(path, record.arrays), path)
            except StoreError as error:
                self.problems.append(Problem.told(path, error))

    def get(self, fingerprint: str, seed: int) -> Record | None:
        """The record of a run, or None."""
        return self._index.get(fingerprint, {}).get(seed)

    def has(self, run: Run) -> bool:
        """Whether the run's record is there, and all arrays that the run keeps."""
        return self.get(*run.key) is not None and not self.lacking(run)

    def lacking(self, run: Run) -> list[str]:
        """The measurements that the run keeps and that are not there, or not whole; one that diverged has none."""
        record = self.get(*run.key)
        return [] if record and record.diverged else [name for name in run.keeps if not self._holds(run, name)]

    def diverged(self, run: Run) -> Record | None:
        """The record that says why a run has no score and never will: it diverged, or a first step of its own seed.

        A teacher that diverged says nothing of its students: it is trained until it can teach.
        """
        record = self.get(*run.key)
        if record is not None:
            return record if record.diverged else None
        steps = (need for need in run.needs() if not need.experiment.scored)
        return next((found for step in steps if (found := self.diverged(step))), None)

    def settled(self, run: Run) -> bool:
        """Whether nothing is left to train for a run: it has its record, or it diverged."""
        return self.has(run) or self.diverged(run) is not None

    def diverged_seeds(self) -> set[int]:
        """The seeds at which any run diverged."""
        return self._lost

    def kept(self, run: Run) -> list[str]:
        """All measurements that are there, whoever asked for them; but for those that every run has."""
        return [name for name in analysis.names() if name not in analysis.ALWAYS and self._holds(run, name)]

    def _holds(self, run: Run, name: str) -> bool:
        """Whether a measurement of the run is there: its arrays, or, where it keeps none, its metrics."""
        entry, record = analysis.get(name), self.get(*run.key)
        if entry.kept_arrays:
            return set(entry.kept_arrays) <= self.array_names(*run.key)
        return record is not None and set(entry.metrics) <= record.metrics.keys()

    def array_names(self, fingerprint: str, seed: int) -> frozenset[str]:
        """The names of the arrays beside a record; none where they are missing, or not its own."""
        return self._arrays.get((fingerprint, seed), frozenset())

    def arrays(self, record: Record) -> dict[str, np.ndarray]:
        """The arrays beside a record, by name; {} where it keeps none.  What is damaged is told in `problems`."""
        if not record.arrays or record.path is None:
            return {}
        path = array_files.file_beside(record.path)
        try:
            return array_files.unpacked(array_files.read(path, record.arrays), path)
        except StoreError as error:
            if path not in {problem.path for problem in self.problems}:
                self.problems.append(Problem.told(path, error))
            return {}

    def records(self, fingerprint: str) -> dict[int, Record]:
        """All records of an experiment by seed, in order; not those of runs that diverged."""
        return {seed: record for seed, record in self.every(fingerprint).items() if not record.diverged}

    def every(self, fingerprint: str) -> dict[int, Record]:
        """The same with those of runs that diverged."""
        return dict(sorted(self._index.get(fingerprint, {}).items()))

    def all(self) -> list[Record]:
        return [record for seeds in self._index.values() for record in seeds.values()]

    def home(self, experiment: Experiment) -> Home:
        """Where a new record of this experiment goes."""
        if self.own is not None:
            return self.own
        if experiment.profile.name.startswith("custom-"):
            return self.custom
        return self.demo if experiment.profile.embedded_data else self.published

    def write(self, run: Run, record: Record, paper: str, arrays: Mapping[str, np.ndarray] | None = None) -> Path:
        """Write a run's record where people expect it, its arrays first; an old one is replaced whole or not at all.

        A record of another experiment is never replaced: the new one then lies beside it.
        """
        content = array_files.packed(arrays) if arrays else b""
        record = replace(record, arrays=array_files.digest(content) if content else "")
        path = self.place(run.key, self.home(run.experiment).results / record_path(run, paper))
        write_pair(path, record.to_json().encode(), content)
        self._take(read(path))
        return path

    def place(self, key: tuple[str, int], path: Path) -> Path:
        """Where a record goes that would lie at `path`: over the one it replaces, whatever paper filed that."""
        old = self.get(*key)
        if old is not None and old.path is not None:
            for home in self.homes():
                if path.is_relative_to(home.results) and old.path.is_relative_to(home.results):
                    path = old.path
                    break
        return beside_others(path, key[0])

    # -- weights and checkpoints ------------------------------------------------------------------------

    def weights_folder(self, run: Run) -> Path | None:
        """Where a finished run's weights lie, whole as far as sizes tell, or None."""
        for home in reversed(self.homes()):
            folder = home.checkpoints / _weights_path(run)
            if is_whole(folder):
                return folder
        return None

    def load_weights(self, run: Run) -> dict[str, Tensor] | None:
        """A finished run's weights, `<module>.<key>` -> tensor in float32, or None where there are none."""
        from kdnb.training.checkpoint import load_checkpoint

        folder = self.weights_folder(run)
        try:
            found = load_checkpoint(folder) if folder else None
        except StoreError as error:
            raise StoreError(
                f"The weights in {folder} are damaged; remove them, and they are trained again."
            ) from error
        if found is None:
            return None
        return {k: v.float() if v.is_floating_point() else v for k, v in found[0].items()}

    def save_weights(self, run: Run, weights: dict[str, Tensor]) -> None:
        """Keep the weights of a run that others go on from or learn from.

        Those of the one teacher that comes with the project are kept in half precision, and everybody learns from
        what is kept, so that it teaches the same, bit for bit, as one trained here.  What goes on here alone, a stage
        or a student of some seed, is kept as it is.
        """
        from kdnb.training.checkpoint import save_checkpoint

        if _is_teachers(run):
            weights = {k: _halved(k, v) for k, v in weights.items()}
        folder = self.home(run.experiment).checkpoints / _weights_path(run)
        save_checkpoint(folder, weights, {"fingerprint": run.experiment.fingerprint, "seed": run.seed})

    def lock(self, run: Run) -> Lock | None:
        """The right to train a run, or None while another process has it."""
        return lock_of(self.running_folder(run))

    def claiming(self, run: Run) -> Lock | None:
        """The right to claim runs, so that processes which begin together do not share out one cohort; None in time."""
        path = self.running_folder(run).parent / "locks" / "claims.lock"
        until = time.monotonic() + CLAIM_SECONDS
        while (lock := acquire(path)) is None and time.monotonic() < until:
            time.sleep(0.02)
        return lock

    def running_folder(self, run: Run) -> Path:
        """Where the checkpoint of an unfinished run lies."""
        fingerprint, seed = run.key
        return self.home(run.experiment).checkpoints / "running" / f"{fingerprint}-seed{seed}"

    def forget_running(self, run: Run) -> None:
        """Remove the checkpoint of a run that has ended; what was kept aside stays for whoever was told of it."""
        from kdnb.training.checkpoint import remove_checkpoint

        remove_checkpoint(self.running_folder(run))

    def has_ended(self, running: str) -> bool:
        """Whether a folder among those of running checkpoints, or one kept aside, is of a run that has its record."""
        fingerprint, _, seed = running.partition("~")[0].partition("-seed")
        return seed.isdigit() and self.get(fingerprint, int(seed)) is not None


def lock_of(running: Path) -> Lock | None:
    """The right to write the checkpoint of an unfinished run in this folder, or one kept aside beside it."""
    return acquire(running.parent / "locks" / f"{running.name.partition('~')[0]}.lock")


def record_path(run: Run, paper: str) -> Path:
    """`<paper>/<profile>/<dataset>/<teacher>-<student>/<method>[~variant]/seed<k>.json`, for people."""
    e = run.experiment
    teacher = e.teacher.network if e.teacher else "none"
    method = e.method + (f"~{e.variant}" if e.variant else "") + (f"@{e.stage}" if e.stage else "")
    folder = Path(paper) / e.profile.name / e.images.dataset / f"{teacher}-{e.network or 'none'}" / method[:120]
    whole = e.images.student_images is None and e.images.per_class is None
    if whole and e.teacher is None and e.profile.student_images:
        folder = folder.parent / "_".join(["plain~all-images", *filter(None, [e.variant])])
    return folder / f"seed{run.seed}.json"


def _weights_path(run: Run) -> Path:
    e = run.experiment
    kind = "teachers" if _is_teachers(run) else "students" if e.scored else "stages"
    return Path(kind) / f"{e.network or e.method}-{e.fingerprint}-seed{run.seed}"


def _is_teachers(run: Run) -> bool:
    """Whether it is the one run of its experiment that teaches all others."""
    return run.experiment.scored and run.seed == TEACHER_SEED


def taught_by(record: Record) -> tuple[str, str]:
    """The fingerprint of the one teacher that taught a run, and the digest of its weights; empty where none is told.

    A teacher of each seed has other weights for each, as it should.
    """
    teacher, weights = record.experiment.get("teacher"), record.environment.get("teacher", "")
    if not isinstance(teacher, dict) or "teachers" in record.experiment or not isinstance(weights, str):
        return "", ""
    return str(teacher.get("fingerprint")), weights


def _most(counted: Counter[str]) -> str:
    """What was counted most often; of equally many, the first by its name."""
    return min(counted, key=lambda name: (-counted[name], name), default="")


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is there with all its files, none of them cut short; free of torch."""
    try:
        names = parsed((folder / "checkpoint.json").read_bytes())["files"]
        return all(_is_whole_file(folder / name) for name in names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error):
        return False


def _is_whole_file(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says: 8 bytes, the header, the tensors."""
    size = path.stat().st_size
    with open(path, "rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = parsed(stream.read(min(length, size)))
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    return size == 8 + length + int(end)


def write_pair(path: Path, record: bytes, arrays: bytes) -> None:
    """Write the arrays of a record, if it has some, and then the record at `path`.

    A crash at any moment leaves the old record with its old arrays, or the new one with its new ones: new arrays wait
    beside the old until the record speaks of them.
    """
    from kdnb.training.checkpoint import write_atomically

    beside = array_files.file_beside(path)
    waiting = array_files.waiting_beside(beside)
    _bring_to_rest(path)
    if arrays:
        write_atomically(waiting, arrays)
    write_atomically(path, record)
    if arrays:
        with contextlib.suppress(OSError):  # they can be read where they wait
            os.replace(waiting, beside)
    else:
        beside.unlink(missing_ok=True)


def _bring_to_rest(path: Path) -> None:
    """End what was killed within `write_pair`: arrays that wait are the record's own, or nobody's."""
    beside = array_files.file_beside(path)
    waiting = array_files.waiting_beside(beside)
    if waiting.exists():
        with contextlib.suppress(StoreError):
            if array_files.waits(beside, read(path).arrays):
                os.replace(waiting, beside)
        waiting.unlink(missing_ok=True)


def beside_others(path: Path, fingerprint: str) -> Path:
    """The path for a record, or one in a folder `<method>~<fingerprint>` where another experiment's lies there.

    Or where a folder does, which no file can replace.
    """
    taken = path.is_dir() or array_files.file_beside(path).is_dir()
    with contextlib.suppress(StoreError):
        there = read(path)
        taken = taken or there.fingerprint == fingerprint_of(there) != fingerprint
    return path.parent.with_name(f"{path.parent.name}~{fingerprint[:8]}") / path.name if taken else path


def _halved(name: str, tensor: Tensor) -> Tensor:
    running = name.endswith(("running_mean", "running_var"))
    return tensor if running or not tensor.is_floating_point() else tensor.half()


def _record_files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (p for p in sorted(folder.rglob("seed*.json")) if "checkpoints" not in p.relative_to(folder).parts)


def _own_record(path: Path) -> Record:
    """The record at `path`; raises StoreError where there is none that is whole and its experiment's own.

    A file that has stood still is read once by a process, however often stores are opened.
    """
    stamp = unchanging(path)
    known = _known.get(path)
    if stamp is not None and known is not None and known[0] == stamp:
        return known[1]
    record = read(path)
    if record.fingerprint != fingerprint_of(record):
        raise StoreError(f"{path} carries another experiment's fingerprint.")
    if stamp is not None:
        _known[path] = stamp, record
    return record


def unchanging(path: Path) -> tuple[int, ...] | None:
    """What tells a file's content from any later one; None while it is so fresh that clocks cannot."""
    try:
        there = path.stat()
    except OSError:
        return None
    still = time.time() - max(there.st_mtime, there.st_ctime) > STILL_SECONDS
    return (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns) if still else None


def fingerprint_of(record: Record) -> str:
    """The fingerprint of the experiment that a record carries: what the record should say."""
    text = json.dumps(record.experiment, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
