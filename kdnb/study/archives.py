"""Records and checkpoints between machines, in archives small enough to travel."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kdnb.errors import StoreError
from kdnb.kinds import parsed
from kdnb.study import arrays as array_files
from kdnb.study.experiment import TEACHER_SEED
from kdnb.study.record import Record, parse, read
from kdnb.study.store import Home, Store, fingerprint_of, is_whole, lock_of, taught_by, write_pair
from kdnb.training.checkpoint import ANOTHER_FILE, META, free_aside, remove_checkpoint, write_atomically
from kdnb.training.numerics import alike

#: No archive of an export is larger, as far as its largest file allows.
LARGEST_ARCHIVE = 15 * 2**20
#: All of one export, in bytes and in files: what a machine that is lent hands over.
LARGEST_EXPORT = 60 * 2**20
MOST_ARCHIVES = 8
#: Beside the checkpoints: what has been exported.
LEDGER = "exported.json"
#: What the siblings of an export's first archive hold, as their names say.
_KINDS = ("records", "checkpoints")

#: Files that travel together: a record with its arrays, or a checkpoint; the first one describes the others.
Unit = list[Path]


@dataclass(frozen=True)
class Exported:
    """The archives of an export, the records' first, and what of the store did not go with it, in a line each."""

    archives: list[Path]
    left: list[str]


def export_store(store: Store, target: Path, everything: bool = False) -> Exported:
    """Pack what is new in this store's own home: `target` for records, numbered siblings for what does not fit there.

    New is what no export has packed yet, but for one to this very target that is about to be replaced.  Records go
    first, each beside its arrays, then whole checkpoints, weights that others need before those of unfinished runs, as
    far as LARGEST_EXPORT and MOST_ARCHIVES allow; the rest goes next time.  Without `$KDNB_STORE` all of the published
    home is packed.  Archives of earlier exports are replaced; any other file that stands in the way is a StoreError.
    """
    need_replaceable(target)
    home = _home(store)
    try:
        ledger = {} if store.own is None or everything else _ledger(home)
        units = [*_records(home), *(u for u in _checkpoint_folders(home) if not store.has_ended(u[0].parent.name))]
        fresh = [unit for unit in units if not _went(home, unit, ledger, target)]
        packed, left = _fitting(fresh) if store.own is not None else (fresh, [])
        archives = _packed(home, target, packed)
        if store.own is not None:
            went = {_name(home, unit): [_digest(unit), str(target.absolute())] for unit in packed}
            write_atomically(home.checkpoints / LEDGER, json.dumps(_ledger(home) | went, indent=1).encode())
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename} went while it was being packed; let the other process end.") from error
    return Exported(archives, [_left_told(home, unit) for unit in left])


def need_replaceable(target: Path) -> None:
    """Raises StoreError where an export to `target` would replace anything but archives of earlier exports."""
    if target.is_dir():
        raise StoreError(f"{target} is a folder; name a file for the archive, as {target / 'records.tar.gz'}.")
    name = re.compile(rf"{re.escape(_stem(target))}-({'|'.join(_KINDS)})-\d+\.tar\.gz")
    beside = sorted(target.parent.iterdir()) if target.parent.is_dir() else []
    siblings = [path for path in beside if name.fullmatch(path.name)]
    for path in (target, *siblings):
        if os.path.lexists(path) and not _is_export(path):
            raise StoreError(f"{path} is no archive of an export, and would be replaced by one; name another file.")


def _is_export(path: Path) -> bool:
    """Whether a file is an archive as `export_store` makes them: packed, whole, and of files of a store alone."""
    if not path.is_file():
        return False
    try:
        with tarfile.open(path, "r:gz") as packed:
            return all(member.isfile() and _is_name(member.name) for member in packed)
    except (OSError, tarfile.TarError, EOFError, zlib.error):
        return False


def _stem(target: Path) -> str:
    return target.name.removesuffix(".tar.gz").removesuffix(".tgz")


