"""The paper's printed numbers, held to figures that were worked out from the paper's text and not from this file."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from adma.bench import printed
from adma.bench.printed import DATASET_TITLES, FIGURE3_ORDER, PRINTED, ROLE_TITLES, ROLES, TABLES

# Recomputed from the paper's text by a parser of its own; columns in the order of ROLES.
MEAN_RANKS = {
    1: (1.75, 1.75, 3.75, 2.75),
    2: (1.625, 1.375, 3.75, 3.25),
    3: (1.5, 2.125, 3.625, 2.75),
    4: (1.625, 1.5, 3.875, 3.0),
}
COLUMN_MEANS = {
    1: (85.42625, 85.28375, 74.99, 78.20125),
    2: (72.58375, 74.02875, 59.89375, 65.3825),
    3: (85.74875, 85.49125, 76.88, 79.40625),
    4: (74.25375, 76.39375, 65.03875, 70.49875),
}
MEAN_A = {1: 0.2619875, 2: 0.284675, 3: 0.265675, 4: 0.284375}
IN_ORDER = ["mnist", "fashion_mnist", "cifar10", "cifar100", "flowers", "ham10000", "svhn", "dogs_vs_cats"]


def accuracies(table: int) -> np.ndarray:
    return np.array([[row.accuracy(role) for role in ROLES] for row in PRINTED[table].values()])


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_a_table_has_the_papers_rows_in_its_order(table):
    assert list(PRINTED[table]) == list(DATASET_TITLES) == IN_ORDER
    assert set(PRINTED) == set(TABLES) == {1, 2, 3, 4}


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_ranks_and_means_are_those_of_the_paper(table):
    numbers = accuracies(table)
    assert rankdata(-numbers, axis=1).mean(axis=0) == pytest.approx(MEAN_RANKS[table])
    assert numbers.mean(axis=0) == pytest.approx(COLUMN_MEANS[table], abs=1e-9)
    assert np.mean([row.a for row in PRINTED[table].values()]) == pytest.approx(MEAN_A[table], abs=1e-12)


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_every_number_can_be_what_it_says(table):
    assert ((accuracies(table) > 0) & (accuracies(table) < 100)).all()
    assert all(0.24 < row.a < 0.32 for row in PRINTED[table].values())


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_the_paper_prints_the_rows_maximum_bold(table):
    """In all 32 rows: the paper has no exception."""
    for row in PRINTED[table].values():
        assert row.bold == max(ROLES, key=row.accuracy)


def test_how_often_each_loss_is_printed_bold():
    bold = {table: [row.bold for row in rows.values()] for table, rows in PRINTED.items()}
    assert [bold[t].count("adma") for t in (1, 2, 3, 4)] == [3, 3, 5, 4]
    assert [bold[t].count("cce") for t in (1, 2, 3, 4)] == [4, 5, 1, 4]


@pytest.mark.parametrize(
    ("table", "dataset", "row"),
    [
        (1, "dogs_vs_cats", (0.2451, 98.31, 97.67, 98.53, 98.64, "mse")),
        (1, "cifar100", (0.2820, 57.60, 57.76, 20.23, 35.19, "cce")),
        (2, "ham10000", (0.2918, 71.11, 68.05, 37.58, 63.96, "adma")),
        (2, "fashion_mnist", (0.2729, 83.21, 84.31, 79.71, 78.06, "cce")),
        (3, "svhn", (0.2631, 95.80, 95.56, 95.45, 95.88, "mse")),
        (3, "flowers", (0.2671, 80.72, 80.57, 53.36, 58.87, "adma")),
        (4, "mnist", (0.2628, 98.97, 99.07, 97.06, 98.37, "cce")),
        (4, "cifar10", (0.2807, 83.99, 84.12, 80.03, 82.71, "cce")),
    ],
)
def test_spot_rows(table, dataset, row):
    found = PRINTED[table][dataset]
    assert (found.a, found.adma, found.cce, found.squared_hinge, found.mse, found.bold) == row


def test_the_tables_cover_both_optimizers_with_and_without_regularisation():
    assert {(t.optimizer, t.l2) for t in TABLES.values()} == {(o, r) for o in ("adam", "sgd") for r in (True, False)}
    for number, table in TABLES.items():
        assert table.title == f"Table {number}"
        assert ("without regularization" in table.caption) == (not table.l2)
        assert table.optimizer in table.caption.lower()


def test_the_claims_of_the_text():
    assert printed.RESNET34 == {"mnist": 0.025, "fashion_mnist": 6.5, "cifar10": 9.0, "cifar100": 38.0}
    first = printed.FIRST_EPOCH_MNIST
    assert (first["adma"], first["cce"], first["mse"], first["squared_hinge"]) == (98.0, 96.5, 95.5, 93.5)
    assert (printed.SPLIT.at, printed.SPLIT.lead, printed.SPLIT.shares) == (0.6, 4.0, (0.8, 0.75, 0.6))
    assert printed.SPLIT.datasets == ("flowers", "ham10000")
    assert printed.LOW_RATE.lr == 2e-4


def test_names_go_together():
    assert tuple(ROLE_TITLES) == ROLES
    assert sorted(FIGURE3_ORDER) == sorted(DATASET_TITLES)
    assert FIGURE3_ORDER[4:] == ("svhn", "flowers", "ham10000", "dogs_vs_cats")
