"""Animations: frame count, duration, size, and that things move."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from diffsim.report import animate
from diffsim.report.stage import hues, light


@pytest.mark.parametrize("fps", [25, 30])
def test_a_gif_plays_every_rollout_at_the_asked_speed(rally, tmp_path, fps):
    path = tmp_path / "new" / "rally.gif"
    assert animate(rally.world, rally.rollouts, rally.path, path=path, fps=fps, slow=0.5) == path
    frames = 2 * (round(0.4 * fps) + 1)
    with Image.open(path) as film:
        assert film.n_frames == frames
        assert film.info["loop"] == 0
        duration, seen = 0, []
        for index in range(frames):
            film.seek(index)
            duration += film.info["duration"]
            seen.append(np.asarray(film.convert("RGB")).astype(int))
    assert duration == pytest.approx(1000 * frames / fps, abs=10)  # a GIF counts in 10 ms
    assert all((a != b).any() for a, b in pairwise(seen))
    assert seen[0][0, 0].tolist() == [255, 255, 255]
    ground = np.round(255 * np.array(light(hues(rally.world)[2])))  # half of the lower panel
    assert (np.abs(seen[0] - ground) <= 2).all(axis=2).mean() > 0.1
    side = slice(0, seen[0].shape[0] // 2)
    changed = np.abs(seen[frames // 4][side] - seen[0][side]).sum(axis=2) > 60
    assert 0.0005 < changed.mean() < 0.05  # ball, trail and paddle; not the scenery
    assert [p.name for p in path.parent.iterdir()] == ["rally.gif"]
    assert path.stat().st_size < 6e3 * frames  # 3 MB for four rallies of 1 s at a quarter speed


def test_bad_arguments_raise_and_leave_nothing(rally, tmp_path, monkeypatch):
    for options, message in (
        ({"path": tmp_path / "a.avi"}, "expected a name ending in .gif or .mp4, got 'a.avi'"),
        ({"path": tmp_path / "a.gif", "fps": 60}, r"fps: expected in \[1, 50\], got 60"),
        ({"path": tmp_path / "a.gif", "slow": 0}, r"slow: expected in \(0, inf\), got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            animate(rally.world, rally.rollouts, rally.path, **options)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"needs imageio\[ffmpeg\]"):
        animate(rally.world, rally.rollouts, rally.path, path=tmp_path / "a.mp4")

    def fails(*_args, **_options):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        animate(rally.world, rally.rollouts, path=tmp_path / "a.gif", slow=0.1)
    assert list(tmp_path.iterdir()) == []


def test_mp4_has_the_frames(rally, tmp_path):
    import imageio_ffmpeg as ffmpeg

    path = animate(rally.world, rally.one(), rally.path, path=tmp_path / "rally.mp4", slow=1)
    frames, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert frames == 21
    assert seconds == pytest.approx(21 / 25, abs=0.01)
