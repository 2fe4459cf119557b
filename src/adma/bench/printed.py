"""The paper's printed numbers, as data: Tables 1 to 4 and the figures that its text claims.

Source: A. Shrivastava, "Adma: A Flexible Loss Function for Neural Networks", July 2020. Accuracies are per
cent, as printed; the paper calls them average validation accuracies, and prints no spread and no number of runs
beside them. Errors are per cent too. Nothing here is measured by us.
"""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("adma", "cce", "squared_hinge", "mse")  # the columns of Tables 1 to 4, in the paper's order
ROLE_TITLES = {"adma": "Adma", "cce": "CCE", "squared_hinge": "Squared-Hinge", "mse": "MSE"}
DATASET_TITLES = {  # the rows of Tables 1 to 4, in the paper's order and words
    "mnist": "MNIST",
    "fashion_mnist": "FASHION-MNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "flowers": "Flower Recognition",
    "ham10000": "Skin Cancer",
    "svhn": "SVHN",
    "dogs_vs_cats": "Dogs vs. Cats",
}
# Figure 3, left to right and row by row: another order than that of the tables.
FIGURE3_ORDER = (
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "svhn",
    "flowers",
    "ham10000",
    "dogs_vs_cats",
)


@dataclass(frozen=True)
class PrintedRow:
    """One data set's line of a table.

    a: Adma's scaling factor, tuned by the paper for this cell.
    adma, cce, squared_hinge, mse: accuracy, per cent.
    bold: the role that is printed bold.
    """

    a: float
    adma: float
    cce: float
    squared_hinge: float
    mse: float
    bold: str

    def accuracy(self, role: str) -> float:
        """The accuracy printed for one of ROLES, per cent."""
        return {"adma": self.adma, "cce": self.cce, "squared_hinge": self.squared_hinge, "mse": self.mse}[role]


@dataclass(frozen=True)
class PrintedTable:
    """What a table is about.

    optimizer: "adam" or "sgd".
    l2: whether the convolutions were regularised (weight decay 1e-4).
    """

    title: str
    optimizer: str
    l2: bool
    caption: str


TABLES = {
    1: PrintedTable("Table 1", "adam", True, "Accuracies achieved with regularization and Adam as an optimizer."),
    2: PrintedTable("Table 2", "sgd", True, "Accuracies achieved with regularization and SGD as an optimizer."),
    3: PrintedTable("Table 3", "adam", False, "Accuracies achieved without regularization and Adam as an optimizer."),
    4: PrintedTable("Table 4", "sgd", False, "Accuracies achieved without regularization and SGD as an optimizer."),
}

