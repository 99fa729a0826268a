"""results.csv, as YOLOv5 writes it."""

from utils.training.history import COLUMNS, History


def row(epoch: int) -> dict[str, float]:
    return {name: float(i) / 3 for i, name in enumerate(COLUMNS)} | {"epoch": epoch}


def test_columns_and_format(tmp_path):
    history = History(tmp_path)
    history.append(row(0))
    history.flush()
    history.close()
    head, first = (tmp_path / "results.csv").read_text().splitlines()
    assert head == (
        "               epoch,      train/box_loss,      train/obj_loss,      train/cls_loss,   metrics/precision,"
        "      metrics/recall,     metrics/mAP_0.5,metrics/mAP_0.5:0.95,        val/box_loss,        val/obj_loss,"
        "        val/cls_loss,               x/lr0,               x/lr1,               x/lr2"
    )
    assert first.startswith("                   0,             0.33333,             0.66667,                   1,")
    assert {len(field) for field in first.split(",")} == {20}


def test_going_on_drops_later_and_broken_rows(tmp_path):
    history = History(tmp_path)
    for epoch in range(3):
        history.append(row(epoch))
    history.flush()
    history.close()
    with (tmp_path / "results.csv").open("a") as file:
        file.write("         3,   0.5")
    again = History(tmp_path, start=2)
    again.append(row(2))
    again.flush()
    again.close()
    assert [line.split(",")[0].strip() for line in (tmp_path / "results.csv").read_text().splitlines()] == ["epoch", "0", "1", "2"]


def spoilt(text: str) -> dict[str, tuple[bytes, int]]:
    """What becomes of a results.csv of three epochs, and how many of them can still be read."""
    lines = text.splitlines()
    quoted = "\r\n".join(",".join(f'"{cell.strip()}"' for cell in line.split(",")) for line in lines) + "\r\n"
    return {
        "quoted, with a byte order mark": (b"\xef\xbb\xbf" + quoted.encode(), 3),
        "semicolons": (text.replace(",", ";").encode(), 0),
        "UTF-16": (text.encode("utf-16"), 0),
        "a row of words": (text.replace(lines[2], "x" * 50).encode(), 2),
        "no line break at the end": (text.rstrip().encode(), 3),
        "nothing": (b"", 0),
        "an open quote": (('"' + text).encode(), 3),
        "a NUL": (text.replace(lines[1], "\0").encode(), 2),
    }


def test_a_file_that_was_changed_does_not_stop_a_resumed_run(tmp_path):
    history = History(tmp_path)
    for epoch in range(3):
        history.append(row(epoch))
    history.flush()
    history.close()
    text = (tmp_path / "results.csv").read_text()
    for number, (content, kept) in enumerate(spoilt(text).values()):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "results.csv").write_bytes(content)
        History(place, start=3).close()
        found = (place / "results.csv").read_text()
        assert len(found.splitlines()) == 1 + kept, content
        assert found == text or (place / "results.damaged.csv").read_bytes() == content
