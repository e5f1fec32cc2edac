"""The rules on imports within `shared/` that import-linter has no contract for; new features fall under them."""

from collections.abc import Iterator

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output

DOMAIN = "shared"
KERNEL = "shared.kernel"
STORES = tuple(f"{KERNEL}.{name}" for name in ("db", "cache", "graph", "storage", "signing_iam"))
CLIENTS = ("pg8000", "redis", "neo4j", "google", "sqlalchemy", "httpx")
# Who besides the feature itself may import this module of it.
ALSO = {"store": (), "projection": ("functions.background", "infra")}
RULES = {
    "private": "is its feature's own: use its reads or actions",
    "kernel": "is a feature, and the kernel knows none",
    "pure": "talks to a store, and a model is pure",
}


class Features(Contract):
    """A feature's store and projection are its own, its model touches no store, and the kernel knows no feature."""

    type_name = "features"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at every feature that there is."""
        breaches = sorted({breach for feature in _features(graph) for breach in _breaches(graph, feature)})
        return ContractCheck(kept=not breaches, metadata={"breaches": breaches})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say who imports what, and why not."""
        for importer, imported, rule in check.metadata["breaches"]:
            output.print_error(f"{importer} imports {imported}, which {RULES[rule]}")


def _features(graph: ImportGraph) -> set[str]:
    return graph.find_children(DOMAIN) - {KERNEL}


def _breaches(graph: ImportGraph, feature: str) -> Iterator[tuple[str, str, str]]:
    modules = {feature, *graph.find_descendants(feature)}
    for module in modules:
        for importer in graph.find_modules_that_directly_import(module):
            if _within(importer, KERNEL):
                yield importer, module, "kernel"
            also = ALSO.get(module.removeprefix(f"{feature}."))
            if also is not None and not any(_within(importer, place) for place in (feature, *also)):
                yield importer, module, "private"
    model = f"{feature}.model"
    if model in modules:
        for imported in graph.find_modules_directly_imported_by(model):
            if imported in STORES or any(_within(imported, client) for client in CLIENTS):
                yield model, imported, "pure"


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")
