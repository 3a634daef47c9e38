"""A reader's own images: any folder of classes becomes a data set, and the leaderboard is made on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from book_samples import accuracy
from PIL import Image
from study_samples import keep

from kdnb import cli, datasets, exhibits, tables
from kdnb.datasets import folders
from kdnb.errors import DataError, KdnbError
from kdnb.exhibits import leaderboard, slkd, status, wanted
from kdnb.study.experiment import Images
from kdnb.study.profile import PROFILES
from kdnb.study.record import read
from kdnb.study.store import Store

PILOT = PROFILES["pilot"]
CLASSES = ("daisy", "rose", "tulip")


def write(folder: Path, classes: tuple[str, ...] = CLASSES, count: int = 20, seed: int = 0) -> Path:
    """A folder with `count` noisy PNGs of each class, each class with a brightness of its own."""
    draw = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(60 * label, 60 * label + 100, (36, 34 + i, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Sixty images in three classes, in one level."""
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "data"))
    return write(tmp_path / "photos")


@pytest.fixture
def flowers(photos) -> str:
    """The same as a prepared data set."""
    datasets.prepare("flowers", photos)
    return "flowers"


def command(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["kdnb", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


# -- preparing ---------------------------------------------------------------------------------------------


def test_a_fifth_of_every_class_is_kept_for_tests_whatever_the_files_are_called(photos):
    datasets.prepare("flowers", photos)
    first = datasets.load("flowers")
    assert first.classes == CLASSES and first.info.num_classes == 3 and first.info.side == 32
    assert np.bincount(first.train.labels).tolist() == [16] * 3 and np.bincount(first.test.labels).tolist() == [4] * 3
    for name in CLASSES:  # the last becomes the first, and one is there twice
        for i, path in enumerate(sorted((photos / name).iterdir(), reverse=True)):
            path.rename(path.with_name(f"{i:03}-again.png"))
        shutil.copy(photos / name / "000-again.png", photos / name / "copy.png")
    told: list[str] = []
    datasets.prepare("flowers", photos, progress=told.append)
    again = datasets.load("flowers")
    assert (again.train.digest, again.test.digest) == (first.train.digest, first.test.digest)
    assert "3 copies of images of the same class were left out." in told


def test_an_image_in_two_classes_is_told_where_it_would_be_learned_and_tested(photos):
    datasets.prepare("flowers", photos)
    learned = {image.tobytes() for image in datasets.load("flowers").train.images}
    shutil.rmtree(photos / CLASSES[1])
    (photos / CLASSES[1]).mkdir()
    for path in (photos / CLASSES[0]).iterdir():
        if folders._read_image(path, 32).tobytes() in learned:
            shutil.copy(path, photos / CLASSES[1] / path.name)
    datasets.prepare("flowers", photos, replace=True)
    assert "3 of the test images have the pixels of a training image." in datasets.check("flowers")


@pytest.mark.parametrize("name", ["custom", "unfinished", "results"])
def test_folders_of_the_store_are_no_names(name, photos):
    with pytest.raises(KdnbError, match=name):
        datasets.prepare(name, photos)


def test_test_images_of_another_class_do_not_depend_on_the_classes_beside_it(photos):
    def tulips() -> set[bytes]:
        data = datasets.load("flowers")
        return {image.tobytes() for image in data.test.images[data.test.labels == data.classes.index("tulip")]}

    datasets.prepare("flowers", photos)
    before = tulips()
    write(photos, ("aster",), seed=1)
    datasets.prepare("flowers", photos, replace=True)
    assert tulips() == before and len(datasets.load("flowers").classes) == 4


def test_two_levels_stay_as_they_are_and_shared_images_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "data"))
    source = tmp_path / "both"
    write(source / "train", count=5)
    write(source / "test", count=2, seed=1)
    shutil.copy(source / "train" / "rose" / "0.png", source / "test" / "rose" / "seen.png")
    datasets.prepare("flowers", source)
    found = datasets.load("flowers")
    assert (len(found.train), len(found.test)) == (15, 7) and found.published
    assert "1 of the test images has the pixels of a training image." in datasets.check("flowers")


