"""What identifies a recipe: all that decides a feature's value."""

import json
from dataclasses import fields, replace

import pytest

from extract import Recipe

OTHER = {"schema": 1}


@pytest.mark.parametrize("name", [field.name for field in fields(Recipe)])
def test_every_field_changes_the_recipe_id(recipe, name):
    changed = replace(recipe, **{name: OTHER.get(name, "other")})
    assert changed.id != recipe.id
    assert len(changed.id) == 32


def test_a_recipe_is_readable_and_its_id_stays(recipe):
    assert Recipe(**json.loads(recipe.to_json())).id == recipe.id
    assert Recipe("a", "b", "c", "float32").id == "dd8a4f75e6c2c013656b48904a0ff93f"
