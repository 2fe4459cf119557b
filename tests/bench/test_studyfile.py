"""Study documents: what is said later wins, and what is wrong is named with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adma.bench.errors import BenchError
from adma.bench.studyfile import read_study, tasks

FULL = """
title: A study
data: [digits, mnist]
losses: [cce, mse]
seeds: 5
epochs: 20
lr: 1e-3
per_data:
  mnist: {epochs: 30, lr: 0.1}
variants:
  plain: {}
  slow: {lr: 1e-4}
scales:
  smoke:
    epochs: 2
    max_train_size: 300
    per_data: {mnist: {max_train_size: null, epochs: 3}}
  paper: {}
"""


def write(folder: Path, text: str, name: str = "study.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_file_data_set_scale_variant_and_command_line_win_in_this_order(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, FULL))
    by_name = {t.name: t.options for t in tasks(study)}
    assert list(by_name) == ["digits/plain", "digits/slow", "mnist/plain", "mnist/slow"]  # the first scale: smoke
    assert [o["epochs"] for o in by_name.values()] == [2, 2, 3, 3]
    assert [o["lr"] for o in by_name.values()] == [1e-3, 1e-4, 0.1, 1e-4]
    assert [o["max_train_size"] for o in by_name.values()] == [300, 300, None, None]
    paper = {t.name: t.options for t in tasks(study, scale="paper", changes={"seeds": 2})}
    assert [o["epochs"] for o in paper.values()] == [20, 20, 30, 30]
    assert {o["seeds"] for o in paper.values()} == {2}


def test_a_scale_may_have_data_sets_and_variants_of_its_own(tmp_path: Path) -> None:
    text = FULL.replace("  paper: {}", "  paper: {data: svhn, variants: {tiny: {image_size: 8x8}}}")
    found = tasks(read_study(write(tmp_path, text)), scale="paper")
    assert [t.name for t in found] == ["svhn/tiny"]
    assert {t.options["image_size"] for t in found} == {"8x8"}


def test_other_data_sets_may_take_the_place_of_the_documents_own(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, FULL))
    assert [t.data for t in tasks(study, data=["photos/"])] == ["photos/", "photos/"]


def test_a_document_may_extend_another_key_by_key_but_replaces_variants_whole(tmp_path: Path) -> None:
    write(tmp_path, FULL, "base.yaml")
    text = "extends: base.yaml\nlosses: [mae]\nper_data: {mnist: {epochs: 7}}\nvariants: {only: {}}"
    study = read_study(write(tmp_path, text))
    found = {t.name: t.options for t in tasks(study, scale="paper")}
    assert list(found) == ["digits/only", "mnist/only"]
    assert found["mnist/only"]["losses"] == ["mae"]
    assert (found["mnist/only"]["epochs"], found["mnist/only"]["lr"]) == (7, 0.1)


@pytest.mark.parametrize("name", ["base", "base.yaml"])
def test_what_lies_beside_a_document_wins_over_a_published_study_of_that_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "published").mkdir()
    published = {"base": write(tmp_path / "published", FULL.replace("seeds: 5", "seeds: 9"), "base.yaml")}
    mine = write(tmp_path, f"extends: {name}\ntitle: mine")
    assert read_study(mine, find=published).seeds == 9
    write(tmp_path, FULL, "base.yaml")
    assert read_study(mine, find=published).seeds == 5


def test_a_document_may_extend_the_published_study_whose_name_it_has(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    published = {"base": write(tmp_path / "published", FULL, "base.yaml")}
    mine = write(tmp_path, "extends: base\nepochs: 3", "base.yaml")
    study = read_study(mine, find=published)
    assert (study.seeds, study.epochs) == (5, 3)
    assert read_study(published["base"], find=published).epochs == 20


def test_published_studies_extend_each_other(tmp_path: Path) -> None:
    published = {name: write(tmp_path, FULL, f"{name}.yaml") for name in ("one", "two")}
    write(tmp_path, "extends: one.yaml\nseeds: 7", "two.yaml")
    assert read_study(published["two"], find=published).seeds == 7


def test_a_circle_of_extends_is_shown_whole_and_nothing_else(tmp_path: Path) -> None:
    for name, base in (("top", "a"), ("a", "b"), ("b", "a")):
        write(tmp_path, f"extends: {base}.yaml\ntitle: x", f"{name}.yaml")
    with pytest.raises(BenchError, match=r"extends itself \(a\.yaml -> b\.yaml -> a\.yaml\)"):
        read_study(tmp_path / "top.yaml")


def test_an_extends_that_is_nowhere_names_the_nearest_published_study(tmp_path: Path) -> None:
    published = {"table1": write(tmp_path, FULL, "published.yaml")}
    with pytest.raises(BenchError, match=r"extends tabel1: .*nor .*published, did you mean 'table1'\?"):
        read_study(write(tmp_path, "extends: tabel1\ntitle: x"), find=published)


def test_settings_may_be_given_for_known_and_for_inherited_data_sets(tmp_path: Path) -> None:
    base = "title: x\nlosses: [cce]\ndata: [photos/]\nper_data: {photos/: {epochs: 9}}\n"
    base += "scales: {big: {data: [many/], per_data: {many/: {seeds: 2}}}}"
    write(tmp_path, base, "base.yaml")
    mine = write(tmp_path, "extends: base\ndata: digits\nper_data: {svhn: {epochs: 8}}\nscales: {big: {data: [few/]}}")
    study = read_study(mine, known=["digits", "svhn"])
    found = [t.options["epochs"] for t in tasks(study, data=["photos/", "svhn"])]
    assert found == [9, 8]
    with pytest.raises(BenchError, match=r"per_data\.svhn: the study has no such data set; its data: digits"):
        read_study(mine, known=["digits"])


def test_settings_for_a_misspelt_data_set_are_not_lost_in_a_scale_either(tmp_path: Path) -> None:
    text = "title: x\ndata: digits\nlosses: [cce]\nscales: {smoke: {per_data: {minst: {epochs: 2}}}}"
    with pytest.raises(BenchError, match=r"scales\.smoke\.per_data\.minst: .*did you mean 'mnist'\?"):
        read_study(write(tmp_path, text), known=["digits", "mnist"])


def test_a_key_without_a_value_changes_nothing(tmp_path: Path) -> None:
    text = "title: x\ndata: digits\nlosses: [cce]\nvariants:\n  plain:\n  slow: {lr: 1e-4}\n"
    found = {t.variant: t.options for t in tasks(read_study(write(tmp_path, text)))}
    assert found == {"plain": {"losses": ["cce"]}, "slow": {"losses": ["cce"], "lr": 1e-4}}
    base = read_study(write(tmp_path, FULL, "base.yaml"))
    text = "extends: base.yaml\nvariants:\nper_data:\n  mnist:\nscales:\n  smoke:\n"
    assert tasks(read_study(write(tmp_path, text))) == tasks(base)


def test_a_null_takes_a_setting_back_that_the_extended_document_gives(tmp_path: Path) -> None:
    write(tmp_path, FULL.replace("seeds: 5", "max_train_size: 99"), "base.yaml")
    study = read_study(write(tmp_path, "extends: base.yaml\nmax_train_size: null"))
    assert {t.options["max_train_size"] for t in tasks(study, scale="paper")} == {None}


@pytest.mark.parametrize(("text", "lr"), [("1e-3", 1e-3), ("'0.5'", 0.5), ("1", 1.0), ("2.0e-4", 2e-4)])
def test_numbers_may_be_written_in_every_way_that_yaml_takes_for_text_or_not(
    tmp_path: Path, text: str, lr: float
) -> None:
    assert read_study(write(tmp_path, f"title: x\ndata: digits\nlr: {text}")).lr == lr


@pytest.mark.parametrize(
    ("text", "spec"), [("label_noise: 0.4", "0.4"), ("label_noise: 0.4:pair", "0.4:pair"), ("imbalance: 100", "100"),
                       ("imbalance: none", "none"), ("imbalance: 2.5", "2.5")],
)  # fmt: skip
def test_a_condition_may_be_a_number_alone(tmp_path: Path, text: str, spec: str) -> None:
    said = read_study(write(tmp_path, f"title: x\ndata: digits\n{text}")).said()
    assert said == {text.partition(":")[0]: spec}


def test_merged_mappings_of_yaml_are_no_repeated_keys(tmp_path: Path) -> None:
    text = """
