"""The section of a model card that says what `unfamiliar` was calibrated on and what it is worth."""

from pathlib import Path

from service.inference.cards import ManifestBase
from service.tasks.cards import FamiliarityCard
from service.tasks.familiarity import FamiliarManifest
from training.export.history import P_VALUES
from training.report.history_section import fitted
from training.report.markdown import table, write_section

_HEADING = "## What it does not know"


def write_familiarity(card: Path, manifest: ManifestBase) -> None:
    """Writes the section into a model card, in place of an earlier one, if the version tells."""
    if isinstance(manifest, FamiliarManifest) and manifest.familiarity:
        write_section(card, familiarity_section(manifest, manifest.familiarity))


def familiarity_section(manifest: ManifestBase, card: FamiliarityCard) -> list[str]:
    """The section: the method, what it was calibrated on, and what it is worth."""
    method = f" The method was chosen on {card.method_chosen_on}." if card.method_chosen_on else ""
    used = fitted(manifest, P_VALUES) or "What else these items were used for was not recorded."
    lines = [
        _HEADING,
        "Probabilities and label sets hold for inputs like the training data, and say nothing about others. Every "
        f"answer has a p-value, `unfamiliar`, for that: {card.method}; the p-value is the share of the "
        f"{card.calibrated_on} calibration items that are at least as far, the item itself included. The smallest "
        f"p-value that so many items can produce is {card.smallest:.2g}. {used}{method}",
        "An item that is exchangeable with the calibration items has a p-value of at most alpha with a probability of "
        "at most alpha, as a mean over calibration sets. Items below a level:",
        table(
            ("level", "test items", "calibration items, cross-fitted"),
            [
                (level, f"{share:.1%}", f"{card.cross_fitted_below[level]:.1%}" if card.cross_fitted_below else "–")
                for level, share in card.test_below.items()
            ],
        ),
    ]
    if card.cross_fitted_below:
        lines.append(
            "Where the cross-fitted share is near the level and that of the test items is not, the test split differs "
            "from the validation split."
        )
    if not card.foreign:
        return lines
    return [
        *lines,
        table(
            ("other data", "items", "AUROC", "false alarms at 95 % caught", f"caught below {card.level:g}"),
            [
                (each.data, each.items, f"{each.auroc:.3f}", f"{each.false_alarms:.1%}", f"{each.caught:.1%}")
                for each in card.foreign
            ],
        ),
        "Training saw none of these data. An AUROC of 0.5 is that of a guess, 1 that of a score without mistakes; a "
        "false alarm is a test item that looks as unfamiliar as 95 % of the other data do. The score recognises data "
        "of another kind. It does not recognise what is near the training data: something of an unknown class that has "
        "much in common with a known one, and what is mistaken for another class.",
    ]
