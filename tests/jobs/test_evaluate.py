"""The command `evaluate` from a finished run to tables, file and exit code."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import verify
from jobs.evaluate import main
from ray_pipeline.delivery.commit import Output
from schemas.picture import Box
from schemas.result import Region
from tests.stand_ins.labelled_runs import Labelled, Said, finished_run, write_manifest

SMALL: Box = (10, 10, 16, 20)  # 0.3 % of 200 x 100
LARGE: Box = (100, 20, 160, 80)
ROWS = [
    Labelled("r0", ["exit"], [SMALL], [Said("Exit", before="exot", sure=0.9, crops_px=((0, 0, 40, 40),), used=True)]),
    Labelled("r1", ["12"], [SMALL], [Said("17", before="17", sure=0.6, crops_px=((100, 0, 140, 40),))]),
    Labelled("r2", ["open"], [LARGE], [Said("open", before="open", sure=0.8, box_px=LARGE, box_sure=0.7)]),
    Labelled("r3", ["shut"], None, [Said(answer=None)]),
    Labelled("r4", None, [LARGE], [Said("", box_px=(100, 20, 160, 50), box_sure=0.2)]),
    Labelled("r5", None, None, [Said("whatever")]),
    Labelled("r6", ["blue", "navy"], [LARGE], [Said("navy", before="black", sure=1.0)]),
]


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = main([*arguments] if "--bootstrap" in arguments else [*arguments, "--bootstrap", "100"])
    except SystemExit as left:
        code = int(left.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def figures(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> dict[str, Any]:
    place = tmp_path / "scores.json"
    code, _, err = evaluate(capsys, *arguments, "--json", str(place))
    assert code in (0, 3), err
    found: dict[str, Any] = json.loads(place.read_text())
    return found


def overall(found: dict[str, Any]) -> dict[str, float]:
    return {name: pytest.approx(score["value"]) for name, score in found["tables"]["overall"][0]["scores"].items()}


def test_a_run_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished_run(tmp_path, ROWS)
    before = sorted(str(path) for path in Path(output).rglob("*"))
    code, out, err = evaluate(capsys, "--run", output, "--table", str(tmp_path / "t.md"))
    assert (code, err) == (0, "")
    assert "6 of 7 rows have a truth, on 6 pictures; 1 of them failed and count as wrong." in out
    assert "## By object size" in out and "## By refinement method" in out and "## Refinement: after against before" in out
    assert "## Failed rows: fetch_not_found 1" in out and "- r3: no such file" in out
    assert out.splitlines()[-1].startswith("answer: 6 rows, ANLS 60.0 [") and "Acc@0.5 100.0" in out.splitlines()[-1]
    assert out == (tmp_path / "t.md").read_text() + out.splitlines()[-1] + "\n"
    assert sorted(str(path) for path in Path(output).rglob("*")) == before  # nothing of it lies in the run's folder


def test_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(capsys, tmp_path, "--run", finished_run(tmp_path, ROWS))
    # texts: r0, r2 and r6 are right, r1 is half of "12" and so nothing for ANLS, r3 failed; boxes: r2 whole, r4 one half
    assert overall(found) == {
        "anls": 3 / 5, "vqa_accuracy": 3 / 5, "exact_match": 3 / 5, "cer": (1 + 1 + 4) / (4 + 2 + 4 + 4 + 4), "box_given": 1,
        "acc_50": 1, "mean_iou": 0.75,
    }  # fmt: skip
    sizes = {group["name"]: (group["rows"], group["scores"]["anls"]["value"]) for group in found["tables"]["object size"]}
    assert sizes == {"small": (2, 0.5), "large": (3, 1), "unknown": (1, 0)}
    methods = {group["name"]: group["rows"] for group in found["tables"]["refinement method"]}
    assert methods == {"rel_att": 2, "none": 3, "failed": 1}
    assert {group["name"]: group["rows"] for group in found["tables"]["refinement"]} == {
        "used": 1, "not used": 1, "no crop": 3, "failed": 1,
    }  # fmt: skip
    refined = found["refinement"]["all"]["exact_match"]
    assert (refined["rows"], refined["value"], refined["other"], refined["won"], refined["lost"]) == (4, 0.75, 0.25, 2, 0)
    assert found["reliability"]["answer"]["brier"] == pytest.approx((0.01 + 0.36 + 0.04 + 0) / 4)
    assert found["reliability"]["box"]["rows"] == 2
    looking = {group["name"]: group["scores"]["crop_holds"]["value"] for group in found["studies"]["looking"]}
    assert looking == {"all": 0.5, "small": 0.5}
    assert found["failures"] == {"r3": "no such file"} and found["run"]["complete"] and found["comparison"] is None
    assert len(found["row_scores"]) == 7 and found["row_scores"][4]["scores"] == {"box_given": 1, "acc_50": 1, "mean_iou": 0.5}


def test_the_same_run_gives_the_same_bytes_and_another_seed_other_intervals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = finished_run(tmp_path, ROWS)
    one, two = (figures(capsys, tmp_path, "--run", output) for _ in range(2))
    other = figures(capsys, tmp_path, "--run", output, "--seed", "5")
    assert one == two and one["tables"] != other["tables"] and overall(one) == overall(other)


def test_against_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worse = [Labelled(row.id, row.references, row.boxes, [Said("exit")]) for row in ROWS]
    other = finished_run(tmp_path, worse, "other")
    output = finished_run(tmp_path, ROWS)
    found = figures(capsys, tmp_path, "--run", output, "--against", other)["comparison"]
    exact = found["sizes"]["all"]["exact_match"]
    assert (found["rows"], exact["rows"], exact["value"], exact["other"]) == (6, 5, 0.6, 0.2)
    assert (exact["won"], exact["lost"], exact["mcnemar"]) == (2, 0, 0.5)
    assert found["sizes"]["all"]["acc_50"]["rows"] == 1  # where both were asked for a box or gave one
    code, out, _ = evaluate(capsys, "--run", output, "--against", other)
    assert code == 0 and "## Against the other run" in out and "6 rows in both runs." in out


def line(box: Box, sure: float | None) -> Region:
    return Region(box, None, "text", sure, "line")


TOP: Box = (0, 0, 100, 10)
PAGES = [
    Labelled("p0", ["Total 9.00"], [TOP, (0, 20, 100, 30)], [Said("TOTAL 9.00", regions=(line(TOP, 0.9),), page=0)]),
    Labelled("p1", ["one", "two three"], [TOP], [Said("one", page=0), Said("two four", page=1)]),
    Labelled("p2", ["lost words"], [TOP], [Said(answer=None)]),
    Labelled("p3", [""], None, [Said("", page=0)]),
]


def test_pages_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished_run(tmp_path, PAGES, task="ocr")
    assert verify.main(["--output", output]) == 0
    found = figures(capsys, tmp_path, "--run", output)
    assert overall(found) == {
        "word_f1": 2 * 4 / (5 + 7), "word_precision": 4 / 5, "word_recall": 4 / 7, "cer": (4 + 0 + 5 + 10) / (10 + 3 + 9 + 10),
        "wer": (1 + 0 + 1 + 2) / 7, "line_f1": 2 / 4, "line_precision": 1, "line_recall": 1 / 3,
    }  # fmt: skip
    assert found["average_precision"]["all"]["ar"] == pytest.approx(1 / 3)
    assert found["reliability"]["line"]["rows"] == 1
    code, out, _ = evaluate(capsys, "--run", output)
    assert code == 0 and "Boxes of 1 documents are left out" in out and "COCO" in out
    assert out.splitlines()[-1].startswith("ocr: 5 rows, word F1 66.7 [")


@pytest.mark.parametrize("references", [["one"], ["one", "two", "three"]])
def test_a_document_needs_one_reference_per_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], references: list[str]
) -> None:
    rows = [Labelled("doc", references, None, [Said("one", page=0), Said("two", page=1)])]
    code, _, err = evaluate(capsys, "--run", finished_run(tmp_path, rows, task="ocr"))
    assert code == 2 and f"row 'doc' has {len(references)} references for 2 pages, expected one per page" in err


def test_a_document_that_failed_as_a_whole_has_lost_all_its_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Labelled("doc", ["one two", "three"], None, [Said(answer=None)]), Labelled("page", ["four"], None, [Said("four")])]
    found = figures(capsys, tmp_path, "--run", finished_run(tmp_path, rows, task="ocr"))
    assert overall(found)["word_recall"] == 1 / 4 and overall(found)["cer"] == 13 / 17


def test_an_incomplete_run_is_scored_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished_run(tmp_path, ROWS, parts=1)
    code, out, _ = evaluate(capsys, "--run", output)
    assert (
        code == 3
        and f"INCOMPLETE: {output} has no index.json; 4 of 7 rows of the manifest have no result yet and count in no score."
        in out
    )
    assert figures(capsys, tmp_path, "--run", output)["run"]["missing"] == 4


def test_a_run_that_broke_off_before_its_index_is_incomplete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished_run(tmp_path, ROWS)
    Path(output, "index.json").unlink()
    code, out, _ = evaluate(capsys, "--run", output)
    assert code == 3 and "0 of 7 rows of the manifest have no result yet" in out
    complete = finished_run(tmp_path, ROWS, "complete")
    assert evaluate(capsys, "--run", complete, "--against", output)[0] == 3


def test_truth_may_come_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of the manifest with truth is the same manifest, as truth does not count for its digest."""
    output = finished_run(tmp_path, [Labelled(row.id, None, None, row.said) for row in ROWS])
    code, _, err = evaluate(capsys, "--run", output)
    assert code == 2 and "0 of 7 rows" in err and "expected at least one" in err
    labelled = write_manifest(tmp_path / "labelled.parquet", ROWS)
    assert overall(figures(capsys, tmp_path, "--run", output, "--manifest", labelled))["anls"] == 0.6


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = evaluate(capsys, *arguments)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and err.startswith("fovea evaluate: "), (code, out, err)
    return err


