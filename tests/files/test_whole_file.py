"""A file is there whole, or as it was."""

import pytest

from mlip.files.whole_file import whole_file


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with whole_file(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "new"


@pytest.mark.parametrize("durable", [True, False])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, durable):
    target = tmp_path / "file"
    target.write_text("old")

    def interrupted() -> None:
        with whole_file(target, durable=durable) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_folders_are_put_in_place_whole_too(tmp_path):
    def failing() -> None:
        with whole_file(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / "a").write_text("1")
            raise ValueError("half of it")

    with pytest.raises(ValueError, match="half"):
        failing()
    assert not list(tmp_path.iterdir())
    with whole_file(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "a").write_text("1")
    assert (tmp_path / "folder" / "a").read_text() == "1"
