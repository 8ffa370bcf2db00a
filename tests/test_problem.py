"""Problem files: what is read, what is refused and how, and that bundled reference solutions solve their equations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from opdsl.errors import OpdslError, ProblemError
from opdsl.training import losses
from opdsl.training.formulas import constraint_functions
from opdsl.training.observations import observations, read_columns
from opdsl.training.problem import Problem
from opdsl.training.problem_file import bundled_problems, load_problem, problem_from_text
from opdsl.training.problem_tables import ProblemCondition
from opdsl.training.reference_solutions import cole_hopf, reference_values
from opdsl.training.sampling import Sampler, comparison_points, slice_points, unit_points

BUNDLED = (
    "allen_cahn", "biharmonic_plate", "burgers", "burgers_profile_1", "burgers_profile_2", "burgers_profile_3", "burgers_profile_4",
    "heat1d", "inverse_burgers", "kdv", "poisson10d", "poisson2d",
)  # fmt: skip

HEAT = """
fields = "u"

[coordinates]
t = [0, 1]
x = [0, 2]

[parameters]
nu = 0.1

[equations]
heat = "u_t = nu u_xx"

[conditions]
initial = "u(t=0) = sin(pi x)"
left = "u(x=0) = 0"
ring = { periodic = "x", order = 1 }

[reference]
u = "exp(-pi^2 nu t) sin(pi x)"

[network]
layers = 2
width = 8

[sampling]
interior = 32
boundary = 16

[weights]
initial = 10

