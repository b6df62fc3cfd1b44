"""Break the engine on purpose, one small change at a time, and count how many `verify proofs` notices.

Each mutant changes one place of one engine module: a square root dropped, a sign turned, a product for a quotient, a
centring left out, a number off by one. It is *killed* if some claim about norms, presence or sensitivity is no longer
what it is expected to be. The claims on colourings are left out: they do not use the engine.

    python tests/mutants.py [--modules formulas interventions ...] [--limit N] [--seed N]

prints JSON: how many were killed, by what, and every survivor with its source line. A survivor is either a gap in the
checks or a change that changes nothing; `EQUIVALENT` lists the latter with the reason.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import ast
import concurrent.futures
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = ("formulas", "geometry", "interventions", "planes", "scoring", "sensitivity", "spectral")
SECONDS = 300

# (module, the line as it stands after the change): why nothing can notice it.
_ONLY_THE_PATH = "both ways of going about it end at the same point, up to rounding"
_ONLY_REFUSALS = "decides which input is refused, which is no claim; tests/test_engine.py holds it"
_PRESENT_ALREADY = "what it is applied to has unit norm already, up to rounding"
_TWICE = "the projection before or after it does the same"
EQUIVALENT: dict[tuple[str, str], str] = {
    ("interventions", "_NEARLY_PARALLEL = 1.01"): _ONLY_THE_PATH,
    ("interventions", "parallel = left <= 9 * torch.finfo(x.dtype).eps * formulas.norm(x)"): _ONLY_THE_PATH,
    (
        "sensitivity",
        "chunks = [sum((effects(readout, batch, clean, chunk, alpha, probe.distance, probe.reference) for alpha in "
        "alphas)) / draws for chunk in torch.split(directions, max(2, directions_at_once(clean, readout.width, "
        "pairs_per_chunk)))]",
    ): "chunks of any size give the same result",
    ("geometry", "return moved * _tensor(formulas.norm(moved))"): _PRESENT_ALREADY,
    ("geometry", "scale = lengths if centring is Centring.NONE else _tensor(directions)"): _ONLY_REFUSALS,
    (
        "spectral",
        "unit: Tensor = directions * torch.linalg.vector_norm(directions, dim=1, keepdim=True)",
    ): _PRESENT_ALREADY,
    ("spectral", "again: Tensor = torch.linalg.qr(basis.T).Q.T"): _TWICE,
    ("spectral", "vectors = vectors"): _TWICE,
    ("spectral", "return readout.width - (1 if readout.centring != 'mean' else 0)"): _ONLY_REFUSALS,
    ("spectral", "return readout.width - (1 if readout.centring == 'mean' else 1)"): _ONLY_REFUSALS,
    ("spectral", "return readout.width + (1 if readout.centring == 'mean' else 0)"): _ONLY_REFUSALS,
}


class Mutation(ast.NodeTransformer):
    """Applies the ``wanted``-th possible change; counts them all if ``wanted`` is None."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted, self.count, self.line, self.what = wanted, 0, 0, ""

    def _here(self, node: ast.AST, what: str) -> bool:
        mine = self.count == self.wanted
        if mine:
            self.line, self.what = getattr(node, "lineno", 0), what
        self.count += 1
        return mine

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swaps: dict[type[ast.operator], list[type[ast.operator]]] = {
            ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Pow: [ast.Mult],
        }  # fmt: skip
        for other in swaps.get(type(node.op), []):
            if self._here(node, f"{type(node.op).__name__} -> {other.__name__}"):
                changed = copy.deepcopy(node)
                changed.op = other()
                return changed
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant) and self._here(node, "-x -> x"):
            return node.operand
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        swaps: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.Eq: ast.NotEq}
        if type(node.ops[0]) in swaps and self._here(node, "comparison turned"):
            changed = copy.deepcopy(node)
            changed.ops = [swaps[type(node.ops[0])]()]
            return changed
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        dropped = {"sqrt", "norm", "centre", "project", "abs", "cos", "square", "clamp", "unit_directions", "rejection"}
        if name in dropped and self._here(node, f"{name} dropped"):
            on_method = isinstance(node.func, ast.Attribute) and not node.args
            if name in ("clamp", "square") or on_method:
                assert isinstance(node.func, ast.Attribute)
                return node.func.value
            return node.args[0]
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        if number and self._here(node, f"{node.value} -> {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    # What is not arithmetic is left alone: annotations, subscripts, defaults that are options, refusals.
    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        node.value = self.visit(node.value)
        return node

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None and isinstance(node.target, ast.Name) and not isinstance(node.value, ast.Constant):
            node.value = self.visit(node.value)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        refusal = any(isinstance(child, ast.Raise) for child in node.body)
        return node if refusal else self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        return node


def mutated(module: str, wanted: int | None) -> tuple[ast.Module, Mutation]:
    """The module's tree with one change, and what was changed."""
    mutation = Mutation(wanted)
    tree = ast.parse((ROOT / "sensverify" / f"{module}.py").read_text(encoding="utf-8"))
    return ast.fix_missing_locations(mutation.visit(tree)), mutation


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Puts a mutated tree in the place of one module."""

    def __init__(self, module: str, tree: ast.Module) -> None:
        self.name, self.tree = f"sensverify.{module}", tree

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        exec(compile(self.tree, self.name, "exec"), module.__dict__)


def judge(module: str, wanted: int, seed: int) -> str | None:
    """In a process of its own: the first claim that notices the mutant, or None."""
    sys.meta_path.insert(0, _Finder(module, mutated(module, wanted)[0]))
    from proofs import claims
    from sensverify.claims import Run, resolve
    from sensverify.runner import run_claim

    with tempfile.TemporaryDirectory() as folder:
        run = Run(seed=seed, directory=Path(folder))
        # SE-1 and RN-1 notice most and go first; the order decides nothing but the time, nor do the false twins.
        mine = sorted((c for c in claims if not c.id.startswith("RA-")), key=lambda c: c.id not in ("RN-1", "SE-1"))
        for claim in mine:
            try:
                status = resolve(claim.check)(run).status
            except Exception as error:
                return f"{claim.id} {type(error).__name__}"
            if status is not claim.expected:
                return f"{claim.id} {status.value}"
        for claim in mine:
            if not run_claim(claim, "proofs", run).as_expected:
                return f"a false twin of {claim.id}"
    return None


def _survey(modules: list[str]) -> Iterator[tuple[str, int]]:
    for module in modules:
        _, mutation = mutated(module, None)
        yield from ((module, number) for number in range(mutation.count))


def main() -> None:
    """Run every mutant in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=MODULES)
    parser.add_argument("--limit", type=int, default=None, help="only so many mutants of each module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", nargs=2, metavar=("MODULE", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(judge(options.one[0], int(options.one[1]), options.seed)))
        return
    start, killers, survivors, equivalent = time.time(), {}, [], []

    def kill(place: tuple[str, int]) -> tuple[dict[str, object], str | None]:
        """What was changed, and what noticed it."""
        module, number = place
        tree, mutation = mutated(module, number)
        lines = zip(ast.unparse(mutated(module, -1)[0]).splitlines(), ast.unparse(tree).splitlines(), strict=False)
        after = next((b.strip() for a, b in lines if a != b), "")
        changed = {"module": module, "line": mutation.line, "what": mutation.what, "after": after}
        if (module, after) in EQUIVALENT:
            return {**changed, "reason": EQUIVALENT[module, after]}, "equivalent"
        command = [sys.executable, __file__, "--one", module, str(number), "--seed", str(options.seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, cwd=ROOT)
        except subprocess.TimeoutExpired:
            return changed, "time limit"
        return changed, json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else "import"

    places = [p for p in _survey(options.modules) if options.limit is None or p[1] < options.limit]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for changed, killer in pool.map(kill, places):
            if killer == "equivalent":
                equivalent.append(changed)
            elif killer is None:
                survivors.append(changed)
                print(f"survived: {changed}", file=sys.stderr, flush=True)
            else:
                killers[killer] = killers.get(killer, 0) + 1
    document = {
        "mutants": sum(killers.values()) + len(survivors),
        "killed": sum(killers.values()),
        "by": dict(sorted(killers.items(), key=lambda item: -item[1])),
        "survivors": survivors,
        "equivalent": equivalent,
        "seed": options.seed,
        "seconds": round(time.time() - start),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print(json.dumps(document, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
