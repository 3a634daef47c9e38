"""The image sets that kdnb knows by name: what can be said of each without reading an image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kdnb import errors


@dataclass(frozen=True)
class Archive:
    """A published archive of binary files; which of them make up a split, and how they are laid out.

    CIFAR's are fixed-length records: `label_bytes`, then the planes R, G, B.  STL-10's have none: each split's images
    are one file, its labels another, and an image without a label is in `unlabelled`.

    `md5` is the one printed on https://www.cs.toronto.edu/~kriz/cifar.html beside the "binary version", or the one by
    which torchvision knows the archive; `md5s` are its files', where they are known.
    """

    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_bytes: int
    unlabelled: tuple[str, ...] = ()
    md5s: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def filename(self) -> str:
        """Name of the archive's file."""
        return self.url.rsplit("/", 1)[1]


#: Mean and std per channel, of values in 0..1.
Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class DatasetInfo:
    """What an image set is. `side` in pixels; `published` holds each split's `order_free_sha256`, if it is known.

    Where it is not, the archive's md5 vouches for the images, and their number for the whole set.

    `crop_padding` pixels are added around an image before a random crop of the old size is taken, and
    `flip` says whether a mirrored image still shows the same thing. `revision` is raised when the pixels,
    the labels, or the split of an embedded set change.

    A reader's own set (kdnb.datasets.own) is `published` by its own description and nowhere else.  It has a `measured`
    mean and std of its training images, where protocols have their own for the images that they know, and `remarks`:
    how it was made of its files.
    """

    name: str
    title: str
    num_classes: int
    side: int
    train_count: int
    test_count: int
    crop_padding: int
    flip: bool
    revision: int
    class_names: tuple[str, ...] = field(repr=False)
    published: dict[str, str] = field(repr=False, compare=False)
    archive: Archive | None = field(default=None, repr=False)
    channels: int = 3
    unlabelled_count: int = 0
    measured: Normalisation | None = field(default=None, repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """Each split's number of images; `unlabelled` is one where there are such images."""
        found = {"train": self.train_count, "test": self.test_count, "unlabelled": self.unlabelled_count}
        return {split: count for split, count in found.items() if count or split != "unlabelled"}

    def is_whole(self, counts: dict[str, int], digests: dict[str, str]) -> bool:
        """Whether splits with these numbers and digests are the published set and not a part of it."""
        return digests == self.published if self.published else counts == self.counts

    @property
    def embedded(self) -> bool:
        """True where the images come with an installed package and nothing has to be prepared."""
        return self.archive is None and not self.own

    @property
    def own(self) -> bool:
        """True for a reader's own images, prepared here from a folder."""
        return self.measured is not None

    def with_counts(self, train: int, test: int) -> DatasetInfo:
        """The same set with other numbers of images, where only a part of it is there."""
        return replace(self, train_count=train, test_count=test)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/"

DIGITS = DatasetInfo(
    name="digits",
    title="Digits",
    num_classes=10,
    side=16,
    train_count=1197,
    test_count=600,
    crop_padding=2,
    flip=False,  # a mirrored digit is another sign
    revision=1,
    class_names=tuple("0123456789"),
    published={
        "train": "be3a8d9c2c18ef80ac4e49bd2791e39a4c69b1cbe5bc1a2b24e704a2f7934f05",
        "test": "8bd06a4fe78b1f6fb18d1068f35cb80620a6255969c65d29251cb6b8655b8f84",
    },
)

CIFAR10 = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    num_classes=10,
    side=32,
    train_count=50_000,
    test_count=10_000,
    crop_padding=4,
    flip=True,
    revision=1,
    class_names=_words("airplane automobile bird cat deer dog frog horse ship truck"),
    published={
        "train": "6a3b2c04d0a79ce272dcdacaf0bc440275db5a8cbe3717521a28fada2ea0d2ed",
        "test": "65a6ffe079453e514083f99356b35e02cbfd581b4951e3937fae188974b79f39",
    },
    archive=Archive(
        url=_CIFAR_HOME + "cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
        label_bytes=1,
    ),
)

CIFAR100 = DatasetInfo(
    name="cifar100",
    title="CIFAR-100",
    num_classes=100,
    side=32,
    train_count=50_000,
    test_count=10_000,
    crop_padding=4,
    flip=True,
    revision=1,
    class_names=_words(
        """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
        camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
        dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
        leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
        otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
        road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
        sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
        wardrobe whale willow_tree wolf woman worm"""
    ),
    published={
        "train": "640c97a4012a8aebfcaf57fd82a33dd43b37d2e397a02cb9b0a3d89e6d6d936d",
        "test": "a6a97df7b61bc7420bc44268696e8963d33129bc050978f2a63d8fe3420989fa",
    },
    archive=Archive(
        url=_CIFAR_HOME + "cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        train=("train.bin",),
        test=("test.bin",),
        label_bytes=2,  # the coarse label, then the fine one; the fine one is the class
    ),
)

STL10 = DatasetInfo(
    name="stl10",
    title="STL-10",
    num_classes=10,
    side=32,
    train_count=5_000,
    test_count=8_000,
    unlabelled_count=100_000,
    crop_padding=4,
    flip=True,
    revision=1,
    class_names=_words("airplane bird car cat deer dog horse monkey ship truck"),
    published={},  # of images of 96x96; those that are made of them here nobody has published
    archive=Archive(
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        md5="91f7769df0f17e558f3565bffb0c7dfb",
        folder="stl10_binary",
        train=("train_X.bin", "train_y.bin"),
        test=("test_X.bin", "test_y.bin"),
        unlabelled=("unlabeled_X.bin",),
        label_bytes=0,
        md5s={
            "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
            "train_y.bin": "5a34089d4802c674881badbb80307741",
            "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
            "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
            "unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
        },
    ),
)

_CATALOGUE = {entry.name: entry for entry in (DIGITS, CIFAR10, CIFAR100, STL10)}


#: Sets that papers use and kdnb cannot prepare yet: tables name them, nothing runs on them.
PLANNED = {
    "imagenet": "ImageNet",
    "flowers102": "Flowers-102",
    "cub200": "CUB-200",
    "sun_attribute": "SUN Attribute",
    "stanford_cars": "Stanford Cars",
    "mit_indoor67": "MIT Indoor-67",
    "pubfig83": "PubFig83",
    "voc2007": "VOC 2007",
}


def names() -> list[str]:
    """Names of the data sets of the catalogue, prepared or not."""
    return list(_CATALOGUE)


def info(name: str) -> DatasetInfo:
    """What the data set is; no image is read. Raises KdnbError naming the nearest known data sets."""
    if name not in _CATALOGUE:
        raise errors.unknown("data set", name, _CATALOGUE)
    return _CATALOGUE[name]
