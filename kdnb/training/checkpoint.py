"""State on disk: safetensors in files that can travel, and one small JSON that names them.

The JSON is written last, to a temporary file that is flushed and renamed, and names the files of its own
generation: a crash at any moment leaves the old state or the new one.  It carries a digest of them and of itself, so
that a changed bit is not trained on with.  Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import uuid
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kdnb.errors import StoreError, is_memory
from kdnb.kinds import parsed

#: No file of a checkpoint holds more; a larger tensor is laid down in slices of its rows.
LARGEST_FILE = 15 * 2**20
META = "checkpoint.json"
#: What to do where a file that somebody named cannot be written.
ANOTHER_FILE = "name another file"
#: Tensors by name, and a description.
Checkpoint = tuple[dict[str, Tensor], dict[str, Any]]


def write_atomically(path: Path, content: bytes, instead: str = "point $KDNB_STORE elsewhere") -> None:
    """Write a file so that a reader finds the old content or the new one, never a part.

    Raises StoreError, naming the file and what to do, when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, PermissionError):
            raise StoreError(f"{path} may not be written by this user; {instead}.") from error
        raise StoreError(
            f"{path} could not be written ({error.strerror or error}); what was there before is untouched. "
            f"Free some space or {instead}, then run the same command again."
        ) from error


def try_to_write(path: Path, instead: str = ANOTHER_FILE) -> None:
    """Raises StoreError, naming the file and what to do, where it could not be written; what is there stays."""
    trial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.trial")
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror or error}); {instead}.") from error


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder` by these tensors and this description (JSON values)."""
    generation = uuid.uuid4().hex[:8]
    files, digest = [], _digest_of(meta)
    for number, part in enumerate(_parts(_sliced(tensors))):
        name = f"{generation}-{number:03d}.safetensors"
        content = save({k: v.detach().cpu().contiguous() for k, v in part.items()})
        write_atomically(folder / name, content)
        files.append(name)
        digest.update(content)
    description = {"files": files, "digest": digest.hexdigest(), "meta": meta}
    write_atomically(folder / META, json.dumps(description, indent=1, allow_nan=False).encode())
    for old in folder.glob("*.safetensors"):
        if old.name not in files:
            old.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The tensors and the description in `folder`, or None where there is none; StoreError where it is damaged.

    Those of old carry no digest.  One that is replaced while it is read is read again.
    """
    try:
        text = (folder / META).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"its checkpoint cannot be read ({error})") from error
    try:
        description = parsed(text)
        tensors: dict[str, Tensor] = {}
        digest = _digest_of(description["meta"])
        for name in description["files"]:
            content = (folder / name).read_bytes()
            tensors |= load(content)
            digest.update(content)
        if description.get("digest", digest.hexdigest()) != digest.hexdigest():
            raise ValueError("its digest is another one")
        return _joined(tensors), dict(description["meta"])
    except _DAMAGES as error:
        if is_memory(error):  # the checkpoint is as good as it was
            raise
        if isinstance(error, FileNotFoundError) and _is_another(folder / META, text):
            return load_checkpoint(folder)
        raise StoreError(f"its checkpoint is damaged ({error})") from error


def _is_another(description: Path, text: str) -> bool:
    """Whether a description is no longer what was read from it."""
    try:
        return description.read_text(encoding="utf-8") != text
    except (OSError, ValueError):
        return not description.exists()


#: What reading a damaged checkpoint ends in.
_DAMAGES = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError)


def _digest_of(meta: Any) -> Any:
    """sha256, begun with a description."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode())


def keep_aside(folder: Path) -> Path:
    """Rename the folder of a checkpoint that nobody can go on from here; nothing that was kept aside is replaced."""
    return folder.rename(free_aside(folder))


def free_aside(folder: Path) -> Path:
    """A name for what is kept aside, beside the folder, that nothing has yet."""
    names = (folder.with_name(f"{folder.name}~{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def remove_checkpoint(folder: Path) -> None:
    """Forget a checkpoint: the description first, so that half a removal is no checkpoint."""
    if folder.is_dir():
        for path in [folder / META, *folder.glob("*.safetensors"), *folder.glob(".*.tmp")]:
            path.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _sliced(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors too large for a file as `<name>@0`, `<name>@1`, ...: slices of their rows."""
    sliced: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        pieces = -(-tensor.numel() * tensor.element_size() // LARGEST_FILE)
        if pieces <= 1 or len(tensor) < pieces:
            sliced[name] = tensor
        else:
            sliced |= {f"{name}@{i}": piece for i, piece in enumerate(tensor.tensor_split(pieces))}
    return sliced


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `_sliced`."""
    joined = {name: tensor for name, tensor in tensors.items() if "@" not in name}
    for name in dict.fromkeys(n.rpartition("@")[0] for n in tensors if "@" in n):
        count = sum(n.rpartition("@")[0] == name for n in tensors)
        joined[name] = torch.cat([tensors[f"{name}@{i}"] for i in range(count)])
    return joined


def _parts(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        weight = tensor.numel() * tensor.element_size()
        if parts[-1] and size + weight > LARGEST_FILE:
            parts.append({})
            size = 0
        parts[-1][name] = tensor
        size += weight
    return parts
