"""How every script ends: one line and code 2 for what the user can mend, 130 after an interrupt."""

import os
import sys
from collections.abc import Callable

ERRORS = (OSError, ValueError, TypeError, ImportError, FloatingPointError)


def entry(main: Callable[[], object]) -> None:
    """Run a script's main function, and end the program with the code it returns, if any.

    ``--debug`` anywhere on the command line shows the traceback of an error.

    Args:
        main: imports what it needs, parses ``sys.argv`` and does the work.
    """
    debug = "--debug" in sys.argv[1:]
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "--debug"]
    if debug:
        os.environ["DIFFSIM_DEBUG"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # the compiler's notes to itself
    try:
        code = main()
    except KeyboardInterrupt:
        code = _said("\ninterrupted", 130)
    except ERRORS as error:
        if debug:
            raise
        code = _said("error: " + (" ".join(str(error).split()) or type(error).__name__), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _said(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return code
