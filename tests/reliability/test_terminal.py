"""Text that nobody vouches for reaches a terminal escaped and shortened, by whatever door."""

from pie_jax.cli import command
from pie_jax.cli.progress import Progress
from pie_jax.errors import PackError, printable
from pie_jax.io import shown

ESCAPE = "\x1b[2J\x07\u202e\u5199"


def test_one_function_writes_it():
    assert printable(ESCAPE) == "\\x1b[2J\\x07\\u202e\u5199" and printable("a b") == "a b"
    assert len(printable("x" * 10_000)) == 4000 and len(shown("x" * 10_000)) == 400


def test_errors_notes_and_warnings_go_through_it(capsys):
    def fail():
        raise PackError(f"zip member {ESCAPE}: refused")

    assert command.guarded(fail, debug=False) == 4
    progress = Progress()
    progress.note(f"note {ESCAPE}")
    progress.warn(f"warning {ESCAPE}")
    err = capsys.readouterr().err
    assert "\x1b[2J" not in err and "\x07" not in err and err.count("\\x1b[2J") == 3
