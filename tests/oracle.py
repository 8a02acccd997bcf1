"""An independent event-driven solution of a scene: NumPy and scipy's DOP853, no code of diffsim."""

import numpy as np
from scipy.integrate import solve_ivp

TABLE = {"center": [0, 0, 0.76], "half_extents": [1.37, 0.7625], "u": [1, 0, 0]}


def _turn(axis, angle):
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


class _Surface:
    def __init__(self, data):
        data = {**(TABLE if data["kind"] == "table" else {}), **data}
        self.rows = np.array(data.get("center_polynomial", [data.get("center", [0, 0, 0])]), float)
        self.normal0 = np.array(data.get("normal", [0, 0, 1]), float)
        self.normal0 /= np.linalg.norm(self.normal0)
        self.u0 = np.array(data.get("u", [1, 0, 0]), float)
        self.axis = np.array(data.get("rotation_axis", [0, 0, 1]), float)
        self.axis /= np.linalg.norm(self.axis)
        self.rate = data.get("rotation_rate", 0.0)
        self.half = data.get("half_extents")
        self.radius = data.get("radius")
        self.two_sided = data.get("two_sided", False)
        self.e, self.mu = data["restitution"], data["friction"]
        self.e_slope = data.get("restitution_slope", 0.0)

    def at(self, t):
        c = sum(row * t**k for k, row in enumerate(self.rows))
        dc = sum(k * row * t ** (k - 1) for k, row in enumerate(self.rows) if k)
        turn = _turn(self.axis, self.rate * t)
        return c, turn @ self.normal0, turn @ self.u0, dc + np.zeros(3), self.rate * self.axis

    def gap(self, t, x, r):
        c, n, *_ = self.at(t)
        d = n @ (x - c)
        return (abs(d) if self.two_sided else d) - r

    def contact(self, t, x, r):
        """Normal towards the ball, surface velocity there, and whether it lies on the patch."""
        c, n, u, dc, omega = self.at(t)
        if self.two_sided and n @ (x - c) < 0:
            n = -n
        arm = x - r * n - c
        inside = True
        if self.half is not None:
            u = u - (u @ n) * n
            u /= np.linalg.norm(u)
            inside = abs(arm @ u) <= self.half[0] and abs(arm @ np.cross(n, u)) <= self.half[1]
        if self.radius is not None:
            inside = inside and np.linalg.norm(arm) <= self.radius
        return n, dc + np.cross(omega, arm), inside


def _cross_matrix(a):
    return np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])


def _difference(f, x, h=1e-3):
    """Five-point difference of f at the vector x, column by column."""
    columns = []
    for i in range(len(x)):
        step = h * np.eye(len(x))[i]
        columns.append(
            8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))
        )  # fmt: skip
    return np.stack(columns, axis=1) / (12 * h)


class _Scene:
    def __init__(self, data):
        self.ball, self.data = data["ball"], data
        self.r, self.a = self.ball["radius"], self.ball["inertia_factor"]
        factor = 0.5 * data["air"]["density"] * np.pi * self.r**2 / self.ball["mass"]
        self.kd = factor * self.ball["drag_coefficient"]
        self.km = factor * self.r * self.ball["magnus_coefficient"]
        self.tau = self.ball.get("spin_decay_time", np.inf)
        self.g = np.array(data["gravity"], float)
        self.surfaces = [_Surface(surface) for surface in data["surface"]]

    def rate(self, y):
        v, w = y[3:6], y[6:]
        acceleration = self.g - self.kd * np.linalg.norm(v) * v + self.km * np.cross(w, v)
        return np.concatenate([v, acceleration, -w / self.tau])

    def rate_jacobian(self, y):
        v, w = y[3:6], y[6:]
        speed = np.linalg.norm(v)
        out = np.zeros((9, 9))
        out[:3, 3:6] = np.eye(3)
        out[3:6, 3:6] = -self.kd * (speed * np.eye(3) + np.outer(v, v) / speed)
        out[3:6, 3:6] += self.km * _cross_matrix(w)
        out[3:6, 6:] = -self.km * _cross_matrix(v)
        out[6:, 6:] = -np.eye(3) / self.tau
        return out

    def jump(self, surface, t, y):
        """The state after the impact, or None off the patch."""
        n, surface_velocity, inside = surface.contact(t, y[:3], self.r)
        if not inside:
            return None
        slip = y[3:6] - self.r * np.cross(y[6:], n) - surface_velocity
        approach = slip @ n
        normal_impulse = -(1 + surface.e + surface.e_slope * approach) * approach
        tangential = -(slip - approach * n) / (1 + 1 / self.a)
        size = np.linalg.norm(tangential)
        if size > surface.mu * normal_impulse:
            tangential *= surface.mu * normal_impulse / size
        turn = np.cross(-n, tangential) / (self.a * self.r)
        return np.concatenate([y[:3], y[3:6] + normal_impulse * n + tangential, y[6:] + turn])

    def saltation(self, surface, t, y, after):
        """Derivative of the state just after the impact's nominal time, as in hybrid systems."""
        ty = np.concatenate([[t], y])
        map_ = _difference(lambda z: self.jump(surface, z[0], z[1:]), ty)
        gap = _difference(lambda z: np.array([surface.gap(z[0], z[1:4], self.r)]), ty, 1e-4)[0]
        before_rate, after_rate = self.rate(y), self.rate(after)
        late = after_rate - map_[:, 1:] @ before_rate - map_[:, 0]
        return map_[:, 1:] + np.outer(late, gap[1:]) / (gap[0] + gap[1:] @ before_rate)


def solve(data):
    """Final state (9,), its derivative in the initial state (9, 9), and the impact times.

    Args:
        data: the scene as the dict of its TOML file.
    """
    scene = _Scene(data)
    start = np.concatenate([data["ball"][key] for key in ("position", "velocity", "spin")])
    t, y, jacobian, times = 0.0, start.astype(float), np.eye(9), []
    just_left, bounced = None, False

    def rhs(_, z):
        return np.concatenate(
            [scene.rate(z[:9]), (scene.rate_jacobian(z[:9]) @ z[9:].reshape(9, 9)).ravel()]
        )

    while t < data["duration"]:
        events = []
        for index, surface in enumerate(scene.surfaces):

            def event(s, z, surface=surface, index=index, t=t, left=just_left, up=bounced):
                if index == left and s <= t + 1e-9:
                    return 1e-12 if up else -1e-12
                return surface.gap(s, z[:3], scene.r)

            event.direction, event.terminal = -1, True
            events.append(event)
        solution = solve_ivp(
            rhs, (t, data["duration"]), np.concatenate([y, jacobian.ravel()]), method="DOP853",
            rtol=1e-12, atol=1e-13, max_step=0.005, events=events,
        )  # fmt: skip
        t, end = solution.t[-1], solution.y[:, -1]
        y, jacobian = end[:9].copy(), end[9:].reshape(9, 9)
        if solution.status != 1:
            break
        just_left = next(i for i, found in enumerate(solution.t_events) if len(found))
        surface = scene.surfaces[just_left]
        after = scene.jump(surface, t, y)
        bounced = after is not None
        if bounced:
            jacobian = scene.saltation(surface, t, y, after) @ jacobian
            y = after
            times.append(t)
    return y, jacobian, times
