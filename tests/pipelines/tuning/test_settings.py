"""Tests of pipelines/tuning/settings.py."""

from dataclasses import fields

import pytest

from extract import Tuning, load_backbone
from pipelines import RunSettings, TuneSettings, tune_job
from pipelines.errors import WrongSetting
from pipelines.tuning.settings import OPTION_OF


def test_every_field_of_tuning_is_an_option_with_its_default():
    assert TuneSettings().tuning == Tuning()
    of_run = {own.name for own in fields(RunSettings)} - {"seed"}
    for own in fields(Tuning):
        option = OPTION_OF.get(own.name, own.name)
        assert option not in of_run, f"{option} is another option of a run"


def test_views_of_the_run_and_of_tuning_are_two_options():
    settings = TuneSettings(views="flipped", kept_views=3, seed=7)
    assert settings.view_names == ["flipped"]
    assert (settings.tuning.views, settings.tuning.seed) == (3, 7)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("epochs", 0, "1 or more"),
        ("kept_views", -1, "0 or more"),
        ("rates", (2,), "two exponents or more of 0 or more"),
        ("rates", (-1, 2), "two exponents or more of 0 or more"),
        ("unfreeze", "some", "number of blocks"),
        ("augment", "wild", "one of off"),
        ("schedule", "step", "one of one-cycle"),
        ("mixup", -0.1, "0 or more"),
        ("validation", 1.0, r"\(0, 1\)"),
        ("backbone", "resnet18,resnet50", "one network"),
        ("backbone", "auto", "one network"),
        ("final", "all", "expected train"),
        ("augmented", 2, "expected 0"),
    ],
)
def test_what_cant_be_used_is_refused_before_an_image_is_read(option, value, said):
    with pytest.raises(WrongSetting, match=said) as caught:
        tune_job("no/such/folder", TuneSettings(**{option: value}))
    assert caught.value.name == option


def test_a_network_of_ones_own_is_refused_before_the_run(photos, tune_settings):
    own = load_backbone(load_backbone("squeezenet1_1", "random", size=32).network)
    seen = []
    with pytest.raises(WrongSetting, match="a network of torchvision"):
        tune_job(
            str(photos),
            tune_settings(backbone=own, weights=None, size=None),
            on_event=lambda event: seen.append(type(event).__name__),
        )
    assert "PassPlanned" not in seen


def test_a_network_with_no_more_blocks_than_the_default_is_tuned(photos, tune_settings):
    class Begun(Exception):
        pass

    def stop(event):
        if type(event).__name__ == "PassPlanned":
            raise Begun

    few = tune_settings(backbone="alexnet", size=64, unfreeze=5)
    with pytest.raises(Begun):
        tune_job(str(photos), few, on_event=stop)


def test_more_blocks_than_there_are_is_refused_before_the_run(photos, tune_settings):
    with pytest.raises(ValueError, match="unfreeze=99"):
        tune_job(str(photos), tune_settings(unfreeze=99))
