"""Which module of training may import which."""

import ast
from pathlib import Path

import training

ROOT = Path(training.__file__).parent
TASKS = {"classification", "detection", "autoencoder", "text", "tabular"}


def _nodes(tree):
    """All nodes, but not what is imported for annotations alone."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def imports():
    """The imports of each module of training, within training."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
    found = {}
    for module, path in paths.items():
        found[module] = set()
        for node in _nodes(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "training":
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found[module] |= {name for name in (n.removeprefix("training.") for n in names) if name in paths}
    return found


def test_every_task_is_a_package_with_the_same_parts():
    assert {path.parent.name for path in ROOT.glob("*/recipe.py")} == TASKS
    for task in TASKS:
        assert {"network.py", "options.py", "report.py", "recipe.py"} <= {path.name for path in (ROOT / task).iterdir()}


def test_tasks_do_not_import_each_other_and_nothing_imports_a_task():
    for module, imported in imports().items():
        if module == "__main__":  # which chooses between the tasks
            continue
        own = module.split(".")[0]
        others = {name for name in imported if name.split(".")[0] in TASKS - {own}} - {"classification.learner"}
        assert not others, f"{module} imports {', '.join(sorted(others))}"


def test_imports_have_no_cycle():
    graph = imports()
    assert graph["engine.fit"] >= {"engine.learner", "engine.weights"}  # imports are found at all
    while free := {module for module, imported in graph.items() if not imported & graph.keys()}:
        graph = {module: imported for module, imported in graph.items() if module not in free}
    assert not graph, f"a cycle among {', '.join(sorted(graph))}"


def test_unstable_libraries_are_imported_in_one_module():
    for library, owner in (("timm", "backbones/registry.py"), ("datasets.packaged_modules", "data/hub.py")):
        for path in ROOT.rglob("*.py"):
            if path.relative_to(ROOT).as_posix() != owner:
                assert f"from {library}" not in path.read_text(), f"{path.name} imports {library}"
                assert f"import {library}" not in path.read_text(), f"{path.name} imports {library}"