def _packed(home: Home, target: Path, units: list[Unit]) -> list[Path]:
    stem = _stem(target)
    first, *others = list(_parts([u for u in units if _is_record(u)])) or [[]]
    archives = [_pack(target, home, first)]
    for number, part in enumerate(others, start=1):
        archives.append(_pack(target.with_name(f"{stem}-{_KINDS[0]}-{number}.tar.gz"), home, part))
    for number, part in enumerate(_parts([[path] for u in units if not _is_record(u) for path in reversed(u)])):
        archives.append(_pack(target.with_name(f"{stem}-{_KINDS[1]}-{number}.tar.gz"), home, part))
    return archives


def _fitting(units: list[Unit]) -> tuple[list[Unit], list[Unit]]:
    """What one export may hold of these, in their order, and what has to wait."""
    packed: list[Unit] = []
    left: list[Unit] = []
    for unit in units:
        tried = [*packed, unit]
        records = [u for u in tried if _is_record(u)]
        others = [[path] for u in tried if not _is_record(u) for path in u]
        size = sum(path.stat().st_size for u in tried for path in u)
        count = max(1, len(list(_parts(records)))) + len(list(_parts(others)))
        if size <= LARGEST_EXPORT and count <= MOST_ARCHIVES:
            packed = tried
        else:
            left.append(unit)
    return packed, left


def _left_told(home: Home, unit: Unit) -> str:
    size = sum(path.stat().st_size for path in unit)
    large = f"is too large to travel ({size / 2**20:.0f} MiB)" if size > LARGEST_EXPORT else "goes with the next export"
    return f"{_name(home, unit)} {large}"


