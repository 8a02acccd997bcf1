"""Packages that only some uses need: the error that names the command to get them."""


def missing(use: str, package: str, extra: str) -> ImportError:
    """The error where ``use`` needs a package that is not installed.

    >>> raise missing("path: .mp4", "imageio[ffmpeg]", "video")
    Traceback (most recent call last):
    ...
    ImportError: path: .mp4 needs imageio[ffmpeg]: pip install 'diffsim-jax[video]'
    """
    return ImportError(f"{use} needs {package}: pip install 'diffsim-jax[{extra}]'")
