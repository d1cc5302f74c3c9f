"""Files are replaced as a whole or not at all."""

import pytest

from extract.files import write_text, written_aside


def test_the_file_is_there_only_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with written_aside(path) as aside:
        aside.write_text("half")
        assert aside.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write_and_fail():
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_replaced(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "eins")
    write_text(path, "zwei ü 犬")
    assert path.read_text(encoding="utf-8") == "zwei ü 犬"