def _ledger(home: Home) -> dict[str, list[str]]:
    """What has gone: the name of a record or a checkpoint's description -> its digest, and the target of the export."""
    try:
        told = parsed((home.checkpoints / LEDGER).read_bytes())
        return {str(name): [str(value) for value in entry] for name, entry in told.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _went(home: Home, unit: Unit, ledger: dict[str, list[str]], target: Path) -> bool:
    digest, *place = ledger.get(_name(home, unit), [""])
    return digest == _digest(unit) and not (place == [str(target.absolute())] and target.exists())


def _is_record(unit: Unit) -> bool:
    return unit[0].name != META


def _name(home: Home, unit: Unit) -> str:
    return _inside(home, unit[0])


def _digest(unit: Unit) -> str:
    """Of the record, which carries its arrays' digest, or of the description, which names files of its own."""
    return hashlib.sha256(unit[0].read_bytes()).hexdigest()[:16]


def import_archives(store: Store, archives: list[Path]) -> Iterator[str]:
    """Take in archives of `export_store`; yields a line for each record and checkpoint taken and each thing refused.

    What is already here is kept: records, and weights; of two checkpoints of one unfinished run the further
    one.  A record with arrays that are missing here replaces ours.  Broken records are refused, arrays too that
    are pickled, too large or another record's, and nothing leaves the store's folders.
    """
    descriptions: dict[str, bytes] = {}
    for archive in archives:
        contents = _contents(archive)
        for name, content in contents.items():
            beside = _beside(name)
            if beside in contents and name.endswith(".npz"):
                continue  # it is taken with its record
            if PurePosixPath(name).name == META:
                descriptions[name] = content  # the last of all: a description makes its checkpoint whole
            else:
                yield from _take(store, archive.name, name, content, contents.get(beside))
    store.refresh()
    for name, content in descriptions.items():
        yield from _take_description(store, name, content)


def _beside(name: str) -> str:
    """The name of the arrays beside a record, or of the record beside arrays; empty for anything else."""
    path = PurePosixPath(name)
    other = {".json": ".npz", ".npz": ".json"}.get(path.suffix)
    return str(path.with_suffix(other)) if other and path.parts[0] == "results" else ""


def _take(store: Store, archive: str, name: str, content: bytes, arrays: bytes | None) -> Iterator[str]:
    place = _place(store, name)
    if place is None:
        yield f"{archive}: {name} does not belong in a store; left out"
    elif name.startswith("results/") and place.suffix == ".json":
        yield from _take_record(store, place, content, arrays)
    elif place.suffix == ".npz":
        yield f"{archive}: {name} has no record beside it; left out"
    elif not place.exists():
        write_atomically(place, content)


def _take_record(store: Store, place: Path, content: bytes, arrays: bytes | None) -> Iterator[str]:
    try:
        record = parse(content.decode(errors="replace"), place)
    except StoreError as error:
        yield f"refused: {error}"
        return
    if record.fingerprint != fingerprint_of(record):
        yield f"refused: {place} carries another experiment's fingerprint"
        return
    teacher, weights = taught_by(record)
    known = store.teacher_digest(teacher)
    if weights and known not in ("", weights):
        yield f"refused: {place} was taught by weights {weights}, and its companions here by {known}"
        return
    names: frozenset[str] = frozenset()
    if arrays is not None:
        try:
            names = _checked(record, array_files.file_beside(place), arrays)
        except StoreError as error:
            yield f"refused: {error}"
    if _is_news(store, record, names):
        place = store.place((record.fingerprint, record.seed), place)
        write_pair(place, content, arrays if arrays is not None and names else b"")
        yield f"record {record.fingerprint}, seed {record.seed}: {place}{', with its arrays' if names else ''}"


def _checked(record: Record, place: Path, arrays: bytes) -> frozenset[str]:
    """The names of the arrays that came with a record; StoreError unless they are its own, small, and numbers alone."""
    if array_files.digest(arrays) != record.arrays:
        raise StoreError(f"{place} is not the file of arrays that its record speaks of.")
    return frozenset(array_files.unpacked(arrays, place))


def _is_news(store: Store, record: Record, names: frozenset[str]) -> bool:
    """Whether a record is missing here, or brings all arrays that ours has and others beside."""
    here = store.get(record.fingerprint, record.seed)
    if here is None or (here.diverged and not record.diverged):
        return True
    same_training = (here.history, here.correct) == (record.history, record.correct)
    if record.seed == TEACHER_SEED and not same_training:
        return False  # its weights are here, and others learned from them: they can be looked at again
    return names > store.array_names(record.fingerprint, record.seed)


def _take_description(store: Store, name: str, content: bytes) -> Iterator[str]:
    place = _place(store, name)
    theirs = _progress(content)
    if place is None or theirs is None:
        yield f"{name} does not describe a checkpoint of a store; left out"
        return
    if place.parent.parent.name != "running":
        yield from _take_checkpoint(place, theirs, content)
        return
    lock = lock_of(place.parent)
    if lock is None:
        yield f"checkpoint {place.parent.name}: the run is being trained here; left out"
        return
    try:
        if store.has_ended(place.parent.name):
            remove_checkpoint(place.parent)  # the run has ended since
        else:
            yield from _take_checkpoint(place, theirs, content)
    finally:
        lock.release()


def _take_checkpoint(place: Path, theirs: _Progress, content: bytes) -> Iterator[str]:
    """Take the description at `place` where it is further than ours; files that none of both names go."""
    folder = place.parent
    here = _progress(place.read_bytes()) if is_whole(folder) else None
    if here is not None and not _alike(here, theirs):
        yield from _take_aside(folder, theirs, content)
    elif here is None or here.position < theirs.position:
        write_atomically(place, content)
        here = theirs
        if is_whole(folder):  # the other files may travel in an archive that comes later
            yield f"checkpoint {folder.name}: {folder}"
    for path in folder.glob("*.safetensors"):
        if path.name not in here.files:
            path.unlink()


def _take_aside(folder: Path, theirs: _Progress, description: bytes) -> Iterator[str]:
    """Keep a checkpoint of other numerics than ours beside it: on a machine that has them a run goes on from it."""
    known = [path.read_bytes() for path in folder.parent.glob(f"{folder.name}~*/{META}")]
    if description in known or not all((folder / name).exists() for name in theirs.files):
        return
    aside = free_aside(folder)
    aside.mkdir()
    for name in theirs.files:
        (folder / name).replace(aside / name)
    write_atomically(aside / META, description)
    yield f"{folder.name}: a checkpoint of other numerics than the one here; it is kept aside as {aside}"


def _alike(here: _Progress, theirs: _Progress) -> bool:
    """Whether two checkpoints, as far as they tell, can go on from one another; weights of finished runs always can."""
    if not isinstance(here.numerics, dict) or not isinstance(theirs.numerics, dict):
        return here.numerics == theirs.numerics
    return alike(here.numerics, theirs.numerics)


@dataclass(frozen=True)
class _Progress:
    """What a checkpoint's description says: its files, how far it is, and how it was computed."""

    files: tuple[str, ...]
    position: tuple[int, int, int]
    numerics: Any


def _progress(description: bytes) -> _Progress | None:
    """None where this is no description, or one that names files elsewhere."""
    try:
        content = parsed(description)
        meta, files = content["meta"], tuple(content["files"])
        position = meta.get("index", 0), meta.get("epoch", 0), meta.get("step", 0)
        counts = all(type(number) is int and number >= 0 for number in position)
        within = counts and all(PurePosixPath(f).name == f and f.endswith(".safetensors") for f in files)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return _Progress(files, position, meta.get("numerics")) if within else None


def _contents(archive: Path) -> dict[str, bytes]:
    if archive.is_dir():
        raise StoreError(
            f"{archive} is a folder; name the archives in it that `kdnb study --export` made, as {archive}/*.tar.gz."
        )
    try:
        with tarfile.open(archive) as packed:
            return {m.name: _content(packed, m) for m in packed.getmembers() if m.isfile()}
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        told = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0].rstrip(":")
        why = told or type(error).__name__
        raise StoreError(f"{archive} is not a whole archive of an export ({why}).") from error


