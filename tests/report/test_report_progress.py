"""What a bar says: compiling until something is done, and how long that took."""

import io

from rich.console import Console

from diffsim.report.progress import counting, waiting


def test_compiling_is_said_until_an_update_is_done():
    said = io.StringIO()
    with counting("training", 2, Console(file=said, width=100)) as tell:
        tell(0, "loss 1.0")  # measured before the first update
        assert said.getvalue() == ""
        tell(1)
        tell(2, "loss 0.5")
    first, last = said.getvalue().splitlines()
    assert first == "compiled, and the first of 2 done, in 0 s"
    assert last.startswith("loss 0.5 ")
    assert "2/2" in last


def test_waiting_says_nothing_but_on_a_terminal(capsys):
    with waiting("simulating") as tell:
        tell("drawing")
    assert tuple(capsys.readouterr()) == ("", "")
