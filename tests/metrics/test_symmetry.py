"""Keypoints that are alike: what the files say, and scores of the geometry-aware and the mirrored by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from world import PARAMS, image_row, keypoint_row, make_tables

from spheremap.base.errors import InputError
from spheremap.data.keypoint_groups import KeypointGroups, packaged, read_keypoint_groups
from spheremap.data.shapes.models import CATEGORIES, keypoint_names
from spheremap.methods.engine.queries import build_questions
from spheremap.metrics.measure import Measured
from spheremap.metrics.score_table import by_group, leaves
from spheremap.metrics.scores import Scores
from spheremap.metrics.thresholds import make_thresholds

# of a car: front wheels 0 (left) and 1 (right), rear wheels 2 and 3, a plate 4
GROUPS = KeypointGroups(
    {("c", k): "wheels" for k in "0123"},
    {("c", a): b for a, b in ("01", "10", "23", "32")},
)
PLACES = {"0": (10, 10), "1": (30, 10), "2": (70, 10), "3": (90, 10), "4": (50, 50)}


def tables_of(hidden: dict[str, str]):
    """Images c/a and c/b of 100 x 100 with the keypoints of PLACES, but those hidden."""
    images = [image_row(name, 100, 100, (0, 0, 100, 100)) for name in ("c/a", "c/b")]
    keypoints = [
        keypoint_row(name, k, None if k in hidden.get(name, "") else xy)
        for name in ("c/a", "c/b")
        for k, xy in PLACES.items()
    ]
    return make_tables(images, keypoints, [("c/a", "c/b")])


def scores_of(predicted: dict[str, tuple[float, float]], hidden: dict[str, str]):
    tables = tables_of(hidden)
    questions = build_questions(tables, tables.pairs)
    boxes = np.array([[0.0, 0, 100, 100]])
    xy = np.array([predicted.get(k, (0, 0)) for k in questions.keypoint_id], dtype=np.float64)
    thresholds = make_thresholds(tables, questions, boxes)
    scores = Scores.of(questions, {"features": Measured(xy)}, thresholds, PARAMS.alphas, tables, GROUPS)
    return scores.table(PARAMS)


def test_geometry_aware_and_mirrored_by_hand() -> None:
    """The target shows both front wheels, one rear wheel and the plate."""
    predicted = {"0": (10, 10), "1": (12, 10), "2": (70, 10), "4": (90, 90)}
    table = scores_of(predicted, {"c/b": "3"})
    geometry = by_group(table, "geometry").set_index("group")
    assert geometry["n_points"].to_dict() == {"aware": 3, "other": 1}
    assert geometry["pck_point@0.10"].to_dict() == pytest.approx({"aware": 200 / 3, "other": 0})
    mirror = by_group(table, "mirror").set_index("group")
    assert mirror["n_points"].to_dict() == {"both": 2, "one": 1, "unpaired": 1}
    assert mirror["pck_point@0.10"].to_dict() == {"both": 50, "one": 100, "unpaired": 0}
    assert leaves(table)["features"]["mirrored"] == 50  # keypoint 1, of 0 and 1
    assert not set(by_group(table, "geometry").columns) & {"kap@0.10"}


def test_a_lone_wheel_is_not_geometry_aware_and_a_tie_is_no_error() -> None:
    table = scores_of({"0": (10, 10)}, {"c/b": "123"})
    assert by_group(table, "geometry")["group"].tolist() == ["other"]
    assert "mirrored" not in leaves(table)["features"]  # no mirror keypoint is visible
    table = scores_of({"0": (20, 10), "1": (20, 10)}, {"c/b": "23"})
    assert leaves(table)["features"]["mirrored"] == 0
    # what is hidden in the source is not asked for, but counts as its likes' likeness
    table = scores_of({"0": (10, 10)}, {"c/a": "1"})
    assert by_group(table, "geometry").set_index("group")["n_points"]["aware"] == 3


@pytest.mark.parametrize("name", packaged())
def test_the_files_are_consistent(name: str) -> None:
    table = tables_of({})
    table = replace(table, images=table.images.assign(category="nothing of this kind"))
    read_keypoint_groups(name, table)  # checks


def test_the_drawn_data_set_says_what_its_names_say() -> None:
    for category in CATEGORIES:
        names = keypoint_names(category)
        rows = [
            keypoint_row(f"{category}/a", str(k), (1, 1)) | {"name": name} for k, name in enumerate(names)
        ]
        tables = make_tables([image_row(f"{category}/a", 9, 9, (0, 0, 9, 9))], rows, [])
        found = read_keypoint_groups("shapes", tables)
        for (_, k), other in found.mirror.items():
            assert found.mirror[category, other] == k
            assert {"left", "right"} <= {*names[int(k)].split("_"), *names[int(other)].split("_")}
            assert found.group[category, k] == found.group[category, other]
        assert len(found.mirror) == sum("left" in name or "right" in name for name in names)


def test_a_file_of_one_s_own_names_keypoints_by_id_or_name(tmp_path) -> None:
    path = tmp_path / "groups.json"
    tables = tables_of({})

    def read(**own):
        path.write_text(json.dumps({"categories": {"c": own}}))
        return read_keypoint_groups(str(path), tables)

    own = {"groups": [["part 0", "1"]], "mirrors": [["0", "part 1"]], "left": ["part 0"], "right": ["1"]}
    with pytest.raises(InputError, match="opposite sides"):  # "0" and "part 0" are two names
        read(**own)
    found = read(**own | {"mirrors": [["part 0", "1"]]})
    assert found.mirror == {("c", "0"): "1", ("c", "1"): "0"}
    assert found.group == {("c", "0"): "0", ("c", "1"): "0"}
    wrong = {
        "twice in groups": {"groups": [["0", "1"], ["1", "2"]]},
        "twice in mirrors": {"mirrors": [["0", "1"], ["1", "2"]], "left": ["0", "2"], "right": ["1"]},
        "twice in left and right": {"left": ["0"], "right": ["0"]},
        "opposite sides": {"mirrors": [["0", "1"]], "left": ["0", "1"]},
        "not one of the data set": {"groups": [["0", "wing"]]},
    }
    for message, content in wrong.items():
        with pytest.raises(InputError, match=message):
            read(**content)
    path.write_text(json.dumps({"categories": {"dogs": {}}}))
    with pytest.raises(InputError, match="category is not one of the data set"):
        read_keypoint_groups(str(path), tables)
    with pytest.raises(InputError, match="no such keypoint groups"):
        read_keypoint_groups("spair", tables)
