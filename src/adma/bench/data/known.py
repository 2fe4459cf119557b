"""The data sets known by name: what each one is, where it is published, and how the paper used it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from adma.bench.data.checks import TEST, TRAIN, UNSTATED


@dataclass(frozen=True)
class Hub:
    """A data set in the Hugging Face hub.

    repository: owner/name.
    revision: the commit that is read, None if none could be confirmed.
    rows: the hub's split -> how many rows it must have, None if that could not be confirmed.
    config: the configuration's name, None where there is only one.
    image, label: names of columns.
    parts: the hub's split -> "train", "val" or "test". If empty, the splits together are the data set, undivided.
    unique: a column; of rows with the same value the first is taken.
    classes: what the hub calls a class -> our name of it, where they differ in more than case and punctuation.
    """

    repository: str
    revision: str | None
    rows: Mapping[str, int | None]
    config: str | None = None
    image: str = "image"
    label: str = "label"
    parts: Mapping[str, str] = field(default_factory=dict)
    unique: str | None = None
    classes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grouping:
    """Which samples show the same thing.

    column: of the manifest or of the hub.
    noun: what a group is, in the singular.
    pattern: the part of a value that counts, a regular expression; values without a match say nothing.
    file_names: whether without a manifest the files' names hold the value.
    same_bytes: whether files with the same content belong together too.
    needed: whether a test is not to be trusted without it.
    """

    column: str
    noun: str
    pattern: re.Pattern[str] = re.compile(".+")
    file_names: bool = False
    same_bytes: bool = False
    needed: bool = False


@dataclass(frozen=True)
class Known:
    """A data set known by name.

    counts: the whole published set: part -> samples of each class, in the order of `classes`; the part is "" where
        nothing is divided officially.
    classes: names, in order.
    image_size: (height, width) in pixels, as the paper used it.
    channels: 1 grey, 3 RGB.
    hub: where it is downloaded from, None if it is bundled.
    grouping: None if every sample stands for itself.
    augment: as the paper augmented it, "none" where it does not say.
    """

    name: str
    description: str
    counts: Mapping[str, tuple[int, ...]]
    classes: tuple[str, ...]
    image_size: tuple[int, int]
    channels: int
    hub: Hub | None = None
    grouping: Grouping | None = None
    augment: str = "none"

    @property
    def size(self) -> int:
        """Samples of the whole published set."""
        return sum(map(sum, self.counts.values()))


_DIGITS = tuple("0123456789")
_TRAIN_TEST = {"train": TRAIN, "test": TEST}
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
_SKIN = {
    "actinic_keratoses": "akiec",
    "basal_cell_carcinoma": "bcc",
    "benign_keratosis-like_lesions": "bkl",
    "dermatofibroma": "df",
    "melanoma": "mel",
    "melanocytic_Nevi": "nv",
    "vascular_lesions": "vasc",
}

_ALL = (
    Known(
        "digits",
        "handwritten digits, bundled with scikit-learn",
        {UNSTATED: (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)},
        _DIGITS, (8, 8), 1,
    ),
    Known(
        "mnist",
        "handwritten digits (LeCun)",
        {
            TRAIN: (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            TEST: (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        },
        _DIGITS, (28, 28), 1,
        Hub(
            "ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c", {"train": 60_000, "test": 10_000},
            parts=_TRAIN_TEST,
        ),
        augment="paper_mnist",
    ),
    Known(
        "fashion_mnist",
        "pictures of clothing (Zalando)",
        {TRAIN: (6000,) * 10, TEST: (1000,) * 10},
        _FASHION, (28, 28), 1,
        Hub(
            "zalando-datasets/fashion_mnist", "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
            {"train": 60_000, "test": 10_000}, parts=_TRAIN_TEST,
        ),
        augment="paper_mnist",
    ),
    Known(
        "cifar10",
        "photographs of 10 kinds of things (Krizhevsky)",
        {TRAIN: (5000,) * 10, TEST: (1000,) * 10},
        _CIFAR10, (32, 32), 3,
        Hub(
            "uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2", {"train": 50_000, "test": 10_000},
            image="img", parts=_TRAIN_TEST,
        ),
        augment="paper_cifar10",
    ),
    Known(
        "cifar100",
        "photographs of 100 kinds of things (Krizhevsky)",
        {TRAIN: (500,) * 100, TEST: (100,) * 100},
        tuple(_CIFAR100.split()), (32, 32), 3,
        Hub(
            "uoft-cs/cifar100", "aadb3af77e9048adbea6b47c21a81e47dd092ae5", {"train": 50_000, "test": 10_000},
            image="img", label="fine_label", parts=_TRAIN_TEST, classes={"cra": "crab"},
        ),
        augment="paper_cifar100",
    ),
    Known(
        "svhn",
        "house numbers, cropped digits (Netzer), without the extra set",
        {
            TRAIN: (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            TEST: (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        },
        _DIGITS, (32, 32), 3,
        Hub(
            "ufldl-stanford/svhn", "f9e1717d73324ebbc1ece84267ccd80d0aca0690", {"train": 73_257, "test": 26_032},
            config="cropped_digits", parts=_TRAIN_TEST,
        ),
    ),
    Known(
        "flowers",
        "photographs of 5 kinds of flowers (Kaggle's Flowers Recognition)",
        {UNSTATED: (764, 1052, 784, 733, 984)},
        ("daisy", "dandelion", "rose", "sunflower", "tulip"), (150, 150), 3,
        # No revision and no number of rows could be confirmed: classes and counts are checked after the download.
        Hub("DeadPixels/DPhi_Sprint_25_Flowers", None, {"train": None, "validation": None, "test": None}),
        # Photographs stand under two names, in two sizes or in two classes; the number before "_" is the photograph's.
        Grouping("flickr_name", "photograph", re.compile(r"\d{5,}(?=_)"), file_names=True, same_bytes=True),
    ),
    Known(
        "ham10000",
        "skin lesions under the dermatoscope (Tschandl's HAM10000)",
        {UNSTATED: (327, 514, 1099, 115, 1113, 6705, 142)},
        ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"), (75, 100), 3,
        # Its splits overlap: pictures stand in several of them, so all are read and each picture is taken once.
        Hub(
            "marmal88/skin_cancer", "bdd59e10860746202dfdc452e0ac3a9eaa25268d",
            {"train": 9_577, "validation": 2_492, "test": 1_285}, label="dx", unique="image_id", classes=_SKIN,
        ),
        Grouping("lesion_id", "lesion", needed=True),
    ),
    Known(
        "dogs_vs_cats",
        "photographs of cats and dogs (Kaggle's Dogs vs. Cats, from Asirra)",
        {UNSTATED: (12_500, 12_500)},
        ("cat", "dog"), (150, 150), 3,
        # The hub's "test" split is Kaggle's, which has no labels. Microsoft's own repository has 23,410 of the 25,000.
        Hub(
            "ajinkyakolhe112/cats_vs_dogs_classification_kaggle", "03beb37563ab466cece6cc56efc04aea62a973a3",
            {"train": 25_000},
        ),
    ),
)  # fmt: skip
KNOWN: Mapping[str, Known] = MappingProxyType({known.name: known for known in _ALL})
