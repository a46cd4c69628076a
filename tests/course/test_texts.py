from course import study
from course.texts import main


def test_each_vocabulary_and_each_length_gets_a_row(tmp_path, monkeypatch):
    # In this process: another one would have to import everything.
    monkeypatch.setattr(study, "available_cpus", lambda: 1)
    lines = [f"{'oil' if i % 2 else 'corn'} {'prices ' * (i % 40)}of word{i % 9},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    main(["--data", str(tmp_path / "texts.csv"), "--folder", str(tmp_path / "study"), "--epochs", "1", "--seeds", "2"])
    report = (tmp_path / "study" / "README.md").read_text()
    rows = [line.split(" | ") for line in report.splitlines() if line.startswith("| 5 ")]
    assert [row[1] for row in rows] == ["41", "25"]
    assert all(0 <= float(row[2].split(" ± ")[0]) <= 1 for row in rows)
