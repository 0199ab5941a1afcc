from __future__ import annotations

import ast

import pytest

from trilho.adopt.dataflow import Effects, Flow, closure, definitions, flow
from trilho.adopt.scopes import root


def of(source: str, functions: dict[str, Effects] | None = None) -> Flow:
    [node] = ast.parse(source).body
    return flow(node, functions)


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@pytest.mark.parametrize(
    ("source", "reads", "writes", "mutates"),
    [
        ("y = f(x)", "f x", "y", ""),
        ("a, (b, *c) = z", "z", "a b c", ""),
        ("x: int = k", "int k", "x", ""),
        ("x: int", "int", "", ""),
        ("x += k", "x k", "x", "x"),
        ("df['a'] = df.b * k", "df k", "", "df"),
        ("df['a'] += 1", "df", "", "df"),
        ("df.loc[m, 'x'] = 0", "df m", "", "df"),
        ("df.columns = cs", "df cs", "", "df"),
        ("d[k][j] = v", "d k j v", "", "d"),
        ("del df['a']", "df", "", "df"),
        ("df.drop('a', axis=1, inplace=True)", "df", "", "df"),
        ("df['a'].fillna(0, inplace=True)", "df", "", "df"),
        ("df.drop('a', inplace=False)", "df", "", ""),
        ("df.fillna(0)", "df", "", ""),
        ("lst.append(x)", "lst x", "", "lst"),
        ("d.setdefault(k, []).append(v)", "d k v", "", "d"),
        ("d.get(k).update(v)", "d k v", "", "d"),
        ("model.fit(X, y)", "model X y", "", "model"),
        ("model.set_params(a=1).fit(X)", "model X", "", "model"),
        ("enc[c].fit(X)", "enc c X", "", "enc"),
        ("m = Pipeline(s).fit(X)", "Pipeline s X", "m", ""),
        ("X = sc.fit_transform(X)", "sc X", "X", "sc"),
        ("y = df.pop('y')", "df", "y", "df"),
        ("random.shuffle(rows)", "random rows", "", "rows"),
        ("np.random.seed(1)", "np", "", "np"),
        ("setattr(m, 'a', 1)", "setattr m", "", "m"),
        ("import a.b, c as d", "", "a d", ""),
        ("from a import b as c, d", "", "c d", ""),
        ("y = [a * k for a in rows if a > t]", "rows k t", "y", ""),
        ("{a: b for a, b in zip(p, q)}", "zip p q", "", ""),
        ("[[b for b in a] for a in z]", "z", "", ""),
        ("ys = [y := i for i in z]", "z", "ys y", ""),
        ("df.apply(lambda r: r.a * K, axis=1)", "df K", "", ""),
        ("sorted(x, key=lambda v, w=D: v)", "sorted x D", "", ""),
        ("print(f'{x:{w}}')", "print x w", "", ""),
        ("for c in cols:\n    t = f(c)\n    use(t, u)", "cols f use u", "c t", ""),
        ("for c in cols:\n    t = c\nelse:\n    t", "cols t", "c t", ""),
        ("for a in z:\n    for b in a:\n        t = b\n    u(t)", "z t u", "a b t", ""),
        ("if a:\n    b = 1\nelse:\n    b = c", "a c", "b", ""),
        ("while t:\n    s += u", "t s u", "s", "s"),
        ("with open(p) as h:\n    d = h.read()", "open p", "h d", ""),
        ("try:\n    import a\nexcept E as e:\n    print(e)\n    a = None", "E print", "a", ""),
        (
            "match v:\n    case {'a': q, **r} if q > k:\n        w = r\n    case [1, *z]:\n        pass",
            "v k",
            "q r w z",
            "",
        ),
        ("@deco\ndef g(a, b: T = D) -> R: return a + K", "deco D", "g", ""),
        ("class A(B):\n    K = Q\n    L = K\n    def f(self): return G", "B Q", "A", ""),
        ("assert x, m", "x m", "", ""),
    ],
)
def test_what_a_statement_reads_binds_and_changes(source: str, reads: str, writes: str, mutates: str) -> None:
    found = of(source)
    assert found.reads == names(reads)
    assert found.writes == names(writes)
    assert found.mutates == names(mutates)


