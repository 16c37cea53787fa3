"""The command line before and after a command: help, version, pipes, interruptions, home folders, extras."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from studio import ROOT, Studio, run

import spheremap
from spheremap import cli
from spheremap.cli import command_names, main
from spheremap.cli import weights as command

HEAVY = ("torch", "numpy", "pandas", "pydantic", "PIL", "importlib.metadata")


def spheremap_process(*arguments: str, python: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *python, "-m", "spheremap", *arguments]


def test_package_and_help_import_nothing_that_computes() -> None:
    """They are quick because of what they leave alone; seconds would depend on the machine."""
    code = f"""
import contextlib, sys, spheremap
from spheremap.cli import command_names, main
assert set(spheremap.__all__) <= set(dir(spheremap))
for arguments in ([], *([name] for name in command_names())):
    with contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    assert not (found := [name for name in {HEAVY} if name in sys.modules]), (arguments, found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: spheremap") == 1 + len(command_names())
    assert re.fullmatch(r"\d+\.\d+\.\d+", spheremap.__version__)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = re.findall(r"^    ([a-z][\w-]*)", capsys.readouterr().out, re.MULTILINE)
    assert listed == command_names()


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["preset"]])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)  # as `| head -0`
    done = subprocess.run(
        spheremap_process(*arguments), cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141 or "--help" in arguments  # argparse heeds no error of its own output


def test_output_may_be_closed_or_lack_characters(tmp_path: Path) -> None:
    command = shlex.join(spheremap_process("--version"))
    assert subprocess.run(f"{command} >&-", shell=True, capture_output=True).stderr == b""
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "a.yaml").write_bytes(b"# \xe2\x86\x92 \xff\n")
    told = subprocess.run(
        spheremap_process("preset"), cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": "latin1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")


def test_outputs_that_would_replace_inputs_or_one_another_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "training").mkdir()
    for name in ("a", "metrics.json", "training/losses.csv"):
        (tmp_path / name).write_text("mine")
    a = tmp_path / "a"
    shared = [f"--{name}={a}" for name in ("params", "tables", "images")]
    trained = [*shared, f"--views={a}", f"--work={tmp_path}"]
    report = ["report", *shared, f"--head={a}", f"--results={tmp_path}", "--out"]
    b, c, d = (str(tmp_path / name) for name in "bcd")
    for arguments in (
        ["cache-index", "--shards", str(a), "--out", str(a)],
        ["fit", *trained, "--method=m", f"--head={a}", "--out", str(a), "--curve", b],
        ["train", *trained, "--out", b, "--losses", c, "--diagnostics", d, "--validation", d],
        *([*report, str(tmp_path / name)] for name in ("a", "metrics.json", "training/losses.csv")),
    ):
        assert main(arguments) == 1
        assert "would overwrite" in capsys.readouterr().err
    assert a.read_text() == "mine"


def test_a_table_of_the_project_s_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = "spheremap.metrics.table.format_file"
    monkeypatch.setattr(told, lambda path: (str(path), []))
    assert main(["table"]) == main(["table", "nix.json"]) == 1
    assert "nix.json" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "metrics.json").touch()
    for arguments in ([], ["results"], ["results/metrics.json"]):
        run("table", *arguments)
        assert capsys.readouterr().out == "results/metrics.json\n"


def test_a_project_that_cannot_be_laid_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "file/sub", "link"):
        assert main(["init", str(tmp_path / name)]) == 1
        assert f"in: {tmp_path / name}" in capsys.readouterr().err
    run("init", tmp_path / "my project")
    assert f"cd '{tmp_path}/my project'" in capsys.readouterr().out


def test_an_interruption_while_torch_is_imported_is_told_in_a_line(studio: Studio) -> None:
    arguments = ("match", *map(str, studio.photographs[:2]), "--points", "1,2", "--model", str(studio.bundle))
    with subprocess.Popen(
        spheremap_process(*arguments, python=("-X", "importtime")),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "torch._utils" in line:  # torch itself is said when it is done
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "spheremap match: interrupted" in rest


def test_a_broken_pipe_of_the_command_itself_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one of standard output or error says that nobody reads."""

    def fail(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(command, "run", fail)
    monkeypatch.setattr(cli, "_nobody_reads", lambda: False)
    with pytest.raises(BrokenPipeError):
        main(["weights", "--params=p", "--out=o"])


def test_a_missing_package_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(command, "run", fail)
    assert main(["weights", "--params=p", "--out=o"]) == 1
    assert "pip install 'spheremap[workflow]'" in capsys.readouterr().err


def test_paths_at_home(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(studio.folder))
    (tmp_path / "points.csv").write_text("30,40\n")
    names = [f"~/{path.name}" for path in studio.photographs[:2]]
    run("match", *names, f"--model=~/{studio.bundle.name}", "--points", "30,40", "--device", "cpu")
    assert len(json.loads(capsys.readouterr().out)["points"]) == 1
    matcher = spheremap.load(f"~/{studio.bundle.name}", device="cpu")
    assert matcher.describe(names[0]).photograph.size == (120, 90)
    monkeypatch.setenv("HOME", str(tmp_path))
    from spheremap.api.points import read_points

    assert read_points("~/points.csv").tolist() == [[30, 40]]


def test_presets_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run("preset")
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
    assert main(["preset", "nonsense"]) == 1
    assert "spair-71k" in capsys.readouterr().err
