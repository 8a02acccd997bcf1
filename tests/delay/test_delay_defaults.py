"""What holds unless it is asked for otherwise."""

from defaults import check


def test_defaults():
    check("delay")
