"""Tests of pipelines/exploring/settings.py: what can't be used is said before an image is read."""

import json

import pytest

from extract import ExtractError
from pipelines import ExploreSettings
from pipelines.errors import WrongSetting


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"clusters": 0}, "clusters=0: expected 1 or more, such as 10"),
        ({"n": 0}, "n=0: expected 1 image or more to ask labels for"),
        ({"max_bad": 2}, "max_bad=2: expected a fraction from 0 to 1"),
        ({"backbone": ("a", "b")}, "backbone='a,b': expected the name of one network"),
        ({"backbone": "auto"}, "backbone='auto': expected names"),
        ({"page": 0}, "page=0: expected a whole number"),
    ],
)
def test_what_cant_be_used_is_named(wrong, said):
    with pytest.raises(WrongSetting) as raised:
        ExploreSettings(**wrong).check()
    assert str(raised.value).startswith(said)


def test_maps_are_refused():
    with pytest.raises(ExtractError, match="map"):
        ExploreSettings(pooling=("avg", "map")).check()


def test_what_is_told_is_json_and_leaves_places_out():
    told = ExploreSettings(cache="kept", out="out", labelled="some.csv").told()
    assert json.loads(json.dumps(told)) == told
    assert told["labelled"] == "some.csv"
    assert {"cache", "out", "device", "report", "max_bad"}.isdisjoint(told)