def test_the_shorter_side_becomes_32_and_the_middle_is_cut_out(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "data"))
    striped = np.zeros((64, 192, 3), np.uint8)
    striped[:, 64:128] = (255, 0, 0)  # the middle third, which alone is seen
    clear = np.zeros((40, 40, 4), np.uint8)
    for name, shown in (("clear", clear), ("red", striped), ("tall", striped.transpose(1, 0, 2))):
        for split in ("train", "test"):
            (tmp_path / "few" / split / name).mkdir(parents=True)
            Image.fromarray(shown).save(tmp_path / "few" / split / name / "one.png")
    datasets.prepare("few", tmp_path / "few")
    data = datasets.load("few")
    seen = {data.classes[label]: image for image, label in zip(data.test.images, data.test.labels, strict=True)}
    inner = slice(2, 30)  # bicubic mixes what lies at the edges
    assert (seen["clear"] == 255).all(), "what is transparent is white"
    assert (seen["red"][:, inner] == (255, 0, 0)).all() and (seen["tall"][inner] == (255, 0, 0)).all()


def test_files_that_cannot_be_read_are_named_and_left_out(photos):
    (photos / "rose" / "torn.jpg").write_bytes(b"no image")
    (photos / "tulip" / "notes.txt").write_text("by the fence")
    (photos / "tulip" / ".hidden").write_text("")
    told: list[str] = []
    datasets.prepare("flowers", photos, progress=told.append)
    left = [line for line in told if line.startswith("Left out: ")]
    assert [Path(line.split(": ")[1]).name for line in left] == ["torn.jpg", "notes.txt"]
    assert datasets.check("flowers")[-2:] == [
        "1 file was left out: not of the kinds .png, .jpg and .jpeg, which alone are read.",
        "1 file was left out: not to be read as an image.",
    ]


def test_sound_images_of_other_kinds_are_left_out_for_that_reason_alone(photos):
    for name in ("sound.webp", "sound.bmp"):
        Image.new("RGB", (32, 32)).save(photos / "rose" / name)
    datasets.prepare("flowers", photos)
    (told,) = [line for line in datasets.check("flowers") if "left out" in line]
    assert told == "2 files were left out: not of the kinds .png, .jpg and .jpeg, which alone are read."


@pytest.mark.parametrize(("count", "told"), [(1, "1 file more was"), (2, "2 files more were")])
def test_files_that_are_not_named_are_counted(count, told, photos):
    for i in range(20 + count):
        (photos / "tulip" / f"{i}.txt").write_text("by the fence")
    lines: list[str] = []
    datasets.prepare("flowers", photos, progress=lines.append)
    assert f"And {told} left out." in lines and sum(line.startswith("Left out: ") for line in lines) == 20


def test_images_in_two_classes_are_counted_in_each_split(tmp_path, monkeypatch):
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / "data"))
    source = tmp_path / "both"
    write(source / "train", count=5)
    write(source / "test", count=2, seed=1)
    for split, count in (("train", 2), ("test", 1)):
        for i in range(count):
            for copy in ("a", "b"):  # a copy counts once
                shutil.copy(source / split / "rose" / f"{i}.png", source / split / "tulip" / f"{copy}-{i}.png")
    datasets.prepare("flowers", source)
    told = datasets.check("flowers")
    assert "2 of the training images stand in more than one class." in told
    assert "1 of the test images stands in more than one class." in told


def test_one_copy_is_told_as_one(photos):
    shutil.copy(photos / "rose" / "0.png", photos / "rose" / "copy.png")
    datasets.prepare("flowers", photos)
    assert "1 copy of images of the same class was left out." in datasets.check("flowers")