def test_what_a_body_reads_waits_for_its_call() -> None:
    assert of("def f(a):\n    b = a\n    return [q for q in b if q in W] + g(b)").deferred == names("W g")
    assert of("def g(a, b: T = D) -> R: return a + K").deferred == names("T R K")
    assert of("f = lambda x: x * K").deferred == names("K")
    assert of("f = lambda x: x * K").reads == names("")
    assert of("class A:\n    def f(self, x):\n        G.append(Z)").deferred == names("G Z")
    assert of("def f():\n    global M\n    M = 1\n    return M + N").deferred == names("N")


def test_deletion_and_what_cannot_be_told() -> None:
    assert of("del x, df['a']").deletes == names("x")
    assert of("from a import *").open
    assert of("globals()['x'] = 1").open
    assert of("globals().update(d)").open
    assert of("exec(code)").open
    assert not of("df.update(d)").open


SOURCE = """
MEDIANS = {}
def clean(d, k=1):
    d["x"] = SCALE * 2
    for c in COLS:
        if c not in MEDIANS:
            MEDIANS[c] = d[c].median()
    return d
def outer(frame):
    return clean(frame)
def count():
    global N
    N = N + 1
def first():
    return second()
def second():
    return first() or BASE
class Encoder:
    limit = LIMIT
    def __init__(self, d, words=()):
        self.m = d.mean()
        d.pop("a")
    def learn(self, d):
        self.m = d
        return self
    def apply(self, d):
        return d * self.m * SCALE
double = lambda v: v * TWO
"""
CLOSED = closure(definitions(ast.parse(SOURCE).body))


def test_closure_is_transitive() -> None:
    assert set(CLOSED) == {"clean", "outer", "count", "first", "second", "Encoder", "double"}
    assert CLOSED["clean"].reads == names("SCALE COLS MEDIANS")
    assert CLOSED["outer"].reads == names("clean SCALE COLS MEDIANS")
    assert CLOSED["outer"].mutates == names("MEDIANS")
    assert CLOSED["count"] == Effects(names("N"), names("N"), names(""))
    assert CLOSED["first"].reads == names("first second BASE")
    assert CLOSED["double"].reads == names("TWO")


def test_parameters_that_are_changed() -> None:
    assert CLOSED["clean"].parameters == names("d")
    assert CLOSED["outer"].parameters == names("frame")
    assert CLOSED["double"].parameters == names("")


def test_a_class_by_its_methods() -> None:
    encoder = CLOSED["Encoder"]
    assert encoder.reads == names("LIMIT SCALE")
    assert encoder.methods == names("learn")
    assert encoder.order == ("d", "words")
    assert encoder.parameters == names("d")


@pytest.mark.parametrize(
    ("source", "reads", "mutates"),
    [
        ("clean(df)", "clean df SCALE COLS MEDIANS", "df MEDIANS"),
        ("x = outer(frame=df)", "outer df clean SCALE COLS MEDIANS", "df MEDIANS"),
        ("clean(df.copy())", "clean df SCALE COLS MEDIANS", "MEDIANS"),
        ("y = df.apply(clean)", "df clean SCALE COLS MEDIANS", "MEDIANS"),
        ("e.learn(df)", "e df", "e"),
        ("e = Encoder(df)", "Encoder df LIMIT SCALE", "df"),
    ],
)
def test_a_statement_does_what_its_functions_do(source: str, reads: str, mutates: str) -> None:
    found = of(source, CLOSED)
    assert found.reads == names(reads)
    assert found.mutates == names(mutates)


def test_global_of_a_function_is_bound_by_its_call() -> None:
    assert of("count()", CLOSED).writes == names("N")


def test_root() -> None:
    def at(text: str) -> str | None:
        return root(ast.parse(text, mode="eval").body)

    assert at("df.groupby('a')['b'].mean()") == "df"
    assert at("(a + b).c") is None
