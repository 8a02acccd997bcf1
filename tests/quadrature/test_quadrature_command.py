"""The command line: what it prints, and one line and exit code 2 for bad input."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
import script

from diffsim.quadrature import integrate, sphere_grid


@pytest.fixture
def command(tmp_path, capsys):
    """Save named arrays, run the script on them, return its code, output and errors."""

    def run(*arguments, **arrays):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        words = [str(tmp_path / word) if word.endswith(".npy") else word for word in arguments]
        code = script.run("integrate", *words)
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.splitlines()

    return run


def _table(n_theta=33, n_phi=49):
    theta, phi = np.linspace(0, np.pi, n_theta), np.linspace(0, 2 * np.pi, n_phi)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    return np.exp(np.cos(t) + 0.3 * np.sin(t) * np.cos(p)), theta, phi


def test_value_error_rule_and_reason(command):
    samples, theta, phi = _table()
    size = np.hypot(1.0, 0.3)
    exact = 4 * np.pi * np.sinh(size) / size
    code, out, err = command("f.npy", "--closed", "yes", f=samples)
    assert (code, err) == (0, [])
    value, error = map(float, out[0].split(" ± "))
    assert abs(value - exact) <= error < 1e-12
    assert out[1] == "rule: clenshaw-curtis, exact to degree 33, on 33 x 48 samples"
    assert out[2].startswith("why: samples on linspace(0, π)")
    assert out[3:] == ["range: theta 0 to 180 deg"]
    carried = samples * np.sin(theta)[:, None]
    code, out, _ = command(
        "g.npy",
        "--measure",
        "included",
        "--theta",
        "t.npy",
        "--phi",
        "p.npy",
        g=carried,
        t=theta,
        p=phi,
    )
    assert float(out[0].split(" ± ")[0]) == pytest.approx(exact, rel=1e-12)
    assert out[1].startswith("rule: sine-series")


@pytest.mark.parametrize("unit", [1.0, 180 / np.pi])
@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("latitude", [False, True])
def test_angles_of_other_kinds(command, unit, falling, latitude):
    """Degrees, latitudes from pole to pole and a falling θ: the same integral, and it is said."""
    samples, theta, phi = _table()
    reverse = falling != latitude  # rising latitudes are falling colatitudes
    order = slice(None, None, -1 if reverse else 1)
    angles = np.pi / 2 - theta if latitude else theta
    files = {"f": samples[order], "t": unit * angles[order], "p": unit * phi}
    code, out, err = command("f.npy", "--theta", "t.npy", "--phi", "p.npy", **files)
    assert (code, err) == (0, [])
    size = np.hypot(1.0, 0.3)
    value = float(out[0].split(" ± ")[0])
    assert value == pytest.approx(4 * np.pi * np.sinh(size) / size, rel=1e-12)
    for word, known in (("degrees", unit > 1), ("latitude", latitude), ("reversed", reverse)):
        assert any(word in line for line in out[4:]) == known


def test_great_circles_are_refused(command):
    theta = np.linspace(-180, 180, 33)
    arrays = {"f": np.ones((33, 9)), "t": theta, "p": np.linspace(0, 180, 9)}
    code, _, err = command("f.npy", "--theta", "t.npy", "--phi", "p.npy", **arrays)
    assert code == 2
    assert "great circles" in err[0]


def test_quarter_time_steps_and_band(command):
    samples = np.cosh(np.cos(_table()[1]))[:, None] * np.ones(49)
    _, out, _ = command("f.npy", "--equator", "--mirror", f=samples[:17, :25])
    assert float(out[0].split(" ± ")[0]) == pytest.approx(4 * np.pi * np.sinh(1.0), rel=1e-13)
    assert out[1].endswith("on 17 x 25 samples")
    _, out, _ = command("f.npy", "--band", "0", "90", f=np.stack([samples, 2 * samples]))
    for line, factor in zip(out[:2], (1, 2)):
        exact = factor * 2 * np.pi * np.sinh(1.0)
        assert float(line.split(" ± ")[0]) == pytest.approx(exact, rel=1e-12)


def test_disagreement_is_a_warning(command):
    samples, theta, _ = _table()
    code, out, _ = command("f.npy", "--closed", "yes", f=samples * np.sin(theta)[:, None])
    assert code == 0
    assert any(line.startswith("warning: measure and data disagree") for line in out)


def test_mask(command):
    samples = _table()[0]
    samples[4, 7] = np.nan
    code, _, err = command("f.npy", "--closed", "yes", f=samples)
    assert code == 2
    assert err == [
        "error: samples: expected finite numbers, got 1 that are not; give a mask of the good ones"
    ]
    code, out, _ = command(
        "f.npy", "--closed", "yes", "--mask", "m.npy", f=samples, m=np.isfinite(samples)
    )
    assert code == 0
    assert float(out[0].split(" ± ")[0]) == pytest.approx(14.9769571186647, rel=1e-12)


def test_json_says_what_the_lines_say(command):
    samples = _table()[0]
    _, out, _ = command("f.npy", "--closed", "yes", f=samples * np.sin(_table()[1])[:, None])
    _, lines, _ = command("f.npy", "--closed", "yes", "--json")
    (line,) = lines
    told = json.loads(line)
    assert out[0].startswith(f"{told['values'][0]:.15g} ± {told['errors'][0]:.1g}")
    assert told["theta_range_degrees"] == [0, 180]
    assert [f"warning: {text}" for text in told["warnings"]] == out[4:]
    assert told["warnings"]


def test_angles_of_other_kinds_are_taken_and_said(command):
    samples, theta, phi = _table()
    size = np.hypot(1.0, 0.3)
    exact = 4 * np.pi * np.sinh(size) / size
    words = ["f.npy", "--theta", "t.npy", "--phi", "p.npy"]
    degrees = {"t": np.rad2deg(theta), "p": np.rad2deg(phi)}
    latitudes = {"t": np.rad2deg(theta) - 90, "p": np.rad2deg(phi)}
    for arrays, notes in (
        ({"f": samples} | degrees, ["taken as degrees: theta and phi"]),
        (
            {"f": samples[::-1, ::-1], "t": theta[::-1], "p": phi[::-1]},
            ["reversed: rings, as theta falls", "reversed: meridians, as phi falls"],
        ),
        (
            {"f": samples[::-1]} | latitudes,
            [
                "taken as degrees: theta and phi",
                "taken as latitude: theta",
                "reversed: rings, as theta falls",
            ],
        ),
    ):
        code, out, _ = command(*words, **arrays)
        assert code == 0
        assert float(out[0].split(" ± ")[0]) == pytest.approx(exact, rel=1e-12)
        assert out[4:] == notes


def test_a_cap_that_is_left_out_and_decibels_are_said(command):
    samples, theta, phi = _table()
    words = ["f.npy", "--theta", "t.npy", "--phi", "p.npy", "--extent", "0", "175"]
    words = words[:5]
    for peak in (-30, 1):
        decibels = peak + 10 * np.log10(samples / samples.max())
        _, out, _ = command(*words, f=decibels, t=theta, p=phi)
        assert any("if these are decibels" in line for line in out)
    _, out, _ = command(*words, f=samples[:-1], t=theta[:-1], p=phi)
    assert out[3] == "range: theta 0 to 174.375 deg"
    assert any("short of a pole" in line for line in out)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda mask: mask.astype(int), r"int64 \(33, 48\)"),
        (lambda mask: mask.astype(float), r"float64 \(33, 48\)"),
        (np.transpose, r"bool \(48, 33\)"),
        (lambda mask: mask[1:], r"bool \(32, 48\)"),
    ],
)
def test_a_mask_of_another_kind_is_refused(command, change, got):
    samples, theta, phi = _table()
    words = ["f.npy", "--theta", "t.npy", "--phi", "p.npy", "--mask", "m.npy"]
    mask = np.ones((33, 48), bool)
    arrays = {"f": samples[:, :-1], "t": theta, "p": phi[:-1]}
    assert command(*words, **arrays, m=mask)[0] == 0
    code, _, err = command(*words, **arrays, m=change(mask))
    assert (code, len(err)) == (2, 1)
    assert re.search(rf"mask: expected booleans \(33, 48\), got {got}", err[0])


def test_an_integral_beyond_the_type_is_said(command):
    samples, theta, phi = _table()
    words = ["f.npy", "--theta", "t.npy", "--phi", "p.npy"]
    huge = np.finfo(jnp.result_type(float)).max * (samples / samples.max())
    _, out, _ = command(*words, f=huge, t=theta, p=phi)
    assert any("the integral is beyond the range of float" in line for line in out), out


def test_a_grid_by_its_name():
    samples = _table()[0][:, :-1]
    named, made = (
        integrate(samples, grid) for grid in ("clenshaw-curtis", sphere_grid(*samples.shape))
    )
    assert float(named.value) == float(made.value)


def test_values_alone_never_decide_unsaid(command):
    """A last meridian that repeats the first but for noise looks open, and is said to be taken so.

    Longitudes may begin anywhere.
    """
    samples, theta, phi = _table()
    shaken = samples + 0.01 * np.random.default_rng(0).normal(size=samples.shape)
    code, out, _ = command("f.npy", f=shaken)
    assert code == 0
    assert (
        "taken as open: no meridian at 2π (give --closed yes if the last repeats the first)" in out
    )
    _, out, _ = command("f.npy", "--closed", "no")
    assert not any("taken as open" in line for line in out)
    words = ["f.npy", "--theta", "t.npy", "--phi", "p.npy"]
    values = [
        float(command(*words, f=samples, t=theta, p=phi + start)[1][0].split(" ± ")[0])
        for start in (0.0, 0.3, -9.0)
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "arrays", "message"),
    [
        (["none.npy"], {}, "No such file"),
        (["f.npy"], {"f": _table()[0]}, "closed: expected yes if the last meridian is the first"),
        (["f.npy"], {"f": 1e-30 * _table()[0]}, "closed: expected yes if the last meridian is"),
        (
            ["f.npy", "--theta", "t.npy", "--phi", "p.npy"],
            {"f": _table()[0].T, "t": _table()[1], "p": _table()[2]},
            "expected (theta, phi) = (33, 49), got (49, 33): transposed",
        ),
        (
            ["f.npy", "--theta", "t.npy", "--phi", "p.npy"],
            {
                "f": np.ones((37, 19)),
                "t": np.linspace(-180, 180, 37),
                "p": np.linspace(0, 180, 19),
            },
            "got -180 to 180°, great circles",
        ),
        (
            ["f.npy", "--theta", "t.npy", "--phi", "p.npy"],
            {"f": _table()[0], "t": _table()[1], "p": np.rad2deg(_table()[2])},
            "expected both in degrees or both in rad, got one in degrees and theta over 3.14159",
        ),
        (["f.npy"], {"f": np.ones((2, 8))}, "n_theta: expected at least 3 rings, got 2"),
        (["f.npy"], {"f": np.ones(8)}, "samples: expected (rings, meridians), got shape (8,)"),
        (["f.npy", "--grid", "simpson"], {"f": np.ones((9, 8))}, "rule: expected one of"),
        (
            ["f.npy", "--grid", "lebedev"],
            {"f": np.ones(27)},
            "samples: expected shape (38,), got (27,)",
        ),
        (
            ["f.npy", "--theta", "t.npy", "--phi", "p.npy"],
            {"f": np.ones((9, 8)), "t": np.geomspace(0.1, 3, 9), "p": np.linspace(0, 2 * np.pi, 8)},
            "theta: expected linspace",
        ),
        (
            ["f.npy", "--grid", "fejer1", "--theta", "t.npy", "--phi", "p.npy"],
            {
                "f": np.ones((9, 8)),
                "t": np.linspace(0, np.pi, 9),
                "p": np.linspace(0, 2 * np.pi, 9),
            },
            "grid: expected the angles of fejer1, got clenshaw-curtis's",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(command, arguments, arrays, message):
    code, out, err = command(*arguments, **arrays)
    assert (code, out, len(err)) == (2, [], 1)
    assert message in err[0]