# -- the same name again -----------------------------------------------------------------------------------


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}


def other_images(photos: Path) -> dict[str, bool]:
    shutil.rmtree(photos)
    write(photos, count=15, seed=1)
    return {}


def another_class(photos: Path) -> dict[str, bool]:
    (photos / "tulip").rename(photos / "violet")
    return {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_images, r"other images, 48 for train \(digest .* in 3 classes, than .*photos, 36 for train \(digest"),
        (another_class, "a class 'tulip', which .*photos calls 'violet'"),
        (lambda _: {"flip": False}, r"which were to be mirrored and now are not to be mirrored \(--no-flip\)"),
    ],
)
def test_a_name_that_has_other_images_keeps_them_unless_they_are_to_be_replaced(change, told, flowers, photos):
    folder = photos.parent / "data" / flowers
    before, how = stamps(folder), change(photos)
    with pytest.raises(DataError, match=f"data/flowers holds .*{told}.*another name, or .*--replace") as refused:
        datasets.prepare(flowers, photos, **how)
    assert stamps(folder) == before and "\n" not in str(refused.value) and str(refused.value).count(". ") == 0
    assert [path.name for path in folder.parent.iterdir()] == [flowers]
    datasets.prepare(flowers, photos, replace=True, **how)
    assert stamps(folder) != before and datasets.check(flowers)


def test_the_same_images_again_change_nothing_and_heal_what_is_damaged(flowers, photos):
    folder, lines = photos.parent / "data" / flowers, list[str]()
    before = stamps(folder)
    datasets.prepare(flowers, photos, progress=lines.append)
    assert stamps(folder) == before and lines[-1] == f"{flowers} is in {folder} already."
    (folder / "train_images.npy").write_bytes(b"")
    datasets.prepare(flowers, photos)
    assert datasets.check(flowers) and (folder / "train_images.npy").read_bytes() == before["train_images.npy"][1]


@pytest.mark.parametrize("how", [{"flip": False}, {"replace": True}])
def test_another_way_needs_the_folder_again(how, flowers):
    with pytest.raises(KdnbError, match=r"flowers is prepared already, .*--from FOLDER"):
        datasets.prepare(flowers, **how)


def test_images_that_are_settled_cannot_be_replaced(photos):
    with pytest.raises(KdnbError, match="only your own can be replaced"):
        datasets.prepare("cifar10", photos, replace=True)


def test_the_command_replaces_when_it_is_told_to(flowers, photos, monkeypatch, capsys):
    other_images(photos)
    asked = ("data", "prepare", flowers, "--from", str(photos))
    assert command(monkeypatch, *asked) == 2
    assert "--replace" in capsys.readouterr().err and len(datasets.load(flowers).train) == 48
    assert command(monkeypatch, *asked, "--replace") == 0 and len(datasets.load(flowers).train) == 36


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_hold_images_is_said_with_a_remedy(place, photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_DATA", str(tmp_path / place))
    with pytest.raises(
        DataError, match=r"flowers could not .*/file is no folder\); point \$KDNB_DATA to a folder that"
    ):
        datasets.prepare("flowers", photos)


def test_a_place_that_may_not_be_looked_at_is_said_with_a_remedy(photos, monkeypatch):
    real = Path.is_dir

    def is_dir(path: Path, **how: bool) -> bool:
        if path.name == "flowers":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **how)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    with pytest.raises(DataError, match=r"\(Permission denied\); point \$KDNB_DATA to a folder that can be written"):
        datasets.prepare("flowers", photos)


def test_a_place_that_cannot_be_written_is_said_with_a_remedy(photos, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "somewhere")

    monkeypatch.setattr("tempfile.mkdtemp", forbidden)
    with pytest.raises(DataError, match=r"\(Permission denied\); point \$KDNB_DATA to a folder that can be written"):
        datasets.prepare("flowers", photos)
    with pytest.raises(DataError, match=r"\(Permission denied\); name a folder that can be written"):
        datasets.prepare("flowers", photos, root=photos.parent / "root")


