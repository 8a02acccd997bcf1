"""The digits demo: short here; the full comparison is slow."""

import jax
import numpy as np
import pytest

from studies import digits


def test_measures_and_interval():
    confusion = np.zeros((2, 10, 10), int)
    confusion[:, 3, 3] = 6
    confusion[0, 3, 4], confusion[1, 0, 9] = 2, 2
    found = digits.Measures.of(confusion)
    np.testing.assert_allclose(found.accuracy, [0.75, 0.75])
    np.testing.assert_allclose(found.severity, [1, 9])
    mean, half = digits.interval(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose([mean, half], [2, 4.302652729911275 / np.sqrt(3)])


def test_short_run_shows_both_losses(tmp_path, capsys):
    pytest.importorskip("sklearn")
    options = digits.Options(seeds=2, images=60, steps=40, out=tmp_path / "confusion.png")
    with jax.enable_x64(False):
        digits.run(options)
    text = capsys.readouterr().out
    assert all(word in text for word in ("cross-entropy", "infogain", "difference", "±"))
    assert options.out.stat().st_size > 10_000
    with pytest.raises(ValueError, match="seeds: expected at least 2"):
        digits.compare(digits.Options(seeds=1))
    with pytest.raises(ValueError, match="images: expected in"):
        digits.compare(digits.Options(images=1797))


@pytest.mark.slow
def test_mistakes_are_milder_at_equal_accuracy():
    """Fresh seeds, not those the settings were chosen on."""
    with jax.enable_x64(False):
        plain, ours = digits.compare(digits.Options(seed=1000)).values()
    accuracy, around = digits.interval(ours.accuracy - plain.accuracy)
    severity, half = digits.interval(ours.severity - plain.severity)
    assert accuracy + around > -0.005
    assert severity + half < 0