def test_another_manifest_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished_run(tmp_path, ROWS)
    other = write_manifest(tmp_path / "other.parquet", ROWS[:-1])
    assert "as in run.json: ids, pictures or questions differ" in refused(capsys, "--run", output, "--manifest", other)
    (tmp_path / "b").mkdir()
    elsewhere = finished_run(tmp_path / "b", ROWS[1:])
    assert "answers a manifest with digest" in refused(capsys, "--run", output, "--against", elsewhere)
    pages = finished_run(tmp_path, ROWS, "pages", task="ocr")
    assert "is of task 'ocr', expected 'answer'" in refused(capsys, "--run", output, "--against", pages)


def test_a_manifest_without_truth_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = finished_run(tmp_path, ROWS)
    manifest = tmp_path / "m.parquet"
    pq.write_table(pq.read_table(manifest).drop_columns(["references", "reference_boxes"]), manifest)
    assert "no column 'references' or 'reference_boxes', expected one of them" in refused(capsys, "--run", output)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0, 0, 300, 9), "row 'r0': reference box 0, 0, 300, 9, expected one inside the picture of 200 x 100 px"),
        ((9, 0, 9, 9), "row 0 (id 'r0'): reference box 9, 0, 9, 9, expected x0 < x1 and y0 < y1"),
    ],
)
def test_a_box_that_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], box: Box, message: str) -> None:
    output = finished_run(tmp_path, [Labelled("r0", ["x"], [box])])
    assert message in refused(capsys, "--run", output)


