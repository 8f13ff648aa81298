from pathlib import Path

import pytest

from features.errors import InputError
from features.vision.key_lists import read_photo_keys, read_vector_keys


def written(folder: Path, text: str, name: str = "keys.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    "text",
    [
        "name,item_key\nIMG_1.jpg,B1\nIMG_2.jpg,B2\n",
        "asin;photo\nB1;IMG_1.jpg\n\nB2;IMG_2.jpg",
        "B1,IMG_1.jpg\nB2,IMG_2.jpg\n",
        "\ufeffIMG_1.jpg\tB1\r\nIMG_2.jpg\tB2\r\n",
    ],
)
def test_photo_keys_have_a_header_or_none(tmp_path: Path, text: str) -> None:
    assert read_photo_keys(written(tmp_path, text)) == {"IMG_1.jpg": ["B1"], "IMG_2.jpg": ["B2"]}


def test_folders_in_a_photo_name_may_be_left_out_where_unique(tmp_path: Path) -> None:
    listed = read_photo_keys(written(tmp_path, "photos\\IMG_1.jpg,B1\na/1.jpg,B2\nb/1.jpg,B3\n"))
    assert listed == {
        "IMG_1.jpg": ["B1"], "photos/IMG_1.jpg": ["B1"], "a/1.jpg": ["B2"], "b/1.jpg": ["B3"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("asin\titemID\nB1\t0\nB2\t1\nB3\t2\n", "i_id_mapping.csv"),
        ("row,item_key\n0,B1\n2,B3\n1,B2\n", "keys.csv"),
        ("B1,0\nB2,1\nB3,2", "keys.csv"),
        ("B1\nB2\nB3\n", "keys.txt"),
        ("asin\nB1\nB2\nB3\n", "keys.txt"),
        ('["B1", "B2", "B3"]', "keys.json"),
        ('{"B1": 0, "B2": 1, "B3": 2}', "keys.json"),
        ('{"0": "B1", "1": "B2", "2": "B3"}', "keys.json"),
    ],
)
def test_vector_keys_in_every_public_layout(tmp_path: Path, text: str, name: str) -> None:
    assert read_vector_keys(written(tmp_path, text, name), 3) == {"B1": 0, "B2": 1, "B3": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("B1\nB2\n", "2 keys in .* for 3 rows"),
        ("B1,1\nB2,2\nB3,3\n", "row 3 for B3"),
        ("B1,0\nB1,1\n", "B1 for the rows 0 and 1"),
        ("B1,x\nB2,y\n", "without a column of row numbers"),
        ("B1,0\nB2\n", "row 2 of .* with 1 columns where the first has 2"),
        ("\n \n", "without a row"),
    ],
)
def test_keys_that_do_not_fit_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_vector_keys(written(tmp_path, text), 3)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_photo_keys(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="with one column"):
        read_photo_keys(written(tmp_path, "IMG_1.jpg\n"))
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_photo_keys(tmp_path / "x.csv")
    with pytest.raises(InputError, match="no JSON"):
        read_vector_keys(written(tmp_path, "{", "x.json"), 3)
    with pytest.raises(InputError, match="of another form"):
        read_vector_keys(written(tmp_path, '{"a": {}}', "x.json"), 3)
