"""Checkpoints: whole or absent, in files that can travel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from kdnb.errors import StoreError
from kdnb.training import checkpoint
from kdnb.training.checkpoint import keep_aside, load_checkpoint, remove_checkpoint, save_checkpoint, try_to_write


@pytest.fixture
def small_files(monkeypatch):
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 4096)


def tensors(seed: int) -> dict[str, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    return {
        "bank": torch.randn(1000, 8, generator=stream),
        "steps": torch.tensor(seed),
        **{f"weight.{i}": torch.randn(10, 10, generator=stream) for i in range(25)},
    }


def test_what_is_saved_is_loaded_from_files_that_can_travel(tmp_path, small_files):
    save_checkpoint(tmp_path, tensors(1), {"epoch": 3})
    found, meta = load_checkpoint(tmp_path) or ({}, {})
    assert meta == {"epoch": 3}
    assert found.keys() == tensors(1).keys()
    assert all(torch.equal(found[name], value) for name, value in tensors(1).items())
    sizes = [path.stat().st_size for path in tmp_path.glob("*.safetensors")]
    assert len(sizes) > 8 and max(sizes) < 4096 + 2048  # the header of a file comes on top


def test_a_write_that_breaks_off_leaves_the_old_state(tmp_path, small_files, monkeypatch):
    save_checkpoint(tmp_path, tensors(1), {"epoch": 1})
    written = checkpoint.write_atomically

    def broken(path, content):
        if path.name == checkpoint.META:
            raise KeyboardInterrupt
        written(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", broken)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, tensors(2), {"epoch": 2})
    found, meta = load_checkpoint(tmp_path) or ({}, {})
    assert meta == {"epoch": 1} and torch.equal(found["bank"], tensors(1)["bank"])
    monkeypatch.undo()
    save_checkpoint(tmp_path, tensors(3), {"epoch": 3})
    named = json.loads((tmp_path / checkpoint.META).read_text())["files"]
    assert sorted(named) == sorted(path.name for path in tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "damage", ["cut", "missing", "no json", "foreign json", "deep json", "a bit", "its description", "ragged"]
)
def test_a_damaged_checkpoint_is_said_and_kept_aside(tmp_path, damage):
    folder = tmp_path / "run"
    save_checkpoint(folder, tensors(1), {"epoch": 1})
    file = next(folder.glob("*.safetensors"))
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage == "missing":
        file.unlink()
    elif damage == "a bit":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif damage == "ragged":  # slices of one tensor that do not fit
        file.write_bytes(save({"bank@0": torch.ones(2, 2), "bank@1": torch.ones(2, 3)}))
    elif damage == "its description":
        description = (folder / checkpoint.META).read_text()
        (folder / checkpoint.META).write_text(description.replace('"epoch": 1', '"epoch": 0'))
    else:
        (folder / checkpoint.META).write_text({"no json": "{", "foreign json": "[]"}.get(damage, "[" * 100_000))
    with pytest.raises(StoreError, match="its checkpoint is damaged"):
        load_checkpoint(folder)
    left = sorted(path.name for path in folder.iterdir())
    asides = [keep_aside(folder)]
    save_checkpoint(folder, tensors(2), {"epoch": 1})
    asides.append(keep_aside(folder))
    assert [path.name for path in asides] == ["run~1", "run~2"] and not folder.exists()
    assert sorted(path.name for path in asides[0].iterdir()) == left and load_checkpoint(asides[1]) is not None


def test_one_of_old_has_no_digest_and_is_taken(tmp_path):
    save_checkpoint(tmp_path, tensors(1), {"epoch": 1})
    description = json.loads((tmp_path / checkpoint.META).read_text())
    del description["digest"]
    (tmp_path / checkpoint.META).write_text(json.dumps(description))
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}


def test_a_folder_that_may_not_be_written_is_no_full_disk(tmp_path, monkeypatch):
    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(StoreError, match="may not be written by this user"):
        checkpoint.write_atomically(tmp_path / "file", b"")


def test_two_processes_may_try_the_same_file_at_once(tmp_path, monkeypatch):
    """The trial of one is not the other's: neither finds a folder that it can write refused."""
    path, touch = tmp_path / "new" / "file", Path.touch
    tried: list[Path] = []

    def meanwhile(trial: Path) -> None:
        tried.append(trial)
        touch(trial)
        if len(tried) == 1:
            try_to_write(path)  # begins and ends between the first one's touch and its unlink

    monkeypatch.setattr(Path, "touch", meanwhile)
    try_to_write(path)
    assert len({*tried}) == 2 and not any(path.parent.iterdir())


def test_where_memory_is_short_a_checkpoint_is_not_damaged(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, tensors(1), {})

    def short(content: bytes) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(checkpoint, "load", short)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_checkpoint(tmp_path)


def test_removed_is_gone(tmp_path):
    save_checkpoint(tmp_path / "here", tensors(1), {})
    remove_checkpoint(tmp_path / "here")
    assert not (tmp_path / "here").exists()