[[optimiser]]
name = "adam"
steps = 10
"""


def heat(**changes: str) -> Problem:
    """The heat problem with lines replaced: ``heat(**{"nu = 0.1": "nu = 0.2"})``."""
    text = HEAT
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return problem_from_text(text, "heat")


# ------------------------------------------------------------------------------------------------------ what is read


def test_all_bundled_problems_are_there() -> None:
    assert bundled_problems() == BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_problem_is_complete(name: str) -> None:
    problem = load_problem(name)
    assert problem.title != name
    assert problem.about
    assert problem.reference.active
    assert next(o.name for o in problem.optimisers) == "adam"
    assert set(problem.weights) == set(problem.losses)


def test_a_file_is_read_as_written() -> None:
    problem = heat()
    assert problem.columns == ("t", "x")
    assert problem.box == ((0.0, 1.0), (0.0, 2.0))
    assert problem.losses == ("heat", "initial", "left", "ring")
    assert problem.weights == {"heat": 1.0, "initial": 10.0, "left": 1.0, "ring": 1.0}
    assert problem.conditions[2] == ProblemCondition("ring", periodic="x", order=1)
    assert problem.space == (1,)
    assert problem.constants == {"nu": 0.1}
    assert problem.steps == 10


def test_a_coordinate_vector_becomes_columns() -> None:
    problem = load_problem("poisson10d")
    assert problem.columns == tuple(f"x_{k}" for k in range(10))
    assert problem.box == ((0.0, 1.0),) * 10


def test_a_path_and_a_name_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(load_problem("heat1d").source, "utf-8")
    assert replace(load_problem(path), name="heat1d") == load_problem("heat1d")


def test_observations_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_text("t,x,u\n0.0,0.5,1.0\n0.5,1.0,-2.0\n")
    (tmp_path / "p.toml").write_text(HEAT + '[data]\nfile = "seen.csv"\n')
    problem = load_problem(tmp_path / "p.toml")
    seen = observations(problem, 0)
    assert seen is not None
    np.testing.assert_array_equal(seen[0], [[0.0, 0.5], [0.5, 1.0]])
    np.testing.assert_array_equal(seen[1], [[1.0], [-2.0]])
    assert problem.losses[-1] == "data"


def test_noise_is_relative_and_repeatable() -> None:
    problem = load_problem("inverse_burgers")
    places, values = observations(problem, 0) or (None, None)
    assert places is not None
    assert values is not None
    clean = reference_values(problem, places)
    assert clean is not None
    spread = (values - clean).std() / clean.std()
    assert 0.008 < spread < 0.012
    again = observations(problem, 0)
    assert again is not None
    np.testing.assert_array_equal(values, again[1])


# -------------------------------------------------------------------------------------------------- what is refused

MISTAKES: list[tuple[str, str, str, list[str]]] = [
    ('fields = "u"', "", "fields", ["missing", "a text"]),
    ('fields = "u"', 'fields = ""', "fields", ["at least one unknown"]),
    ('fields = "u"', 'fields = "u[2]"', "fields", ["u[2]", "components"]),
    ('fields = "u"', 'feilds = "u"', "fields", ["missing"]),
    ("t = [0, 1]", "t = [1, 0]", "coordinates.t", ["empty", "write [0, 1]"]),
    ("t = [0, 1]", "t = [0]", "coordinates.t", ["[low, high]"]),
    ("t = [0, 1]", "t = [0, inf]", "coordinates.t", ["[low, high]"]),
    ("t = [0, 1]", 't = ["0", 1]', "coordinates.t", ["two numbers"]),
    ("x = [0, 2]", '"x[d]" = [0, 2]', "coordinates.x[d]", ["needs its length"]),
    ("nu = 0.1", 'nu = "0.1"', "parameters.nu", ["a number"]),
    ("nu = 0.1", "nu = nan", "parameters.nu", ["finite"]),
    ("nu = 0.1", "nu = { start = 1 }", "parameters.nu.initial", ["missing"]),
    ("nu = 0.1", "nu = { initial = -1, positive = true }", "parameters.nu.initial", ["larger than 0"]),
    ("nu = 0.1", "nu = { initial = 1, between = [0, 1] }", "parameters.nu.initial", ["between 0 and 1"]),
    ("nu = 0.1", "nu = { initial = 1, between = [1, 0] }", "parameters.nu.between", ["empty"]),
    ("nu = 0.1", "nu = { initial = 0.5, between = [0, 1], positive = true }", "parameters.nu.initial", ["either positive or between"]),
    ("nu = 0.1", "x = 0.1", "", ["'x'", "coordinate", "parameter"]),
    ('heat = "u_t = nu u_xx"', "", "equations", ["at least one equation"]),
    ('heat = "u_t = nu u_xx"', 'heat = "u_t = nu u_xz"', "equations.heat", ["OpNameError", "u_xz", "^"]),
    ('heat = "u_t = nu u_xx"', 'heat = "u_t = mu u_xx"', "equations.heat", ["mu", "did you mean"]),
    ('heat = "u_t = nu u_xx"', 'heat = "u_t = = u_xx"', "equations.heat", ["OpSyntaxError"]),
    ('heat = "u_t = nu u_xx"', 'heat = "u(t=0) = 1"', "equations.heat", ["move it to [conditions]"]),
    ('heat = "u_t = nu u_xx"', 'heat = "u_t = 0; u_x = 0"', "equations.heat", ["one name"]),
    ('heat = "u_t = nu u_xx"', "heat = 3", "equations.heat", ["a text"]),
    ('left = "u(x=0) = 0"', 'left = "u = 0"', "conditions.left", ["names no place", 'on = "boundary"']),
    ('left = "u(x=0) = 0"', 'left = "u(x=3) = 0"', "conditions.left", ["outside the box [0, 2]"]),
    ('left = "u(x=0) = 0"', 'left = "u(y=0) = 0"', "conditions.left", ["y"]),
    ('left = "u(x=0) = 0"', 'initial_ = { on = "edge", equation = "u = 0" }', "conditions.initial_.on", ["boundary"]),
    (
        'left = "u(x=0) = 0"',
        'left = { on = "boundary", equation = "u(x=0) = 0" }',
        "conditions.left",
        ["already names"],
    ),
    ('left = "u(x=0) = 0"', 'left = { inside = { y = [0, 1] }, equation = "u = 0" }', "conditions.left.inside.y", ["t, x"]),
    ('left = "u(x=0) = 0"', 'left = { inside = { x = [1, 3] }, equation = "u = 0" }', "conditions.left.inside.x", ["no part of the box [0, 2]"]),
    ('left = "u(x=0) = 0"', 'left = { inside = { x = [0, 1] }, equation = "u(t=0) = 0" }', "conditions.left", ["already names"]),
    ('left = "u(x=0) = 0"', 'left = { inside = {}, equation = "u = 0" }', "conditions.left.inside", ["must not be empty"]),
    ('left = "u(x=0) = 0"', 'heat = "u(x=0) = 0"', "conditions", ["'heat' names two losses"]),
    ('periodic = "x"', 'periodic = "z"', "conditions.ring.periodic", ["t, x"]),
    ("order = 1", "ordre = 1", "conditions.ring.ordre", ["did you mean 'order'"]),
    ('u = "exp(-pi^2 nu t) sin(pi x)"', 'u = "exp(-pi^2 mu t)"', "reference.u", ["mu"]),
    ('u = "exp(-pi^2 nu t) sin(pi x)"', "u = \"__import__('os').getcwd()\"", "reference.u", []),
    ('u = "exp(-pi^2 nu t) sin(pi x)"', 'u = "log(x - 5)"', "reference.u", ["not finite"]),
    ('u = "exp(-pi^2 nu t) sin(pi x)"', 'method = "cole-hopf"', "reference.method", ["did you mean 'cole_hopf'"]),
    ('u = "exp(-pi^2 nu t) sin(pi x)"', 'u = "x"\npoints = [3]', "reference.points", ["2 numbers"]),
    ("layers = 2", "layers = 0", "network.layers", ["at least 1"]),
    ("width = 8", "widht = 8", "network.widht", ["did you mean 'width'", "Known keys"]),
    ("width = 8", "width = true", "network.width", ["a whole number"]),
    ("width = 8", 'activation = "tahn"', "network.activation", ["did you mean 'tanh'"]),
    ("width = 8", 'periodic = "y"', "network.periodic", ["no coordinate"]),
    ("width = 8", 'u = { factor = "x +" }', "network.u.factor", ["OpSyntaxError"]),
    ("interior = 32", "interior = 3.5", "sampling.interior", ["a whole number"]),
    ("interior = 32", 'method = "sobel"', "sampling.method", ["did you mean 'sobol'"]),
    ("interior = 32", "adaptive = true", "sampling.adaptive", ["resample"]),
    ("initial = 10", "inital = 10", "weights.inital", ["did you mean 'initial'"]),
    ("initial = 10", "initial = -1", "weights.initial", ["at least 0"]),
    ('name = "adam"', 'name = "adma"', "optimiser[0].name", ["did you mean 'adam'"]),
    ("steps = 10", "steps = 0", "optimiser[0].steps", ["at least 1"]),
    ("[weights]", "[wieghts]", "wieghts", ["did you mean 'weights'"]),
    ("steps = 10", "steps = 10\n[data]\npoints = 5\nfile = 'a.csv'", "data.file", ["not from both"]),
    ("steps = 10", "steps = 10\n[data]\nfile = 'absent.csv'", "data.file", ["no file"]),
    ("steps = 10", "steps = 10\n[training]\ndtype = 'float16'", "training.dtype", ["float32, float64"]),
]


@pytest.mark.parametrize(("old", "new", "key", "words"), MISTAKES, ids=[f"{m[2]}: {m[1][:40]}" for m in MISTAKES])
def test_a_mistake_names_file_key_and_remedy(old: str, new: str, key: str, words: list[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        heat(**{old: new})
    message = str(caught.value)
    assert "heat.toml" in message
    assert f"key '{key}'" in message if key else "key" not in message
    for word in words:
        assert word in message, message


def test_a_missing_file_lists_the_bundled_problems() -> None:
    with pytest.raises(ProblemError, match=r"did you mean 'burgers'\?\nBundled problems: allen_cahn"):
        load_problem("burgesr")


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("fields = u\n")
    with pytest.raises(ProblemError, match=r"bad\.toml: not valid TOML: .*line 1"):
        load_problem(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProblemError, match="UTF-8"):
        load_problem(path)


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_bytes(b"\xef\xbb\xbf u ,x,t\r\n1.0,0.5,0.0\r\n-2.0,1.0,0.5\r\n\r\n")
    seen = read_columns(tmp_path / "seen.csv", ("t", "x", "u"))
    np.testing.assert_array_equal(seen, [[0.0, 0.5, 1.0], [0.5, 1.0, -2.0]])


CSV: list[tuple[bytes, list[str]]] = [
    (b"t,x\n0,0.5\n", ["must name the columns t,x,u", "missing: u"]),
    (b"t,x,u,v\n0,0.5,1,2\n", ["superfluous: v"]),
    (b"t,x,u,u\n0,0.5,1,2\n", ["named twice: u"]),
    (b"0,0.5,1\n", ["found '0,0.5,1'"]),
    (b"t,x,u\n0,0.5,1\n0,0.5,1,7\n", ["line 3: 4 values for 3 columns"]),
    (b"t,x,u\n0,0.5,1,7\n0,0.5,1,7\n", ["line 2: 4 values for 3 columns"]),
    (b"t,x,u\n0,0.5\n", ["line 2: 2 values for 3 columns"]),
    (b"t,x,u\n0,0.5,1\n\n0,half,1\n", ["line 4, column x: 'half' is not a finite number"]),
    (b"t,x,u\n0,0.5,nan\n", ["column u: 'nan'"]),
    (b"t,x,u\n0,0.5,1e999\n", ["column u: '1e999'"]),
    (b"t,x,u\n0,,1\n", ["column x: ''"]),
    (b"t,x,u\n", ["no line of observations"]),
    (b"", ["must name the columns"]),
    (b"\xff\xfet\x00", ["not UTF-8 text"]),
    (b"t,x,u\n0,\xe9,1\n", ["not UTF-8 text"]),
    (b'"t,x,u\n0,0,1\n', ["must name the columns"]),
]


@pytest.mark.parametrize(("content", "words"), CSV, ids=[str(c[:30]) for c, _ in CSV])
def test_observations_that_cannot_be_read(content: bytes, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "seen.csv").write_bytes(content)
    (tmp_path / "p.toml").write_text(HEAT + '[data]\nfile = "seen.csv"\n')
    with pytest.raises(ProblemError) as caught:
        load_problem(tmp_path / "p.toml")
    for word in ["key 'data.file'", "seen.csv", *words]:
        assert word in str(caught.value)


def test_numbers_under_a_derivative_are_constants() -> None:
    """The parameters of a problem are numbers, learned or not: ∂_x(nu u_x) is nu u_xx."""
    problem = problem_from_text(HEAT.replace("nu u_xx", "d_x(nu u_x)"), "heat.toml")
    (first, *_) = losses.terms(problem, "numpy")
    assert first.parameters == ("nu",)
    x = np.array([[0.3, 0.7], [0.1, 1.2]])
    found = first.operator(lambda p: p[:, 1] ** 2, x, nu=0.1)
    np.testing.assert_allclose(found, -0.2 * np.ones(2))


def test_a_learned_parameter_needs_observations() -> None:
    text = HEAT.replace("nu = 0.1", "nu = { initial = 0.1 }").replace('u = "exp(-pi^2 nu t) sin(pi x)"', "")
    with pytest.raises(ProblemError, match="only be learned from observations"):
        problem_from_text(text, "heat")


# ------------------------------------------------------------------------------------------- reference solutions


@pytest.mark.parametrize("name", [n for n in BUNDLED if not n.startswith("burgers")])
def test_reference_solves_equations_and_conditions(name: str) -> None:
    """The exact solution, as a JAX function, makes every loss vanish."""
    jax = pytest.importorskip("jax", reason="derivatives of the reference are JAX's")
    problem = load_problem(name)
    exact = {p.name: replace(p, value=p.value if p.exact is None else p.exact, learn=False) for p in problem.parameters}
    problem = replace(problem, parameters=tuple(exact.values()))
    text = problem.reference.formulas[problem.fields[0]]
    with jax.enable_x64(True):
        network = {problem.fields[0]: ("0", text)}
        inside = constraint_functions(replace(problem, network=replace(problem.network, constraints=network)), "jax")
        u = inside[problem.fields[0]][1]
        found = losses.terms(problem, "jax")
        points = losses.place(problem, found, Sampler(problem, 1).draw(0))
        for term in found:
            x = jax.numpy.asarray(points[term.points[0]][:32])
            given = {key: problem.constants[key] for key in term.parameters}
            for residual in term.arrays(term.operator(u, x, **given)):
                np.testing.assert_allclose(residual, 0.0, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_self_similar_profiles_solve_their_equations(k: int) -> None:
    """By mpmath: the root of X = -U - U^(2k+1), its derivatives of every order that the file asks for, both ends."""
    problem = load_problem(f"burgers_profile_{k}")
    (lam,) = problem.parameters
    assert lam.exact == pytest.approx(1 / (2 * k), rel=1e-14)
    assert lam.between is not None
    assert lam.between == pytest.approx((1 / (2 * k + 1), 1 / (2 * k - 1)))
    x = np.linspace(-2, 2, 41)
    found = reference_values(problem, x[:, None])
    assert found is not None
    np.testing.assert_allclose(-found[:, 0] - found[:, 0] ** (2 * k + 1), x, atol=1e-14)
    assert (found[0, 0], found[-1, 0]) == (1.0, -1.0)
    order, about = 2 * k + 1, 0.3
    assert f"d^{order}/dX^{order}" in problem.conditions[2].equation
    with mpmath.workdps(40):

        def residual(at: Any) -> Any:
            u = mpmath.findroot(lambda v: v + v ** (2 * k + 1) + at, -at / 2)
            slope = -1 / (1 + (2 * k + 1) * u ** (2 * k))
            return -u / (2 * k) + ((1 + mpmath.mpf(1) / (2 * k)) * at + u) * slope

        assert abs(residual(about)) < 1e-30


def test_a_condition_in_a_part_of_the_box_has_its_points_there() -> None:
    problem = heat(**{'left = "u(x=0) = 0"': 'left = { inside = { x = [0.5, 1] }, equation = "u_xx = 0" }'})
    points = Sampler(problem, 0).draw(0)["left"]
    assert points[:, 1].min() >= 0.5
    assert points[:, 1].max() <= 1.0
    assert np.ptp(points[:, 0]) > 0.8
    assert np.ptp(points[:, 1]) > 0.4


def test_cole_hopf_agrees_with_adaptive_quadrature() -> None:
    nu, t, x = 0.05, 0.4, 0.3

    def weight(eta: Any) -> Any:
        return mpmath.exp(-mpmath.cos(mpmath.pi * (x - eta)) / (2 * mpmath.pi * nu) - eta**2 / (4 * nu * t))

    ends = [-3, -1, 0, 1, 3]
    top = mpmath.quad(lambda eta: mpmath.sin(mpmath.pi * (x - eta)) * weight(eta), ends)
    value = float(-top / mpmath.quad(weight, ends))
    assert cole_hopf(np.array([t]), np.array([x]), nu)[0] == pytest.approx(value, rel=1e-12)


def test_cole_hopf_solves_burgers_with_a_steep_front() -> None:
    nu, h = 0.01, 1e-4
    t, x = np.full(41, 0.5), np.linspace(-0.9, 0.9, 41)

    def u(dt: float, dx: float) -> Any:
        return cole_hopf(t + dt, x + dx, nu)

    u_t = (u(h, 0) - u(-h, 0)) / (2 * h)
    u_x = (u(0, h) - u(0, -h)) / (2 * h)
    u_xx = (u(0, h) - 2 * u(0, 0) + u(0, -h)) / h**2
    residual = u_t + u(0, 0) * u_x - nu * u_xx
    assert np.abs(residual).max() < 1e-4 * np.abs(u(0, 0) * u_x).max()
    np.testing.assert_allclose(cole_hopf(np.zeros(41), x, nu), -np.sin(np.pi * x), atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ points


@pytest.mark.parametrize("method", ["sobol", "lhs", "halton", "uniform"])
def test_points_fill_the_cube_and_repeat(method: str) -> None:
    points = unit_points(method, 100, 3, np.random.default_rng(3))
    assert points.shape == (100, 3)
    assert points.min() >= 0
    assert points.max() <= 1
    np.testing.assert_allclose(points.mean(axis=0), 0.5, atol=0.1)
    np.testing.assert_array_equal(points, unit_points(method, 100, 3, np.random.default_rng(3)))


def test_low_discrepancy_methods_beat_random_points() -> None:
    from scipy.stats import qmc

    size = {m: qmc.discrepancy(unit_points(m, 256, 2, np.random.default_rng(0))) for m in ("sobol", "lhs", "halton", "uniform")}
    assert max(size["sobol"], size["halton"], size["lhs"]) < 0.5 * size["uniform"]


def test_every_draw_is_new_and_repeatable() -> None:
    problem = heat()
    first, second = Sampler(problem, 0).draw(0), Sampler(problem, 0).draw(1)
    assert not np.array_equal(first["interior"], second["interior"])
    again = Sampler(problem, 0).draw(1)
    for name, points in second.items():
        np.testing.assert_array_equal(points, again[name])
    assert not np.array_equal(Sampler(problem, 1).draw(0)["interior"], first["interior"])


def test_points_of_conditions_lie_where_the_conditions_hold() -> None:
    problem = heat()
    points = losses.place(problem, losses.terms(problem, None), Sampler(problem, 0).draw(0))
    assert set(points) == {"interior", "initial", "left", "ring", "ring+"}
    assert (points["initial"][:, 0] == 0).all()
    assert np.ptp(points["initial"][:, 1]) > 1
    assert (points["left"][:, 1] == 0).all()
    assert (points["ring"][:, 1] == 0).all()
    assert (points["ring+"][:, 1] == 2).all()
    np.testing.assert_array_equal(points["ring"][:, 0], points["ring+"][:, 0])


@pytest.mark.parametrize("method", ["sobol", "lhs", "halton", "uniform"])
def test_every_part_of_every_face_is_visited(method: str) -> None:
    problem = replace(load_problem("poisson2d"), sampling=replace(load_problem("poisson2d").sampling, method=method))
    points = Sampler(problem, 0).faces("wall", 256, 0)
    for column in range(2):
        for end in (0.0, 1.0):
            along = points[points[:, column] == end][:, 1 - column]
            assert 60 <= len(along) <= 68
            assert (np.histogram(along, bins=4, range=(0, 1))[0] >= 5).all()


def test_adaptive_points_follow_the_residual() -> None:
    problem = replace(heat(), sampling=replace(heat().sampling, interior=256, resample=1, adaptive=True, power=2.0, floor=0.0))
    sampler = Sampler(problem, 0)
    points = sampler.adapt(1, lambda x: np.exp(-50 * (x[:, 1] - 1.5) ** 2))
    assert len(points) == 256
    assert (np.abs(points[:, 1] - 1.5) < 0.3).mean() > 0.8
    np.testing.assert_array_equal(points, sampler.adapt(1, lambda x: np.exp(-50 * (x[:, 1] - 1.5) ** 2)))
    flat = sampler.adapt(1, lambda x: np.zeros(len(x)))
    assert 0.8 < flat[:, 1].mean() < 1.2
    broken = sampler.adapt(1, lambda x: np.full(len(x), np.nan))
    assert np.isfinite(broken).all()


def test_comparison_points() -> None:
    points, shape = comparison_points(load_problem("poisson2d"))
    assert shape == (101, 101)
    assert points.shape == (101 * 101, 2)
    many, shape = comparison_points(load_problem("poisson10d"))
    assert many.shape == (4096, 10)
    assert shape == (4096,)
    plane, shape, held = slice_points(load_problem("poisson10d"))
    assert shape == (81, 81)
    assert held == {f"x_{k}": 0.5 for k in range(2, 10)}
    assert plane.shape == (81 * 81, 10)


def test_errors_are_of_the_family() -> None:
    assert issubclass(ProblemError, OpdslError)
