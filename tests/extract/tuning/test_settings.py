"""What can be asked for, and what is said of what can't."""

import json

import pytest

from extract import ExtractError, Tuning

WRONG = [
    ("unfreeze", 0),
    ("unfreeze", "last"),
    ("unfreeze", True),
    ("unfreeze", 1.5),
    ("rates", (2,)),
    ("rates", "2:4"),
    ("rates", (2, float("nan"))),
    ("rates", (2, -1)),
    ("epochs", 0),
    ("epochs", 2.0),
    ("batch", 0),
    ("schedule", "linear"),
    ("warmup", 1),
    ("warmup", -0.1),
    ("weight_decay", -1),
    ("augment", "wild"),
    ("augment", None),
    ("views", -1),
    ("mixup", -0.2),
    ("mixup", float("inf")),
    ("smoothing", 1.0),
    ("dropout", 1),
    ("patience", -1),
    ("precision", "float16"),
    ("source", "disk"),
    ("seed", -1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_can_not_be_used_is_one_line(name, value):
    with pytest.raises(ExtractError, match=rf"^{name}=.*: expected [^\n]+$"):
        Tuning(**{name: value}).check()


@pytest.mark.parametrize("unfreeze", [1, 7, "all", "gradual"])
def test_what_can_be_used_is_plain_json(unfreeze):
    tuning = Tuning(unfreeze=unfreeze, rates=(2, 4, 6))
    tuning.check()
    assert json.loads(json.dumps(tuning.to_dict()))["rates"] == [2, 4, 6]
