"""A head's file gives back what was written, and nothing else that it may name or declare."""

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from heads import HEADS, head_scores, make_head
from heads.catalog import trusted_types
from pipelines.bundle.files import read_array
from pipelines.bundle.head_file import SMALL, read_head, write_head


@pytest.fixture
def packed(tmp_path):
    """The bytes of a fitted head's file."""

    def pack(name="ridge"):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(30, 20)).astype(np.float32)
        write_head(make_head(name).fit(X, np.arange(30) % 3), tmp_path / "head.skops")
        return (tmp_path / "head.skops").read_bytes()

    return pack


def rewritten(data, change=lambda schema: schema, **files):
    """The file with its schema changed, and files added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name == "schema.json":
                new.writestr(name, json.dumps(change(json.loads(old.read(name)))))
            else:
                new.writestr(name, old.read(name))
        for name, own in files.items():
            new.writestr(name, own, zipfile.ZIP_DEFLATED)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["<U3", object, np.int64, np.float32, bool])
@pytest.mark.parametrize("name", HEADS)
def test_a_head_comes_back_the_same(tmp_path, name, kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 20)).astype(np.float32)
    y = (np.arange(30) % 2).astype(kind)
    if kind is object:
        y = np.array(["a\udce9", "b\n"], dtype=object)[np.arange(30) % 2]
    head = make_head(name).fit(X, y)
    write_head(head, tmp_path / "head.skops")
    again = read_head((tmp_path / "head.skops").read_bytes())
    assert np.array_equal(head_scores(again, X), head_scores(head, X))
    assert again.predict(X).tolist() == head.predict(X).tolist()
    assert again.classes_.dtype == head.classes_.dtype


def test_a_zip_that_unpacks_to_far_more_is_refused_before_memory_is_taken(packed):
    bomb = rewritten(packed(), **{"0.npy": bytes(4 * SMALL)})
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    with pytest.raises(ValueError, match="would unpack to 268"):
        read_head(bomb)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def named(module, name):
    def change(schema):
        schema["__module__"], schema["__class__"] = module, name
        return schema

    return change


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("evil", "SVC"),
        ("sklearn.tree._classes", "DecisionTreeClassifier"),
        ("sklearn.neighbors._kd_tree", "KDTree"),
        ("sklearn.svm", "SVC"),  # where it is not from
        ("builtins", "dict"),
        (7, None),
    ],
)
def test_what_it_names_is_looked_up_and_never_imported(packed, module, name):
    with pytest.raises(ValueError, match="which no head has"):
        read_head(rewritten(packed(), named(module, name)))


@pytest.mark.parametrize("loader", ["FunctionNode", "PartialNode", "ReduceNode", "CachedNode", []])
def test_kinds_that_could_call_something_are_none_of_ours(packed, loader):
    def change(schema):
        schema["content"]["content"]["verbose"]["__loader__"] = loader
        return schema

    with pytest.raises(ValueError, match=r"builtins\.str, which no head has"):
        read_head(rewritten(packed(), change))


@pytest.mark.parametrize(
    "attribute", ["predict", "__class__", "_sklearn_output_config", "_metadata_request", "a b", ""]
)
def test_attributes_that_change_what_an_estimator_does_are_refused(packed, attribute):
    def change(schema):
        state = schema["content"]
        state["content"][attribute] = state["content"]["memory"]
        state["key_types"]["content"].append(state["key_types"]["content"][0])
        return schema

    with pytest.raises(ValueError, match="has no attribute"):
        read_head(rewritten(packed(), change))


def nested(depth):
    def change(schema):
        node = schema["content"]["content"]["memory"]
        for _ in range(depth):
            node = {"__loader__": "ListNode", "__class__": "list", "content": [node]}
        schema["content"]["content"]["memory"] = node
        return schema

    return change


@pytest.mark.parametrize("depth", [30, 400])
def test_nesting_is_bounded(packed, depth):
    with pytest.raises(ValueError, match="more than a head does"):
        read_head(rewritten(packed(), nested(depth)))


def test_nesting_that_no_parser_follows_is_bounded():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("schema.json", "[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        read_head(out.getvalue())


@pytest.mark.parametrize("content", ["NaN", "1e999x", '"\\u001b[2J"', "9" * 99, "[1]", "{}", 3])
def test_parameters_are_plain(packed, content):
    def change(schema):
        schema["content"]["content"]["memory"]["content"] = content
        return schema

    with pytest.raises(ValueError, match=r"a parameter is|Expecting|Extra data"):
        read_head(rewritten(packed(), change))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no zip"])
def test_what_is_no_zip_is_one_error(data):
    with pytest.raises(ValueError, match="zip"):
        read_head(data)


def npy(array=None, header=None, body=b""):
    out = io.BytesIO()
    if array is not None:
        np.save(out, array)
        return out.getvalue()
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["a", "bc"]),
        np.array([True, False]),
        np.float64(3.5),
        np.empty((0, 4), np.float32),
        np.arange(3, dtype=">i4"),
    ],
    ids=repr,
)
def test_arrays_come_back(array):
    found = read_array(npy(array), "it")
    assert np.array_equal(found, array)
    assert found.shape == array.shape


@pytest.mark.parametrize(
    "data",
    [
        b"",
        npy(np.arange(3.0))[:-1],
        npy(np.arange(3.0)) + b"0",
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999999,), }"),
        npy(header="{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", body=bytes(8)),
        npy(header="{'descr': '<f9', 'fortran_order': False, 'shape': (1,), }", body=bytes(9)),
        npy(header="{'descr': '<M8', 'fortran_order': False, 'shape': (1,), }", body=bytes(8)),
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }", body=bytes(8)),
        npy(header="{'shape': (1,), 'descr': '<f8', 'fortran_order': False, }", body=bytes(8)),
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 500),
    ],
)
def test_a_header_that_says_other_than_the_file_holds_is_refused(data):
    with pytest.raises((ValueError, TypeError)):
        read_array(data, "it")


def test_the_list_of_types_is_short_and_scikit_learns():
    assert len(trusted_types()) == len(HEADS) + 3
    assert all(name.startswith("sklearn.") for name in trusted_types())