title: x
data: [digits, mnist]
losses: [cce]
scales: {deep: {per_data: {digits: &two {<<: &one {epochs: 1, seeds: 4}, epochs: 2}}}}
per_data: {mnist: {<<: *two, lr: 0.1}}
"""
    study = read_study(write(tmp_path, text))
    assert study.scales["deep"].per_data["digits"].said() == {"epochs": 2, "seeds": 4}
    assert study.per_data["mnist"].said() == {"epochs": 2, "seeds": 4, "lr": 0.1}


def test_every_task_has_a_name_of_its_own(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, FULL))
    for twice in (["digits", "digits"], ["photos/", "./photos"], ["a/../b.npz", "b.npz"]):
        with pytest.raises(BenchError, match="a data set is named twice"):
            tasks(study, data=twice)
    names = [t.name for t in tasks(study, data=["digits", "./digits", "photos/plain", "photos"])]
    assert len(set(names)) == len(names) == 8


def test_a_document_without_scales_runs_as_it_is(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, "title: x\ndata: digits\nlosses: [cce]\n"))
    (task,) = tasks(study)
    assert (task.name, task.data, dict(task.options)) == ("digits", "digits", {"losses": ["cce"]})
    with pytest.raises(BenchError, match="--scale smoke: this study has no such scale; known: none"):
        tasks(study, scale="smoke")


HEAD = "title: x\ndata: digits\nlosses: [cce]\n"
SIZE = r"image_size: must be HEIGHTxWIDTH such as 32x32, at least 1x1, got "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "epoch: 3", r"epoch is not known, did you mean 'epochs'\?; known here: extends, .*scales"),
        (HEAD + "variants: {slow: {epoch: 3}}", r"variants\.slow\.epoch is not known, did you mean 'epochs'\?"),
        (
            HEAD + "variants: {a: {per_data: {}}}",
            r"variants\.a\.per_data is not known; known here: losses, .*image_size$",
        ),
        (HEAD + "per_data: {digits: {scales: {}}}", r"per_data\.digits\.scales is not known.*: losses.*image_size$"),
        (HEAD + "scales: {s: {variant: {}}}", r"scales\.s\.variant is not known, did you mean 'variants'\?.*, data$"),
        (HEAD + "scales: {s: {title: y}}", r"scales\.s\.title is not known"),
        (
            HEAD + "scales: {s: {variants: {v: {data: [x]}}}}",
            r"scales\.s\.variants\.v\.data is not known.*: losses.*image_size$",
        ),
        (HEAD + "scales: {smoke: {epochs: 0}}", r"scales\.smoke\.epochs: must be at least 1, got 0$"),
        (HEAD + "per_data: {digits: {lr: fast}}", r"per_data\.digits\.lr: must be a number, got 'fast'$"),
        (HEAD + "lr: true", r"lr: must be a number, got True$"),
        (HEAD + "lr: 0", r"lr: must be greater than 0, got 0$"),
        (HEAD + "lr: .inf", r"lr: must be a finite number, got inf$"),
        (HEAD + "val_fraction: yes", r"val_fraction: must be a number, got True$"),
        (HEAD + "test_fraction: 1.5", r"test_fraction: must be less than 1, got 1\.5$"),
        (HEAD + "seeds: true", r"seeds: must be a whole number, got True$"),
        (HEAD + 'epochs: "3"', r"epochs: must be a whole number, got '3'$"),
        (HEAD + "epochs: 3.0", r"epochs: must be a whole number, got 3\.0$"),
        (HEAD + "table: true", r"table: must be a whole number, got True$"),
        (HEAD + "table: 5", r"table: must be at most 4, got 5$"),
        (HEAD + 'grouped: "no"', r"grouped: must be true or false, got 'no'$"),
        (HEAD + "grouped: 1", r"grouped: must be true or false, got 1$"),
        (HEAD + "model: [mlp]", r"model: must be text, got \['mlp'\]$"),
        (HEAD + "label_noise: true", r"label_noise: must be text, got True$"),
        (HEAD + "imbalance: [100]", r"imbalance: must be text, got \[100\]$"),
        (HEAD + "train_fraction: 1.5", r"train_fraction: must be less than 1, got 1\.5$"),
        (HEAD + "noisy_val: 1", r"noisy_val: must be true or false, got 1$"),
        (HEAD + "labelnoise: 0.4", r"labelnoise is not known, did you mean 'label_noise'\?"),
        (HEAD + "image_size: big", SIZE + "'big'$"),
        (HEAD + "image_size: 0x4", SIZE),  # YAML reads 0x4 as 4
        (HEAD + "image_size: 32x0", SIZE + "'32x0'$"),
        (HEAD + "variants: {a: {image_size: 0}}", r"variants\.a\." + SIZE + "0$"),
        (HEAD + "image_size: [3, 4]", SIZE),
        (HEAD + "variants: {a/b: {}}", r"variants\.a/b: a variant's name may hold only letters, digits and \. _ -"),
        (HEAD + "variants: {'': {}}", r"a variant's name may hold only letters"),
        (HEAD + "variants: {no: {}}", r"variants: a name must be text, but YAML reads one as False; put it in quotes"),
        (HEAD + "2: x", r"the document: a name must be text, but YAML reads one as 2; put"),
        (HEAD + "variants: {a: 3}", r"variants\.a: must hold settings, each with its key, got 3$"),
        (HEAD + "variants: [a]", r"variants: must hold names, each with its settings, got \['a'\]$"),
        (HEAD + "per_data: {digitz: {}}", r"per_data\.digitz: .*did you mean 'digits'\?"),
        ("title: x\ndata: digits\nlosses: cce", r"losses: must be a list such as \[a, b\], got 'cce'$"),
        ("title: x\ndata: digits\nlosses: []", r"losses: must name at least one, got \[\]$"),
        ("title: x\ndata: []", r"data: must name at least one"),
        ("title: x\nlosses: [cce]", r"data is missing$"),
        ("title: x\ntitle: y\ndata: digits", r"the key 'title' is there twice \(line 1 and line 2\); keep one"),
        (
            "title: x\nvariants:\n  a: {lr: 1}\n  b: {}\n  'a': {lr: 2}",
            r"the key 'a' is there twice \(line 3 and line 5\)",
        ),
        ("title: [x", r"is no YAML"),
        ("title: 2026-99-99", r"is no YAML"),
        (f"title: x\ndata: digits\nseeds: {'9' * 20}", r"seeds: must be at most 100000, got 9{20}$"),
        (f"title: x\ndata: digits\nepochs: {'9' * 20}", r"epochs: must be at most 1000000000, got 9{20}$"),
        (f"title: x\nlosses: {'[' * 3000}{']' * 3000}", r"lists or mappings stand too deep in one another"),
        ("- a list", r"must hold keys such as title"),
        ("extends: study.yaml\ntitle: x", r"extends itself \(study\.yaml -> study\.yaml\)"),
        ("extends: [a, b]\ntitle: x", r"extends must name one study or \.yaml file, got \['a', 'b'\]"),
        ("extends: 3", r"extends must name one study or \.yaml file, got 3"),
        ("extends: nowhere.yaml\ntitle: x", r"extends nowhere\.yaml: there is no .*nowhere\.yaml"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        read_study(write(tmp_path, text))
    assert not re.search(r"pydantic|[Ii]nput|dictionary|instance|function-|\[key\]|\n", str(caught.value))


def test_a_document_without_losses_is_refused_for_each_data_set(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, "title: x\ndata: digits"))
    with pytest.raises(BenchError, match="no losses are given for digits"):
        tasks(study)