PRINTED: dict[int, dict[str, PrintedRow]] = {
    1: {
        "mnist": PrintedRow(0.2624, 99.34, 99.30, 98.45, 98.74, "adma"),
        "fashion_mnist": PrintedRow(0.2580, 91.48, 91.42, 86.13, 88.76, "adma"),
        "cifar10": PrintedRow(0.2622, 86.76, 87.28, 82.41, 85.42, "cce"),
        "cifar100": PrintedRow(0.2820, 57.60, 57.76, 20.23, 35.19, "cce"),
        "flowers": PrintedRow(0.2625, 77.70, 77.78, 55.93, 58.34, "cce"),
        "ham10000": PrintedRow(0.2625, 77.08, 75.39, 66.03, 67.40, "adma"),
        "svhn": PrintedRow(0.2612, 95.14, 95.67, 92.21, 93.12, "cce"),
        "dogs_vs_cats": PrintedRow(0.2451, 98.31, 97.67, 98.53, 98.64, "mse"),
    },
    2: {
        "mnist": PrintedRow(0.2712, 98.54, 98.78, 96.87, 97.46, "cce"),
        "fashion_mnist": PrintedRow(0.2729, 83.21, 84.31, 79.71, 78.06, "cce"),
        "cifar10": PrintedRow(0.2809, 83.74, 83.45, 78.46, 82.03, "adma"),
        "cifar100": PrintedRow(0.3110, 31.31, 40.91, 12.39, 20.23, "cce"),
        "flowers": PrintedRow(0.2762, 54.68, 57.32, 45.15, 49.41, "cce"),
        "ham10000": PrintedRow(0.2918, 71.11, 68.05, 37.58, 63.96, "adma"),
        "svhn": PrintedRow(0.3007, 69.92, 74.12, 49.01, 53.46, "cce"),
        "dogs_vs_cats": PrintedRow(0.2727, 88.16, 85.29, 79.98, 78.45, "adma"),
    },
    3: {
        "mnist": PrintedRow(0.2624, 99.51, 99.42, 99.29, 99.46, "adma"),
        "fashion_mnist": PrintedRow(0.2481, 92.14, 91.86, 90.15, 91.56, "adma"),
        "cifar10": PrintedRow(0.2489, 85.08, 84.92, 82.92, 83.81, "adma"),
        "cifar100": PrintedRow(0.3080, 57.74, 58.65, 34.22, 43.28, "cce"),
        "flowers": PrintedRow(0.2671, 80.72, 80.57, 53.36, 58.87, "adma"),
        "ham10000": PrintedRow(0.2625, 78.12, 75.77, 62.12, 66.95, "adma"),
        "svhn": PrintedRow(0.2631, 95.80, 95.56, 95.45, 95.88, "mse"),
        "dogs_vs_cats": PrintedRow(0.2653, 96.88, 97.18, 97.53, 95.44, "squared_hinge"),
    },
    4: {
        "mnist": PrintedRow(0.2628, 98.97, 99.07, 97.06, 98.37, "cce"),
        "fashion_mnist": PrintedRow(0.2654, 87.75, 86.16, 81.45, 85.78, "adma"),
        "cifar10": PrintedRow(0.2807, 83.99, 84.12, 80.03, 82.71, "cce"),
        "cifar100": PrintedRow(0.3071, 25.31, 45.13, 19.57, 32.14, "cce"),
        "flowers": PrintedRow(0.2697, 59.92, 65.25, 50.87, 56.15, "cce"),
        "ham10000": PrintedRow(0.2789, 76.36, 72.46, 47.81, 65.42, "adma"),
        "svhn": PrintedRow(0.2986, 68.49, 66.25, 59.58, 56.78, "adma"),
        "dogs_vs_cats": PrintedRow(0.3118, 93.24, 92.71, 83.94, 86.64, "adma"),
    },
}

# Section 5, errors of Adma on a pretrained ResNet34, per cent: 0.025 as a plain number, the others as "around
# 6.5%", "~9%" and "~38%". An error of 0.025% is 2.5 of MNIST's 10,000 samples.
RESNET34 = {"mnist": 0.025, "fashion_mnist": 6.5, "cifar10": 9.0, "cifar100": 38.0}

# Section 5, on Figure 3: accuracy on MNIST after the first epoch, per cent; "approx. 98%" for Adma.
FIRST_EPOCH_MNIST = {"adma": 98.0, "cce": 96.5, "squared_hinge": 93.5, "mse": 95.5}


@dataclass(frozen=True)
class SplitClaim:
    """Section 5: with a smaller share of the data to train on, Adma leads cross-entropy.

    shares: of the data that is trained on; the first is the default.
    at: the share of the claim.
    lead: of Adma over cross-entropy there, points, "on an average by approximately 4%".
    """

    datasets: tuple[str, ...]
    shares: tuple[float, ...]
    at: float
    lead: float


SPLIT = SplitClaim(datasets=("flowers", "ham10000"), shares=(0.8, 0.75, 0.6), at=0.6, lead=4.0)


@dataclass(frozen=True)
class LowRateClaim:
    """Section 5: at a lowered learning rate Adma exceeds the other losses, with SGD and with Adam.

    adam_leads: where it is said to lead with Adam "as well"; for SGD no data set is named.
    """

    lr: float
    adam_leads: tuple[str, ...]


LOW_RATE = LowRateClaim(lr=2e-4, adam_leads=("svhn", "cifar10", "flowers"))