def _without_tests(source: Path) -> None:
    write(source / "train")
    write(source / "test", CLASSES[:2])


def _one_image(source: Path) -> None:
    write(source, count=1)


def _empty_class(source: Path) -> None:
    write(source)
    (source / "zinnia").mkdir()


@pytest.mark.parametrize(
    ("lay_out", "why"),
    [
        (lambda source: write(source, CLASSES[:1]), "holds 1 folder of a class; there have to be 2 to 256"),
        (lambda source: write(source / "train"), "test: holds no folders of classes"),
        (_without_tests, "tulip: is missing; every class needs test images"),
        (_one_image, "daisy: holds one image"),
        (_empty_class, "zinnia: holds no image that can be read"),
        (lambda source: None, "is no folder"),
    ],
)
def test_a_folder_that_does_not_serve_is_said_and_leaves_what_was_there(flowers, tmp_path, lay_out, why):
    before = datasets.check(flowers)
    lay_out(tmp_path / "bad")
    with pytest.raises(DataError, match=why):
        datasets.prepare(flowers, tmp_path / "bad")
    assert datasets.check(flowers) == before


@pytest.mark.parametrize("name", ["digits", "imagenet", "results", "Flowers", "a/b"])
def test_a_name_that_is_taken_or_none_is_refused(photos, name):
    with pytest.raises(KdnbError, match="your own images"):
        datasets.prepare(name, photos)


def test_own_sets_are_listed_checked_and_found_broken(flowers, tmp_path):
    (listed,) = [one for one in datasets.describe() if one.name == flowers]
    assert (listed.state, listed.detail) == ("prepared", "48 training and 12 test images in 3 classes of your own.")
    with pytest.raises(KdnbError, match=r"did you mean flowers.*--from FOLDER"):
        datasets.prepare("flower")
    meta = tmp_path / "data" / flowers / "meta.json"
    content = json.loads(meta.read_text())
    content["own"]["mean"][0] += 0.1
    meta.write_text(json.dumps(content))
    with pytest.raises(DataError, match="another mean and std"):
        datasets.check(flowers)
    for text in ("{}", "[" * 100_000, None):
        if text is None:  # a folder where the file should be
            meta.unlink()
            meta.mkdir()
        else:
            meta.write_text(text)
        assert [one.state for one in datasets.describe() if one.name == flowers] == ["broken"]
        with pytest.raises(DataError, match="does not describe images of your own"):
            datasets.load(flowers)


@pytest.mark.parametrize("name", [None, 4, ["flowers"], "f" * 10_000])
def test_what_cannot_name_a_data_set_names_none(name):
    with pytest.raises(KdnbError, match="There is no data set"):
        datasets.info(name)


# -- the leaderboard ---------------------------------------------------------------------------------------


def test_experiments_have_the_measured_mean_and_std_and_are_other_ones_when_an_image_changes(flowers, photos):
    train = datasets.load(flowers).train.images / 255
    images = slkd.images(flowers, None)
    assert images.mean == pytest.approx(train.mean((0, 1, 2)), abs=1e-4)
    assert images.std == pytest.approx(train.std((0, 1, 2)), abs=1e-4)
    before = images.canonical()
    assert before["flip"]
    datasets.prepare(flowers, photos, flip=False, replace=True)
    assert not images.canonical()["flip"] and images.canonical()["digests"] == before["digests"]
    shutil.copy(photos / "rose" / "0.png", photos / "tulip" / "more.png")
    datasets.prepare(flowers, photos, replace=True)
    assert Images(flowers, "test", images.mean, images.std).canonical()["digests"] != before["digests"]


