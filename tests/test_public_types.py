"""What type checkers see of the public names is what there is."""

import ast

import mlip
from tests.conftest import REPOSITORY


def test_the_stub_names_what_the_package_has():
    stub = ast.parse((REPOSITORY / "mlip" / "__init__.pyi").read_text(encoding="utf-8"))
    imported = {
        alias.asname: (node.module, alias.name)
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*imported, "__version__"} == set(mlip.__all__)
    assert {name: module for name, (module, _) in imported.items()} == mlip._PUBLIC


def test_the_package_says_that_it_is_typed():
    assert (REPOSITORY / "mlip" / "py.typed").is_file()
