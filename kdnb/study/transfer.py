"""Records and checkpoints between machines, in archives small enough to travel."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from kdnb.errors import StoreError
from kdnb.study.record import read
from kdnb.study.store import Home, Store
from kdnb.training.checkpoint import META, write_atomically

#: No archive of an export is larger, as far as its largest file allows.
LARGEST_ARCHIVE = 15 * 2**20


def export_store(store: Store, target: Path) -> list[Path]:
    """Pack what this store's own home holds: `target` for records, numbered siblings for checkpoints.

    Returns the archives, the records' first.  Without `$KDNB_STORE` the published home is packed.
    """
    home = store.own or store.published
    archives = [_pack(target, home, sorted(home.results.rglob("*.json")) + sorted(home.results.rglob("*.npz")))]
    stem = target.name.removesuffix(".tar.gz").removesuffix(".tgz")
    for number, part in enumerate(_parts(_checkpoint_folders(home))):
        archives.append(_pack(target.with_name(f"{stem}-checkpoints-{number}.tar.gz"), home, part))
    return archives


def import_archives(store: Store, archives: list[Path]) -> Iterator[str]:
    """Take in archives of `export_store`; yields a line for each thing taken or refused.

    A record that is already here is kept, a broken one is refused, and nothing leaves the store's folders.
    """
    for archive in archives:
        try:
            with tarfile.open(archive) as packed:
                members = [m for m in packed.getmembers() if m.isfile()]
                contents = {m.name: _content(packed, m) for m in members}
        except (OSError, tarfile.TarError, EOFError) as error:
            raise StoreError(f"{archive} is not a whole archive of an export ({error}).") from error
        yield from _take(store, archive, contents)
    store.refresh()


def _take(store: Store, archive: Path, contents: dict[str, bytes]) -> Iterator[str]:
    # A checkpoint's description goes last: it makes the checkpoint whole.
    for name in sorted(contents, key=lambda n: (n.endswith(META), n)):
        place = _place(store, name)
        if place is None:
            yield f"{archive.name}: {name} does not belong in a store; left out"
        elif place.exists() and not name.endswith(META):
            continue
        else:
            write_atomically(place, contents[name])
            if name.startswith("results/") and name.endswith(".json"):
                yield _checked(place)


def _checked(path: Path) -> str:
    try:
        record = read(path)
    except StoreError as error:
        path.unlink()
        return f"refused: {error}"
    return f"record {record.fingerprint}, seed {record.seed}: {path}"


def _place(store: Store, name: str) -> Path | None:
    """Where a file of an archive goes: only below the store's own folders, whatever its name says."""
    path = PurePosixPath(name)
    home = store.own or store.published
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        return None
    if path.parts[0] == "results" and path.suffix in (".json", ".npz"):
        return home.results.joinpath(*path.parts[1:])
    if path.parts[0] == "checkpoints" and path.suffix in (".json", ".safetensors"):
        return home.checkpoints.joinpath(*path.parts[1:])
    return None


def _checkpoint_folders(home: Home) -> list[list[Path]]:
    """The files of each checkpoint, by what its description names: a killed write leaves others behind."""
    found = []
    for meta in sorted(home.checkpoints.rglob(META)):
        names = json.loads(meta.read_text())["files"]
        found.append([*(meta.parent / name for name in names), meta])
    return found


def _parts(folders: list[list[Path]]) -> Iterator[list[Path]]:
    part: list[Path] = []
    size = 0
    for path in (p for files in folders for p in files):
        weight = path.stat().st_size
        if part and size + weight > LARGEST_ARCHIVE:
            yield part
            part, size = [], 0
        part.append(path)
        size += weight
    if part:
        yield part


def _pack(target: Path, home: Home, files: list[Path]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for path in files:
            inside_results = path.is_relative_to(home.results)
            base, prefix = (home.results, "results") if inside_results else (home.checkpoints, "checkpoints")
            packed.add(path, f"{prefix}/{path.relative_to(base).as_posix()}")
    write_atomically(target, buffer.getvalue())
    return target


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = packed.extractfile(member)
    assert stream is not None
    return stream.read()