def test_every_table_of_the_leaderboard_and_no_other_is_made_on_own_images(flowers):
    chosen = wanted.select("all", flowers)
    assert {e.key for e in chosen} == {e.key for e in exhibits.select("leaderboard")}
    assert all(e.datasets == (flowers,) for e in chosen)
    first = leaderboard.FIRST.on(flowers)
    why = {cell.row.key: cell.why_not for cell in first.cells("pilot") if cell.experiment is None}
    assert set(why) == {"plain-tuned", "kd-tuned"} and "--dataset flowers" in why["kd-tuned"]
    with pytest.raises(KdnbError, match="not made on images of your own; these are: leaderboard/first"):
        wanted.select("comparison/table1", flowers)
    with pytest.raises(KdnbError, match="take --profile pilot"):
        first.cells("demo", flowers)


def test_own_images_choose_their_own_settings_and_show_their_own_table(flowers, empty_project):
    for place, cell in enumerate(leaderboard.TUNING.on(flowers).cells("pilot")):
        for run in cell.runs(1):
            keep(run, accuracy(place, run.seed))
    first = leaderboard.FIRST.on(flowers)
    tuned = {cell.row.key: cell.experiment for cell in first.cells("pilot", asked=["plain-tuned", "kd-tuned"])}
    assert tuned["kd-tuned"] is not None and tuned["kd-tuned"].arguments["temperature"] == 8.0  # the last is the best
    elsewhere = leaderboard.FIRST.cells("pilot", asked=["kd-tuned"])
    assert elsewhere[0].experiment is None, "the search on other images has chosen nothing"
    cells = first.cells("pilot", asked=["teacher", "plain", "kd", "dkd"])
    for place, cell in enumerate(cells):
        for run in wanted.of_cell(cell, 3):
            keep(run, accuracy(place, run.seed))
    found = status.report(keys="leaderboard/first,leaderboard/tuning")
    assert not found["stale"] and "leaderboard/first on flowers: 71 cells" in status.told(found)
    assert "    dkd: pilot 3" in status.told(found).splitlines()
    with pytest.raises(KdnbError, match="did you mean flowers"):
        wanted.runs(wanted.select("leaderboard/first"), PROFILES["pilot"], "flowrs")
    (table,) = tables.ranking(first, "pilot")
    assert "flowers" in table.caption and "DKD" in table.to_text()
    assert "leaderboard/first --profile pilot --dataset flowers --rows" in table.rerun


def test_the_dashboard_says_why_records_of_other_images_belong_nowhere(flowers, photos, empty_project, tmp_path):
    (plain,) = leaderboard.FIRST.on(flowers).cells("pilot", asked=["plain"])
    keep(plain.runs(1)[0])
    assert not status.report(keys="leaderboard/first")["stale"]
    shutil.copy(photos / "rose" / "0.png", photos / "tulip" / "more.png")
    datasets.prepare(flowers, photos, replace=True)
    (stale,) = status.report(keys="leaderboard/first")["stale"]
    assert stale["what"] == "was made with other images than those that 'flowers' stands for now"
    shutil.rmtree(tmp_path / "data" / flowers)
    (stale,) = status.report(keys="leaderboard/first")["stale"]
    assert stale["what"] == "was made with images called 'flowers', which are not prepared here"


def test_one_command_prepares_and_one_trains(photos, monkeypatch, empty_project, capsys):
    assert command(monkeypatch, "data", "prepare", "flowers", "--from", str(photos)) == 0
    asked = ("study", "--exhibit", "leaderboard/first", "--dataset", "flowers", "--profile", "pilot", "--epochs", "1")
    assert command(monkeypatch, *asked, "--rows", "kd", "--seeds", "1", "--workers", "1", "--device", "cpu") == 0
    (record,) = [r for r in Store.open().all() if r.experiment["method"]["name"] == "kd"]
    assert record.experiment["images"]["dataset"] == "flowers" and 0 <= record.metrics["headline"] <= 1
    assert read(Path(record.path)).experiment["network"]["name"] == "resnet8"
