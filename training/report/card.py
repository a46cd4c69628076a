"""Renders a model card, `report/README.md`, from the manifest and the record of a version.

A task has a template of its own, `templates/TASK.md.j2`, which extends `base.md.j2`; others get the base.
"""

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from service.inference.cards import ManifestBase, VariantCard
from service.inference.manifest import MODEL
from training.export.history import P_VALUES
from training.report.history import count, fitted, history_of, lasted, numbered
from training.report.record import REPORT, read_record

CARD = f"{REPORT}/README.md"


def render_card(folder: Path, manifest: ManifestBase) -> None:
    """Writes the model card of the version in `folder`."""
    report = folder / REPORT
    report.mkdir(parents=True, exist_ok=True)
    template = _environment().select_template([f"{manifest.task}.md.j2", "base.md.j2"])
    text = template.render(
        manifest=manifest,
        metrics=getattr(manifest, "metrics", None),
        ood=getattr(manifest, "familiarity", None),
        ood_items=fitted(manifest, P_VALUES),
        record=read_record(folder),
        history=history_of(manifest),
        pictures={path.name for path in report.iterdir()},
        reference_size=(folder / MODEL).stat().st_size if (folder / MODEL).is_file() else None,
    )
    (folder / CARD).write_text(re.sub(r"\n{3,}", "\n\n", text).strip() + "\n")


def _environment() -> Environment:
    # Cards are Markdown, not HTML; the service shows HTML in a card as text.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("training.report"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "cell": lambda text: str(text).replace("|", "\\|"),
        "count": count,
        "fixed": lambda value, digits=4: f"{value:.{digits}f}",
        "lasted": lasted,
        "numbered": numbered,
        "percent": lambda value: f"{value:.1%}",
        "short": lambda value: f"{value:.4g}",
    }
    environment.globals["interval"] = _interval
    return environment


def _interval(card: ManifestBase | VariantCard, name: str, digits: int = 4) -> str:
    if name not in card.intervals:
        return ""
    low, high = card.intervals[name]
    return f" (95 % interval {low:.{digits}f} to {high:.{digits}f})"
