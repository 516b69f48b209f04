import subprocess
import sys

import pytest

from flows import cli
from flows.cli import COMMANDS, main
from flows.lazy import resolve
from model import weights


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert all(f"  {name} " in page for name in COMMANDS)


def test_help_loads_nothing_that_takes_seconds():
    code = "import sys; from flows.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "ray", "prefect", "mlflow", "mujoco", "diffusers"}.intersection(done.stderr.split())


def test_no_command_shows_the_help(capsys):
    assert main([]) == 0
    assert "skyloom demo" in capsys.readouterr().out


def test_every_command_can_be_imported():
    for command in COMMANDS.values():
        assert callable(resolve(command.call))


def test_a_misspelt_command_gets_a_hint(capsys):
    assert main(["dmeo"]) == 2
    assert "skyloom demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "no folder of videos"),
        (["run", "--source", "nowhere"], "nowhere"),
        (["demo", "--preset", "huge"], "no preset 'huge'"),
        (["demo", "--curate.ingest.fps", "-1"], "--curate.ingest.fps"),
        (["train"], "skyloom"),
        (["report"], "no stage has run"),
        (["generate", "a ball"], "no model yet"),
        (["generate", "a ball", "-o", "x.gif"], "must end in .mp4"),
        (["bench", "nothing"], "no benchmark nothing"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SKYLOOM_HOME", str(tmp_path / "artifacts"))
    monkeypatch.setattr(weights, "STARTER", tmp_path / "no-starter")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert len(shown.strip().splitlines()) == 1


def test_an_unknown_flag_is_refused(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--transformer.nonsense", "1"])
    assert caught.value.code == 2


def test_ctrl_c_ends_without_a_traceback(capsys, monkeypatch):
    def interrupt(name, arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "resolve", lambda path: interrupt)
    assert main(["demo"]) == 130
    assert "goes on where it was" in capsys.readouterr().err