def _home(store: Store) -> Home:
    return store.own or store.published


def _place(store: Store, name: str) -> Path | None:
    """Where a file of an archive goes: only below the store's own folders, whatever its name says."""
    if not _is_name(name):
        return None
    path = PurePosixPath(name)
    home = _home(store)
    if path.parts[0] == "results":
        if store.own is None:  # what no table of the published study shows does not go there
            profile = path.parts[2]
            home = store.demo if profile == "demo" else store.custom if profile.startswith("custom-") else home
        return home.results.joinpath(*path.parts[1:])
    return home.checkpoints.joinpath(*path.parts[1:])


def _is_name(name: str) -> bool:
    """Whether a file of an archive has the name of a record, of arrays, or of a part of a checkpoint."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
        return False
    if path.parts[0] == "results":
        return path.suffix in (".json", ".npz")
    return path.parts[0] == "checkpoints" and (path.name == META or path.suffix == ".safetensors")


def _checkpoint_folders(home: Home) -> list[Unit]:
    """The files of each checkpoint, by what its description names: a killed write leaves others behind."""
    found = []
    for meta in sorted(home.checkpoints.rglob(META), key=lambda path: ("running" in path.parts, path)):
        if is_whole(meta.parent):
            names = parsed(meta.read_bytes())["files"]
            found.append([meta, *(meta.parent / name for name in names)])
    return found


def _records(home: Home) -> list[Unit]:
    """Every record, with its arrays where it has some."""
    found = []
    for record in sorted(home.results.rglob("seed*.json")):
        found.append([record, *_arrays_of(record)])
    return found


def _arrays_of(record: Path) -> list[Path]:
    """The file of arrays that a record speaks of, or what lies in its place."""
    beside = array_files.file_beside(record)
    waiting = array_files.waiting_beside(beside)
    with contextlib.suppress(StoreError):
        if waiting.exists() and array_files.waits(beside, read(record).arrays):
            return [waiting]
    return [beside] if beside.exists() else []


def _parts(units: list[Unit]) -> Iterator[list[Path]]:
    """Files in parts of at most LARGEST_ARCHIVE; those of a unit stay together."""
    part: list[Path] = []
    size = 0
    for unit in units:
        weight = sum(path.stat().st_size for path in unit)
        if part and size + weight > LARGEST_ARCHIVE:
            yield part
            part, size = [], 0
        part += unit
        size += weight
    if part:
        yield part


def _pack(target: Path, home: Home, files: list[Path]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for path in files:
            packed.add(path, _inside(home, path))
    write_atomically(target, buffer.getvalue(), ANOTHER_FILE)
    return target


def _inside(home: Home, path: Path) -> str:
    """The name of a file of the store in an archive."""
    inside_results = path.is_relative_to(home.results)
    base, prefix = (home.results, "results") if inside_results else (home.checkpoints, "checkpoints")
    return f"{prefix}/{array_files.at_rest(path).relative_to(base).as_posix()}"


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = packed.extractfile(member)
    assert stream is not None
    return stream.read()
