from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from antiforgery.batch import Plan, make_plan
from antiforgery.errors import UsageError


def _names(plan: Plan, top: Path) -> list[tuple[str, str]]:
    return [
        (item.source.relative_to(top).as_posix(), item.output.relative_to(top).as_posix())
        for item in plan.items
    ]


def test_beside_each_photo_by_default(album: Path) -> None:
    plan = make_plan([album])
    assert _names(plan, album) == [
        ("a.jpg", "a.protected.jpg"),
        ("sub/b.PNG", "sub/b.protected.PNG"),
    ]
    assert {item.root for item in plan.items} == {album}


def test_a_folder_is_mirrored_with_the_names_kept(album: Path, tmp_path: Path) -> None:
    plan = make_plan([album], str(tmp_path / "out"))
    assert _names(plan, tmp_path) == [
        ("album/a.jpg", "out/a.jpg"),
        ("album/sub/b.PNG", "out/sub/b.PNG"),
    ]
    assert [item.name for item in plan.items] == ["a.jpg", "sub/b.PNG"]


def test_a_single_photo_goes_to_the_named_file(album: Path, tmp_path: Path) -> None:
    plan = make_plan([album / "a.jpg"], str(tmp_path / "me.png"))
    assert _names(plan, tmp_path) == [("album/a.jpg", "me.png")]


def test_a_name_without_an_ending_may_be_a_folder_or_a_file(album: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="may be a folder or a file"):
        make_plan([album / "a.jpg"], str(tmp_path / "new"))


@pytest.mark.parametrize("ends", [os.sep, ""])
def test_a_single_photo_goes_into_a_named_folder(album: Path, tmp_path: Path, ends: str) -> None:
    out = tmp_path / "out"
    if not ends:
        out.mkdir()
    plan = make_plan([album / "a.jpg"], str(out) + ends)
    assert _names(plan, tmp_path) == [("album/a.jpg", "out/a.jpg")]


def test_the_folder_of_the_originals_as_output_still_marks_the_names(album: Path) -> None:
    plan = make_plan([album], str(album))
    assert _names(plan, album)[0] == ("a.jpg", "a.protected.jpg")


def test_an_output_folder_inside_the_input_is_not_walked(album: Path) -> None:
    out = album / "out"
    out.mkdir()
    (out / "a.jpg").write_bytes(b"made before")
    plan = make_plan([album], str(out))
    assert [item.source.name for item in plan.items] == ["a.jpg", "b.PNG"]


def test_our_own_outputs_are_skipped_and_said(album: Path) -> None:
    (album / "a.protected.jpg").write_bytes(b"made before")
    plan = make_plan([album, album / "a.protected.jpg"])
    assert [notice.path.name for notice in plan.skipped] == ["a.protected.jpg"]
    assert "our own outputs" in plan.skipped[0].sentence
    assert len(plan.items) == 2


def test_a_photo_named_twice_is_protected_once(album: Path) -> None:
    assert len(make_plan([album, album / "a.jpg", album / "sub"]).items) == 2


def test_a_missing_input_is_a_problem_of_its_own(album: Path) -> None:
    plan = make_plan([album / "a.jpg", album / "gone.jpg"])
    assert [notice.path.name for notice in plan.problems] == ["gone.jpg"]
    assert len(plan.items) == 1


def test_a_name_no_file_can_have_is_a_problem_of_its_own(album: Path) -> None:
    plan = make_plan([album / ("x" * 5000 + ".jpg"), album / "a.jpg"])
    assert len(plan.problems) == 1
    assert len(plan.items) == 1


def test_a_file_is_tried_whatever_its_name(album: Path) -> None:
    assert make_plan([album / "notes.txt"]).items[0].output.name == "notes.protected.txt"


def test_other_pictures_of_a_folder_are_left_and_told(album: Path) -> None:
    moving = album / "sub" / "moving.GIF"
    moving.write_bytes(b"picture")
    (album / ".hidden.gif").write_bytes(b"picture")
    plan = make_plan([album])
    assert plan.left == (moving,)
    assert len(plan.items) == plan.size == 2
    assert make_plan([moving]).left == ()


def test_nothing_matches(tmp_path: Path) -> None:
    assert make_plan([tmp_path]).size == 0


def test_same_stem_with_another_kind_is_no_collision(album: Path) -> None:
    (album / "a.png").write_bytes(b"another photo")
    assert len(make_plan([album]).items) == 3


def test_a_kind_that_is_not_written_becomes_another_and_may_collide(tmp_path: Path) -> None:
    moving, still = tmp_path / "a.gif", tmp_path / "a.png"
    for path in (moving, still):
        Image.new("RGB", (4, 4)).save(path)
    assert make_plan([moving]).items[0].output.name == "a.protected.png"
    with pytest.raises(UsageError, match=r"a\.gif and .*a\.png -> .*out/a\.png"):
        make_plan([moving, still], str(tmp_path / "out"))


def test_two_photos_with_one_output_are_refused_by_name(album: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(b"photo")
    with pytest.raises(UsageError, match=r"album/a\.jpg and .*other/a\.jpg -> .*out/a\.jpg"):
        make_plan([album, other], str(tmp_path / "out"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that tells names apart")
@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("x.jpg", "x.JPG"),
        (unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")),
    ],
)
def test_names_that_another_file_system_takes_for_one_are_refused(
    tmp_path: Path, one: str, two: str
) -> None:
    for name in (one, two):
        (tmp_path / name).write_bytes(b"photo")
    with pytest.raises(UsageError, match="overwrite each other"):
        make_plan([tmp_path], str(tmp_path / "out"))


def test_an_original_is_never_an_output(album: Path) -> None:
    with pytest.raises(UsageError, match="an original"):
        make_plan([album / "a.jpg"], str(album / "a.jpg"))


def test_an_original_is_never_an_output_through_a_link(album: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.jpg"
    link.symlink_to(album / "a.jpg")
    with pytest.raises(UsageError, match="an original"):
        make_plan([album / "a.jpg"], str(link))


def test_a_file_cannot_be_the_folder_of_several(album: Path) -> None:
    with pytest.raises(UsageError, match="must be a folder"):
        make_plan([album], str(album / "notes.txt"))


def test_a_photos_name_cannot_be_the_folder_of_several(album: Path, tmp_path: Path) -> None:
    both = [album / "a.jpg", album / "sub" / "b.PNG"]
    with pytest.raises(UsageError, match=r"one\.jpg is named as one photo"):
        make_plan(both, str(tmp_path / "one.jpg"))
    assert make_plan(both, str(tmp_path / "one.jpg") + os.sep).size == 2
    (tmp_path / "one.jpg").mkdir()
    assert make_plan(both, str(tmp_path / "one.jpg")).size == 2


def test_an_ending_that_cannot_be_written_is_refused_before_work(album: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.bmp has an ending that cannot be written"):
        make_plan([album / "a.jpg"], str(album / "out.bmp"))


def test_only_some_collisions_are_listed(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for number in range(15):
            (tmp_path / folder / f"{number:02}.jpg").write_bytes(b"photo")
    with pytest.raises(UsageError, match="and 5 more"):
        make_plan([tmp_path / "one", tmp_path / "two"], str(tmp_path / "out"))
