"""Plausible wrong solutions of lab 03, and what each still earns."""

from grading_cases import Mutant

HEAVY_BALL = """\
    x = np.array(x0, dtype=float)
    m = np.zeros_like(x)
    xs = [x]
    for _ in range(steps):
        m = momentum * m + gradient(x)
        x = x - lr * m
        xs.append(x)
"""

MUTANTS = [
    Mutant(
        "the memory starts one step late: m_0 = 0",
        cell="heavy-ball",
        old="        m = momentum * m + gradient(x)\n        x = x - lr * m\n",
        new="        x = x - lr * m\n        m = momentum * m + gradient(x)\n",
        exercise="test-heavy-ball",
        score=0.0,
    ),
    Mutant(
        "an average in place of a sum",
        cell="heavy-ball",
        old="m = momentum * m + gradient(x)",
        new="m = momentum * m + (1 - momentum) * gradient(x)",
        exercise="test-heavy-ball",
        score=1.0,
    ),
    Mutant(
        "one array, changed in place, in every row",
        cell="heavy-ball",
        old=HEAVY_BALL,
        new=HEAVY_BALL.replace("np.array(x0, dtype=float)", "x0").replace("x = x - lr * m", "x -= lr * m"),
        exercise="test-heavy-ball",
        score=0.0,
    ),
    Mutant(
        "no look-ahead: the heavy ball",
        cell="nesterov",
        old="p = p - lr * (g + momentum * b)",
        new="p = p - lr * b",
        exercise="test-nesterov",
        score=1.0,
    ),
    Mutant(
        "x recovered with the wrong sign",
        cell="nesterov",
        old="xs.append(p + lr * momentum * b)",
        new="xs.append(p - lr * momentum * b)",
        exercise="test-nesterov",
        score=3.0,
    ),
    Mutant(
        "complex roots ignored",
        cell="largest-root",
        old="np.sqrt(np.asarray(b * b - 4 * c, dtype=complex))",
        new="np.sqrt(np.maximum(b * b - 4 * c, 0))",
        exercise="test-largest-root",
        score=1.0,
    ),
    Mutant(
        "Nesterov's product of the roots taken as β",
        cell="largest-root",
        old="b, c = (1 + momentum) * rest, momentum * rest",
        new="b, c = (1 + momentum) * rest, momentum",
        exercise="test-largest-root",
        score=3.0,
    ),
    Mutant(
        "only the root with the plus sign",
        cell="largest-root",
        old="np.maximum(abs(b + root), abs(b - root)) / 2",
        new="abs(b + root) / 2",
        exercise="test-largest-root",
        score=0.0,
    ),
    Mutant(
        "Nesterov as stable as the heavy ball",
        cell="stable-lr",
        old="2 * (1 + momentum) / ((1 + 2 * momentum) * L)",
        new="2 * (1 + momentum) / L",
        exercise="test-stable-lr",
        score=1.0,
    ),
    Mutant(
        "1 - β in place of 1 + β",
        cell="stable-lr",
        old="    return 2 * (1 + momentum) / L",
        new="    return 2 * (1 - momentum) / L",
        exercise="test-stable-lr",
        score=2.0,
    ),
    Mutant(
        "momentum is ρ, not ρ²",
        cell="polyak",
        old='"momentum": factor**2',
        new='"momentum": factor',
        exercise="test-polyak",
        score=2.0,
    ),
    Mutant(
        "the step size of gradient descent",
        cell="polyak",
        old="4 / (L**0.5 + mu**0.5) ** 2",
        new="2 / (L + mu)",
        exercise="test-polyak",
        score=2.0,
    ),
    Mutant(
        "the factor k of the bound forgotten",
        cell="steps-needed",
        old="while (1 + (1 + rho) * k) * rho**k > goal:",
        new="while rho**k > goal:",
        exercise="test-polyak",
        score=3.0,
    ),
    Mutant(
        "the supposition p, q < 1 and r >= 2 is not checked",
        cell="cycle",
        old="    return [p, q, r] if p < 1 and q < 1 and r >= 2 else None",
        new="    return [p, q, r]",
        exercise="test-cycle",
        score=3.0,
    ),
    Mutant(
        "solved in floating point",
        cell="cycle",
        old="    p, q, r = solve_exactly(matrix, [0, 0, -24 * lr])",
        new="    p, q, r = np.linalg.solve(np.array(matrix, float), np.array([0, 0, -24 * float(lr)]))",
        exercise="test-cycle",
        score=1.0,
    ),
    Mutant(
        "only q and r are on their pieces",
        cell="cycle",
        old="if p < 1 and q < 1 and r >= 2 else",
        new="if q < 1 and r >= 2 else",
        exercise="test-cycle",
        score=3.0,
    ),
    Mutant(
        "the constant 24 with the wrong sign",
        cell="cycle",
        old="-24 * lr",
        new="24 * lr",
        exercise="test-cycle",
        score=0.0,
    ),
    Mutant(
        "only x is compared, not the pair",
        cell="period",
        old="        if (x_old, x) == start:",
        new="        if x == start[1]:",
        exercise="test-period",
        score=2.0,
    ),
    Mutant(
        "stops one step early",
        cell="period",
        old="range(1, longest + 1)",
        new="range(1, longest)",
        exercise="test-period",
        score=2.0,
    ),
]