def test_damaged_runs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = Path(finished_run(tmp_path, ROWS))
    part = output / "results/part-00001.parquet"
    whole = part.read_bytes()
    part.write_bytes(whole[:-9])
    assert "results/part-00001.parquet has another sha256 than in index.json" in refused(capsys, "--run", str(output))
    part.unlink()
    assert "results/part-00001.parquet cannot be read" in refused(capsys, "--run", str(output))
    (output / "index.json").unlink()
    part.write_bytes(whole[:-9])
    assert "results/part-00001.parquet is unreadable" in refused(capsys, "--run", str(output))
    part.write_bytes(whole)
    pq.write_table(pq.read_table(part).drop_columns(["refinement"]), part)
    assert "result row 'r3' has no column 'refinement', expected the columns of a result" in refused(capsys, "--run", str(output))
    rows = pq.read_table(output / "results/part-00000.parquet")
    pq.write_table(rows.set_column(0, "id", pa.array(["r0", "r2", "r1"])), part.with_name("part-00000.parquet"))
    part.unlink()
    assert "result row 'r1' is not in the manifest, or not in its order" in refused(capsys, "--run", str(output))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("", "run.json is unreadable"),
        ("[]", "run.json is unreadable"),
        ("{}", "run.json names no manifest and its digest"),
        ('{"settings": {"manifest": 3}, "fingerprint": {"manifest.digest": "x"}}', "names no manifest and its digest"),
        (
            '{"settings": {"manifest": "m", "task": ["ocr"]}, "fingerprint": {"manifest.digest": "x"}}',
            "expected one of answer, ocr",
        ),
        ('{"settings": {"manifest": "gone", "run": 3}, "fingerprint": {"manifest.digest": "x"}}', "manifest gone"),
    ],
)
def test_broken_run_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: str, message: str) -> None:
    Output(str(tmp_path / "out")).create("run.json", run.encode())
    assert message in refused(capsys, "--run", str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--run"),
        (["--run"], "--run"),
        (["--run", "{tmp}/absent"], "evaluate: output '{tmp}/absent' has no run.json, expected the output folder of a run"),
        (["--run", ""], "expected a plain path or one URI"),
        (["--run", "gibberish://x"], "gibberish"),
        (["--run", "{tmp}/out", "--manifest", "{tmp}/absent.parquet"], "absent.parquet"),
        (["--run", "{tmp}/out", "--manifest", ""], "is empty"),
        (["--run", "{tmp}/out", "--against", "{tmp}/absent"], "has no run.json"),
        (["--run", "{tmp}/out", "--bootstrap", "99"], "'99', expected a whole number from 100 to 100000"),
        (["--run", "{tmp}/out", "--bootstrap", "many"], "'many', expected a whole number"),
        (["--run", "{tmp}/out", "--seed", "-1"], "expected a whole number from 0"),
        (["--run", "{tmp}/out", "--json", "{tmp}/no/such/file"], "expected a file in a folder that is there"),
        (["--run", "{tmp}/out", "--table", "{tmp}"], "expected a file in a folder that is there"),
        (["--run", "{tmp}/out", "--json", "{tmp}/out/results/x.json"], "among the results of a run"),
        (["--run", "{tmp}/out", "--tabel", "x"], "unknown option --tabel; did you mean --table?"),
    ],
)
def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    finished_run(tmp_path, ROWS)
    said = refused(capsys, *(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert message.replace("{tmp}", str(tmp_path)) in said


def test_hidden_characters_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Labelled("r\u202e0", ["x"], None, [Said(answer=None)])]
    code, out, _ = evaluate(capsys, "--run", finished_run(tmp_path, rows))
    assert code == 0 and "\u202e" not in out and "- r\\u202e0: no such file" in out


def test_help_fits_one_screen_and_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, _ = evaluate(capsys, "--help")
    assert code == 0 and len(shown.splitlines()) <= 24 and max(map(len, shown.splitlines())) <= 130
    assert "fovea evaluate --run results --against results_without_zoom" in shown
