"""The model card of an adopted version, `report/README.md`: the facts of its manifest."""

from collections.abc import Sequence
from pathlib import Path

from service.inference.cards import ManifestBase, TensorSpec

CARD = Path("report", "README.md")


def render(manifest: ManifestBase, sections: Sequence[str] = ()) -> str:
    """The card in Markdown; `sections` of a task follow the description."""
    card = manifest.adopted
    if card is None:
        raise ValueError("the version was not adopted")
    opsets = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in card.opsets.items())
    facts = {
        "file": f"`{card.source}`, {card.size:,} bytes",
        "sha256": f"`{card.sha256}`",
        "producer": card.producer or "not stated",
        "opsets": opsets,
        "batches": card.batching,
        "golden items": f"{manifest.golden.rows}, {card.samples}; answers computed on the CPU",
        "largest difference": f"{manifest.golden.atol:g}",
    }
    rows = "\n".join(f"| {name} | {fact} |" for name, fact in facts.items())
    tensors = "\n".join(
        f"| {what} | `{spec.name}` | {spec.dtype} | {_sizes(spec)} |"
        for what, specs in (("input", manifest.inputs), ("output", manifest.outputs))
        for spec in specs
    )
    changes = "\n".join(f"- {change}" for change in card.changes) or "Nothing."
    parts = [
        f"# {manifest.name}",
        f"{manifest.description}.",
        "It was trained elsewhere; nothing is known here of its data.",
        *sections,
        f"## The file\n\n| | |\n|---|---|\n{rows}",
        f"## Tensors\n\n| | name | dtype | shape |\n|---|---|---|---|\n{tensors}",
        f"## What was changed in the graph\n\n{changes}",
        f"## The command\n\n```sh\n{card.command}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _sizes(spec: TensorSpec) -> str:
    return "scalar" if not spec.shape else " x ".join("any" if size < 0 else str(size) for size in spec.shape)
