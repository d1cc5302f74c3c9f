"""Tests of extract/notebook.py: an extractor shows what it takes, and loads nothing for it."""

import re
import subprocess
import sys

import pytest
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from extract import FeatureExtractor, load_backbone
from extract.backbones.backbone import Backbone


def rows(page):
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", own_part(page), re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>([^<]*)", line) for line in lines]


def own_part(page):
    return page[page.index('<div class="permafrost-view">') :]


def test_it_shows_the_backbone_layers_poolings_and_sizes(backbone):
    extractor = FeatureExtractor("layer2.0:grid2+layer3.0", "max", backbone=backbone, cache=False)
    _ = backbone.card
    found = rows(extractor._repr_html_())
    assert ["sees", "32 × 32 pixels"] in found
    assert found[-3:] == [
        ["layer", "pooling", "features", "of a map"],
        ["layer2.0", "grid2", "48", "12 × 8 × 8"],
        ["layer3.0", "max", "16", "16 × 4 × 4"],
    ]
    assert "64 features of each image" in extractor._repr_html_()


def test_scikit_learns_own_view_stays(backbone):
    extractor = FeatureExtractor("layer2.0", backbone=backbone, cache=False)
    bundle = extractor._repr_mimebundle_()
    assert bundle["text/plain"] == repr(extractor)
    for page in (bundle["text/html"], extractor._repr_html_()):
        assert page.startswith("<style>")
        assert page.index("sk-top-container") < page.index('<div class="permafrost-view">')
    with sklearn.config_context(display="text"):
        assert not hasattr(extractor, "_repr_html_")
        assert set(extractor._repr_mimebundle_()) == {"text/plain"}
    pipeline = make_pipeline(extractor, LogisticRegression())
    assert "FeatureExtractor" in pipeline._repr_html_()


def test_to_show_it_loads_nothing(monkeypatch, tmp_path):
    """scikit-learn looks up the names of features, which took the weights from the network."""

    def load(self):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(Backbone, "_load", load)
    extractor = FeatureExtractor(
        "features.4", backbone="mobilenet_v3_small", weights="random", size=40, cache=tmp_path
    )
    page = extractor._repr_html_()
    assert "how many is known after the first call" in page
    assert rows(page)[-1] == ["features.4", "avg", "–", "–"]
    assert "the last block" in extractor.set_params(layer=None)._repr_html_()


def test_to_show_it_imports_no_torch():
    code = (
        "import sys; from extract import FeatureExtractor\n"
        "FeatureExtractor('features.14')._repr_html_()\n"
        "assert not {'torch', 'torchvision', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_function_of_ones_own_is_not_called():
    page = FeatureExtractor(backbone="antigravity:fly", cache=False)._repr_html_()
    assert "antigravity:fly" in page
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pooling": "gridd"}, "unknown pooling"),
        ({"pooling": ["avg"]}, "unhashable"),
        ({"layer": "<script>"}, "&lt;script&gt;"),
        ({"backbone": "<script>"}, "&lt;script&gt;"),
        ({"backbone": "pixels", "layer": "<b>"}, "&lt;b&gt;"),
        ({"view": "<b>"}, "&lt;b&gt;"),
    ],
)
def test_parameters_that_can_not_be_used_are_shown_escaped(wrong, said):
    page = FeatureExtractor(**{"cache": False, **wrong})._repr_html_()
    assert said in own_part(page)
    assert "<script>" not in own_part(page)


def test_names_of_features_are_there_again_after_a_view(backbone):
    extractor = FeatureExtractor("layer2.0", backbone=backbone, cache=False)
    extractor._repr_html_()
    assert len(extractor.get_feature_names_out()) == 12


def test_a_card_at_hand_is_no_load(tmp_path):
    options = {"weights": "random", "size": 32, "cache": tmp_path}
    first = load_backbone("mobilenet_v3_small", **options)
    assert first.card is first.known_card
